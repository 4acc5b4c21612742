"""What a run keeps of a dump that it has sealed: the schema in clear, for who tries it without a private key."""

from __future__ import annotations

from dataclasses import dataclass

from hubbackup.catalog.backup import Manifest
from hubbackup.dump.census import DumpFacts
from hubbackup.dump.schema_text import SchemaText


@dataclass(frozen=True)
class KeptSchema:
    """The schema of a backup of this run, as it streamed by, and its manifest before that was sealed."""

    manifest: Manifest
    facts: DumpFacts
    text: SchemaText
