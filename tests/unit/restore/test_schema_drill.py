"""What a backup learns of its schema where no server could be had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from hubbackup.catalog.backup import BackupName
from hubbackup.catalog.schema_proofs import SchemaProofs, SchemaVerdict
from hubbackup.errors import EngineError
from hubbackup.jobs.history import History
from hubbackup.jobs.run import Outcome, Run, guarded
from hubbackup.restore.drill import DrillServer
from hubbackup.restore.schema_drill import SchemaDrill
from hubbackup.streams.cancel import Cancel
from tests.support.hub_chantier import a_manifest
from tests.support.jobs import Doing, done

NOW = datetime(2026, 2, 8, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Unproven:
    """A source as far as it is looked at before there is a server."""

    name = "hub_backup_20260208_030000.sql.gz"


@contextmanager
def no_server(run: Run) -> Iterator[DrillServer]:
    raise EngineError("the engine makes no containers")
    yield


def test_what_waits_for_the_next_try_is_not_proven(tmp_path: Path) -> None:
    """While a try that found no server is not repeated, the schema is untried, for the same reason; once it was shown
    to restore it is proven."""
    moment = [NOW]
    proofs = SchemaProofs(lambda: tmp_path / "schemas.json")
    drill = SchemaDrill("hub", no_server, proofs, [], now=lambda: moment[0])
    name = BackupName.parse(Unproven.name)
    assert name is not None
    manifest = a_manifest(name, NOW, 1, 1, 1.0, schema_digest="d1")
    found: list[SchemaVerdict] = []

    def body(run: Run) -> Outcome[Any]:
        for later in (0, 1, 2):
            moment[0] = NOW + later * HOUR
            found.append(drill.after_backup(run, manifest, lambda run: nullcontext(Unproven())))
        proofs.passed("hub", "d1", Unproven.name, moment[0])
        found.append(drill.after_backup(run, manifest, lambda run: nullcontext(Unproven())))
        return done()

    guarded(
        Doing(body),
        lock=tmp_path / "lock",
        cancel=Cancel(),
        log=structlog.stdlib.get_logger(),
        history=History(tmp_path / "history.jsonl"),
    )
    assert [verdict.state for verdict in found] == ["untried", "untried", "untried", "proven"]
    assert {verdict.why for verdict in found[:3]} == {"the engine makes no containers"}
