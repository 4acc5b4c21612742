"""The record of past runs: one JSON object a line, in a file beside the backups, bounded in length."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

KEEP_LINES = 1000
TRIM_BYTES = 1 << 20
REQUIRED = {"kind", "run_id", "started_at", "seconds", "exit_code"}


class History:
    """Appends runs and reads them back. A history that can't be written never fails a run."""

    def __init__(self, path: Path, *, keep_lines: int = KEEP_LINES, trim_bytes: int = TRIM_BYTES) -> None:
        self._path = path
        self._keep_lines = keep_lines
        self._trim_bytes = trim_bytes

    def add(
        self, kind: str, run_id: str, started_at: datetime, seconds: float, exit_code: int, facts: dict[str, Any]
    ) -> None:
        """Append one run."""
        record = {
            "kind": kind,
            "run_id": run_id,
            "started_at": started_at.isoformat(),
            "seconds": seconds,
            "exit_code": exit_code,
            **facts,
        }
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            with self._path.open("ab+") as stream:
                if stream.tell() > 0:
                    stream.seek(-1, os.SEEK_END)
                    torn = stream.read(1) != b"\n"  # by a crash or a full disk: only that line is lost, not this one
                else:
                    torn = False
                line = json.dumps(record, default=str) + "\n"
                stream.write((b"\n" if torn else b"") + line.encode())
            if self._path.stat().st_size > self._trim_bytes:
                self._trim()
        except OSError:
            return

    def stamp(self) -> tuple[int, int]:
        """Another value after each run that was added; cheap to ask for."""
        try:
            figures = self._path.stat()
        except OSError:
            return (0, 0)
        return (figures.st_mtime_ns, figures.st_size)

    def runs(self) -> Iterator[dict[str, Any]]:
        """The recorded runs, oldest first; a line cut by a crash is passed over."""
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and record.keys() >= REQUIRED:
                yield record

    def last(self, kind: str) -> dict[str, Any] | None:
        """The newest run of one kind, or None."""
        newest = None
        for record in self.runs():
            if record.get("kind") == kind:
                newest = record
        return newest

    def _trim(self) -> None:
        kept = [json.dumps(record) for record in self.runs()][-self._keep_lines :]
        fresh = self._path.with_suffix(".new")
        fresh.write_text("\n".join(kept) + "\n", encoding="utf-8")
        fresh.replace(self._path)
