"""What is known of whether alerts arrive: the last that a sink took, and the last that one did not take."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from hubbackup.jobs.state_file import read_json, write_json
from hubbackup.status.snapshot import AlertFacts

FILE_NAME = "alerts.json"


class Deliveries:
    """Kept beside the history, so that page and command line know of each other's. Where it can't be, nothing is."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, title: str, answers: Mapping[str, str], now: datetime) -> None:
        """One attempt: why each sink did not take it, or an empty string."""
        kept = self._read()
        failed = {label: reason for label, reason in answers.items() if reason}
        if len(failed) < len(answers):
            kept |= {"sent_at": now.astimezone(UTC).isoformat(), "sent": title}
        if failed:
            label, reason = next(iter(failed.items()))
            kept |= {"failed_at": now.astimezone(UTC).isoformat(), "failure": f"{label}: {reason}"}
        with contextlib.suppress(OSError):
            write_json(self._path, kept)

    def facts(self, sinks: tuple[str, ...], *, heartbeat: bool, waiting: int) -> AlertFacts:
        """For the page."""
        kept = self._read()
        return AlertFacts(
            sinks=sinks,
            heartbeat=heartbeat,
            waiting=waiting,
            sent_at=_moment(kept.get("sent_at")),
            sent=str(kept.get("sent", "")),
            failed_at=_moment(kept.get("failed_at")),
            failure=str(kept.get("failure", "")),
        )

    def _read(self) -> dict[str, object]:
        kept = read_json(self._path)
        return kept if isinstance(kept, dict) else {}


def _moment(kept: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(kept)).astimezone(UTC)
    except ValueError:
        return None
