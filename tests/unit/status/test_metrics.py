"""Metrics: what Prometheus parses, what the documents name, what the rules and the dashboard ask for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.catalog.marks import put_mark
from hubbackup.jobs.kinds import KINDS
from hubbackup.notify.alerts import MARKING_KINDS
from hubbackup.status import metrics
from hubbackup.status.snapshot import Snapshot
from hubbackup.status.verdict import judge
from tests.support.hub_chantier import NOW, Site, a_month

ROOT = Path(__file__).parents[3]
RULES = ROOT / "docker/monitoring/alerts.yml"
RULES_TEST = ROOT / "tests/monitoring/alerts_test.yml"
DASHBOARD = ROOT / "docker/monitoring/grafana-dashboard.json"
DOCUMENT = ROOT / "docs/metrics.md"
LATEST = 1770516000.0
"""2026-02-08 03:00 in Paris."""


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    site = a_month(tmp_path_factory.mktemp("month"))
    site.schema_proofs.passed(site.database, "d1", "x.sql.gz", NOW)
    return site.snapshot()


def text_of(snapshot: Snapshot | None) -> str:
    verdict = judge(snapshot, NOW) if snapshot else None
    return metrics.exposition(snapshot, verdict, healthy=True, now=NOW).decode()


def families(snapshot: Snapshot) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text_of(snapshot))}


def values(family: Metric) -> dict[tuple[str, ...], float]:
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


def test_a_month_in_figures(month: Snapshot) -> None:
    """Every figure of the issue, per database and store."""
    found = families(month)
    local, s3 = ("hub_chantier", "local"), ("hub_chantier", "s3")
    assert values(found["hubbackup_last_success_timestamp_seconds"]) == {local: LATEST, s3: LATEST}
    assert values(found["hubbackup_last_success_plain_bytes"])[local] == month.backups[0].plain_bytes
    assert values(found["hubbackup_last_success_stored_bytes"])[s3] == month.backups[0].stored_bytes
    assert values(found["hubbackup_last_success_duration_seconds"])[s3] == month.backups[0].dump_seconds
    assert values(found["hubbackup_backups"]) == {local: 7, s3: 30}
    assert values(found["hubbackup_oldest_backup_timestamp_seconds"])[s3] == LATEST - 30 * 86400
    assert values(found["hubbackup_next_run_timestamp_seconds"])[("backup",)] == LATEST + 86400
    assert values(found["hubbackup_last_drill_rto_seconds"]) == {(): 43.2}
    assert values(found["hubbackup_last_drill_load_seconds"]) == {(): 31.4}
    assert values(found["hubbackup_last_drill_success"]) == {(): 1}
    assert values(found["hubbackup_store_free_bytes"]) == {("local",): 52_100_000_000}
    assert values(found["hubbackup_verdict"]) == {(): 0}
    assert values(found["hubbackup_runs"]) == {
        (kind, result): 0 for kind in KINDS for result in ("success", "degraded", "failed", "stopped")
    }
    assert values(found["hubbackup_damaged_backups"]) == {local: 0, s3: 0}


def test_runs_are_counted(tmp_path: Path) -> None:
    """Kind and result; a kind that was not foreseen too."""
    site = Site(tmp_path)
    collector = site.collector()
    site.add_failure(NOW)
    site.add_run("check", NOW, 1, 0)
    counted = values(families(collector.take(NOW))["hubbackup_runs"])
    assert counted["backup", "failed"] == counted["check", "success"] == 1
    assert counted["backup", "success"] == 0


JOB_KIND = re.compile(r'^ +kind: ClassVar\[\w+\] = "(\w+)"', re.MULTILINE)


def test_the_first_failure_of_each_kind_is_an_increase(tmp_path: Path) -> None:
    """Whatever a job is, its failures are counted from 0 before the first one."""
    kinds = {kind for path in (ROOT / "hubbackup").rglob("*.py") for kind in JOB_KIND.findall(path.read_text())}
    assert {"backup", "drill", "schema_drill", "verify", "repair", "prune", "restore", "recover", "undo"} < kinds
    site = Site(tmp_path)
    site.add_backup(NOW)
    collector = site.collector()
    before = values(families(collector.take(NOW))["hubbackup_runs"])
    for kind in sorted(kinds):
        assert before[kind, "failed"] == 0
        site.add_run(kind, NOW, 1, 1)
    after = families(collector.take(NOW))
    assert all(values(after["hubbackup_runs"])[kind, "failed"] == 1 for kind in kinds)
    assert {(kind,) for kind in kinds} == set(values(after["hubbackup_last_run_exit_code"]))


def test_a_damaged_copy_shows_as_long_as_it_is_there(tmp_path: Path) -> None:
    """The verification that follows passes over it, and succeeds."""
    site = Site(tmp_path)
    name = BackupName.parse(site.add_backup(NOW))
    assert name is not None
    put_mark(site.local, name, Mark.BAD, why="rotten", now=NOW)
    site.add_run("verify", NOW, 1, 1)
    site.add_run("verify", NOW, 1, 0)
    found = families(site.snapshot())
    assert values(found["hubbackup_damaged_backups"]) == {("hub_chantier", "local"): 1, ("hub_chantier", "s3"): 0}


def test_a_failed_drill_shows_until_that_database_is_drilled_again(tmp_path: Path) -> None:
    """The drill of another database that passes a week later does not hide it."""
    site = Site(tmp_path)
    site.add_run("drill", NOW - timedelta(days=14), 1, 1, database="a")
    site.add_run("drill", NOW - timedelta(days=7), 1, 0, database="b")
    assert values(families(site.collector("a", "b").take(NOW))["hubbackup_last_drill_success"]) == {(): 0}
    site.add_run("drill", NOW, 1, 0, database="a")
    assert values(families(site.collector("a", "b").take(NOW))["hubbackup_last_drill_success"]) == {(): 1}


def test_what_somebody_types_is_no_alert() -> None:
    """A mistyped `pin` fails before somebody's eyes; the rule for failed runs leaves out just these kinds."""
    assert re.findall(r'kind!~"([^"]*)"', RULES.read_text()) == ["|".join(sorted(MARKING_KINDS))]


