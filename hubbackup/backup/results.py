"""The result of a backup: what its manifest tells, and the stores that hold it."""

from __future__ import annotations

from collections.abc import Sequence

from hubbackup.catalog.backup import Manifest
from hubbackup.jobs.results import BackupResult


def result_of(manifest: Manifest, copies: Sequence[str]) -> BackupResult:
    """Of a backup that is in the stores of these names."""
    return BackupResult(
        database=manifest.database,
        name=manifest.name,
        plain_bytes=manifest.plain_bytes,
        stored_bytes=manifest.stored_bytes,
        dump_seconds=manifest.dump_seconds,
        verify_seconds=manifest.verify_seconds,
        plain_bytes_per_second=round(manifest.plain_bytes / max(manifest.dump_seconds, 0.001)),
        copies=tuple(copies),
        rows=sum(manifest.rows.values()),
        tables=manifest.table_count,
    )
