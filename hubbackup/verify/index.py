"""What makes a backup's index: what the census found, and where the file was cut."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace

from hubbackup.catalog.backup import printable
from hubbackup.catalog.index import PLAIN_DIGEST, DumpIndex
from hubbackup.dump.census import DumpFacts
from hubbackup.streams.codecs import Member

WHOLE_FILE = (Member(0, 0),)
"""Of a file that can be entered at its start alone."""
DIGEST_BYTES = 16


def index_of(facts: DumpFacts, members: Sequence[Member] = WHOLE_FILE, digest_key: bytes | None = None) -> DumpIndex:
    """The index of a dump. With a `digest_key` its digests show nothing to whoever lacks the key.

    A digest of few rows is as good as the rows to someone who can guess them: a sealed backup's are keyed.
    """
    blocks = tuple(
        replace(block, table=printable(block.table), digest=keyed(block.digest, digest_key)) for block in facts.blocks
    )
    return DumpIndex(tuple(members), blocks, facts.data_start, facts.data_end, digest_kind(digest_key))


def digest_kind(digest_key: bytes | None) -> str:
    """The word for digests under this key: those under another one have another word."""
    if digest_key is None:
        return PLAIN_DIGEST
    return f"hmac-{hashlib.sha256(b'hubbackup.digest-kind/1' + digest_key).hexdigest()[:12]}"


def keyed(digest: str, digest_key: bytes | None) -> str:
    """A block's digest as the index holds it."""
    if digest_key is None:
        return digest
    return hmac.new(digest_key, bytes.fromhex(digest), hashlib.sha256).digest()[:DIGEST_BYTES].hex()
