"""The preflight: checks that try for real what a backup will need, each failure with its remedy.

A check is a small function of the Site that returns a Diagnosis, or raises a HubbackupError, which is a failure with
that error's sentence and remedy. A check that needs another one which failed is skipped, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hubbackup.errors import HubbackupError
from hubbackup.shown_text import sentence

if TYPE_CHECKING:
    from hubbackup.doctor.site import Site

Status = Literal["ok", "warn", "fail", "skipped"]
BADNESS: tuple[Status, ...] = ("skipped", "ok", "warn", "fail")


@dataclass(frozen=True)
class Diagnosis:
    """What one check found: a sentence, and what to do where it is not `ok`."""

    status: Status
    sentence: str
    remedy: str = ""


@dataclass(frozen=True)
class Finding:
    """A diagnosis under the name of its check."""

    name: str
    status: Status
    sentence: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """`needs` are the names of checks without which this one makes no sense."""

    name: str
    probe: Callable[[Site], Diagnosis]
    needs: tuple[str, ...] = ()


def ok(sentence: str) -> Diagnosis:
    """All is well."""
    return Diagnosis("ok", sentence)


def warn(sentence: str, remedy: str = "") -> Diagnosis:
    """Backups work, and somebody should know this."""
    return Diagnosis("warn", sentence, remedy)


def fail(sentence: str, remedy: str = "") -> Diagnosis:
    """A backup, or what it promises, can't work like this."""
    return Diagnosis("fail", sentence, remedy)


def skip(sentence: str, remedy: str = "") -> Diagnosis:
    """There is nothing to check."""
    return Diagnosis("skipped", sentence, remedy)


def each(probe: Callable[[Site], Diagnosis], *, reachable: bool = True) -> Callable[[Site], Diagnosis]:
    """The probe of every database: one diagnosis, as bad as the worst, that names those which are not well.

    One that fails keeps back no other's probe; `reachable`: one that can't be looked into is passed over, since
    another check says so.
    """

    def probed(site: Site) -> Diagnosis:
        if site.app.chosen.names.only is not None:
            return probe(site)
        found = {one.database: _probed(probe, one) for one in (site.reachable if reachable else site.each)}
        if not found:
            return skip("no database can be looked into")
        worst = max((one.status for one in found.values()), key=BADNESS.index)
        if worst in ("ok", "skipped"):
            return Diagnosis(worst, "; ".join(_each(found, worst, lambda one: one.sentence)))
        bad = {name: one for name, one in found.items() if one.status in ("warn", "fail")}
        ordered = dict(sorted(bad.items(), key=lambda item: -BADNESS.index(item[1].status)))
        return Diagnosis(
            worst,
            "; ".join(f"{name}: {one.sentence}" for name, one in ordered.items()),
            "; ".join(f"{name}: {one.remedy}" for name, one in ordered.items() if one.remedy),
        )

    return probed


def _each(found: dict[str, Diagnosis], status: Status, text: Callable[[Diagnosis], str]) -> list[str]:
    """The texts of those with this status, the equal ones once."""
    names: dict[str, list[str]] = {}
    for name, one in found.items():
        if one.status == status:
            names.setdefault(text(one), []).append(name)
    return [f"{', '.join(mine)}: {said}" for said, mine in names.items()]


def _probed(probe: Callable[[Site], Diagnosis], site: Site) -> Diagnosis:
    try:
        return probe(site)
    except HubbackupError as error:
        site.app.cancel.check()
        return fail(str(error), error.remedy)


def examine(site: Site, checks: Sequence[Check]) -> Iterator[Finding]:
    """Run the checks in order, one finding each. Raises StoppedError once a stop is asked for."""
    failed: dict[str, str] = {}  # of a check that was skipped, the one that really failed
    several = site.app.chosen.names.only is None
    for check in checks:
        site.app.cancel.check()
        missing = [name for name in check.needs if name in failed and not (several and name == "database")]
        if missing:
            failed[check.name] = failed[missing[0]]
            yield Finding(check.name, "skipped", f"not checked, since {failed[check.name]} failed")
            continue
        diagnosis = _diagnose(check, site)
        if diagnosis.status == "fail":
            failed[check.name] = check.name
        yield Finding(check.name, diagnosis.status, sentence(diagnosis.sentence), sentence(diagnosis.remedy))


def _diagnose(check: Check, site: Site) -> Diagnosis:
    try:
        return check.probe(site)
    except HubbackupError as error:
        site.app.cancel.check()
        return fail(str(error), error.remedy)
    except Exception as error:  # noqa: BLE001 - a fault of one check must not hide what the others find
        return fail(f"the check itself broke: {type(error).__name__}: {error}", "report this to hubbackup's authors")


def all_checks(site: Site) -> list[Check]:
    """Every check that makes sense for these settings, in the order of dependence."""
    from hubbackup.doctor import bucket, database, drills, encryption, hooks, service, storage, whose

    return [
        *service.CHECKS,
        *database.checks(site),
        *hooks.CHECKS,
        *drills.CHECKS,
        *storage.CHECKS,
        *whose.CHECKS,
        *bucket.checks(site),
        *encryption.CHECKS,
    ]