def test_what_is_not_known_is_not_zero(month: Snapshot) -> None:
    """A store that does not answer has no figures, and no backup at all has no age."""
    local, s3 = month.stores
    found = families(replace(month, stores=(local, replace(s3, problem="gone"))))
    assert values(found["hubbackup_store_up"]) == {("local",): 1, ("s3",): 0}
    assert set(values(found["hubbackup_backups"])) == {("hub_chantier", "local")}
    empty = families(replace(month, backups=(), runs=()))
    assert values(empty["hubbackup_last_success_timestamp_seconds"]) == {}
    assert set(values(empty["hubbackup_backups"]).values()) == {0}


@pytest.mark.parametrize(
    ("name", "shown"),
    [('a"b\\c\nd', r'a"b\c\nd'), ("{x=1}", "{x=1}"), ("\u202e\x1b[2J", r"\u202e\x1b[2J"), ("é", "é")],
)
def test_hostile_names_survive_the_way(tmp_path: Path, name: str, shown: str) -> None:
    """What Prometheus reads is the name, escaped where a terminal or a dashboard would obey it."""
    site = Site(tmp_path, name)
    site.add_backup(NOW)
    found = families(site.snapshot())["hubbackup_backups"]
    assert {sample.labels["database"] for sample in found.samples} == {shown}


def test_the_document_names_every_metric(month: Snapshot) -> None:
    """docs/metrics.md has each metric with its type, labels and help text, and no other."""
    rows = re.findall(r"^\| `(hubbackup_\w+)` \| (\w+) \| (.+?) \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    written = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in rows}
    exposed = {}
    for name, family in families(month).items():
        full_name = f"{name}_total" if family.type == "counter" else name
        labels = tuple(family.samples[0].labels) if family.samples else ()
        exposed[full_name] = (family.type, labels, family.documentation)
    assert written == exposed


def expressions() -> list[str]:
    rules = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return rules + [target["expr"].replace("$instance", ".*") for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_rules_and_panels_ask_for_what_there_is(month: Snapshot, expression: str) -> None:
    """Each metric and label in an expression is exposed, and its brackets close."""
    exposed = {
        f"{name}_total" if family.type == "counter" else name: set(family.samples[0].labels)
        if family.samples
        else set()
        for name, family in families(month).items()
    }
    names = re.findall(r"\b(hubbackup_\w+)\b", expression.replace('job="hubbackup"', ""))
    assert names or "up{" in expression
    for name in names:
        assert name in exposed
    known = set().union(*exposed.values()) | {"instance", "job"}
    assert set(re.findall(r"(\w+)=~?\"", expression)) <= known
    for inner in re.findall(r"(?:by|on) \(([^)]*)\)", expression):
        assert set(inner.split(", ")) <= known
    bare = re.sub(r'"[^"]*"', "", expression)
    for opening, closing in ("()", "{}", "[]"):
        assert bare.count(opening) == bare.count(closing)


def promtool(*arguments: str, text: str = "") -> str:
    """Prometheus's own checker, which .ci/provision installs. Without it the test above is the check."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("PROMTOOL-MISSING: only the own checks of names, labels and brackets ran; see .ci/provision")
    done = subprocess.run([program, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_exposition(month: Snapshot) -> None:
    """Names and help texts follow Prometheus's conventions."""
    promtool("check", "metrics", text=text_of(month))


def test_promtool_accepts_rules_and_plays_them() -> None:
    """The rules are valid, and fire when they should and not before."""
    promtool("check", "rules", str(RULES))
    promtool("test", "rules", str(RULES_TEST))


def test_promtool_accepts_the_dashboards_expressions(tmp_path: Path) -> None:
    """Each panel's expression is PromQL."""
    rules = [{"record": f"panel:{n}", "expr": expression} for n, expression in enumerate(expressions())]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(path))
