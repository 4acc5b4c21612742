"""Every row of the dump arrived: what COPY brought, and what is there now, against the census."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hubbackup.dump.identifiers import readable
from hubbackup.errors import NotProvenError
from hubbackup.load.proof import DumpProof
from hubbackup.postgres import materialized_views
from hubbackup.postgres.databases import Databases

OWN_CODE = "the database's own code (an event trigger, say) added them during the load"


def compare(
    databases: Databases,
    database: str,
    proof: DumpProof,
    brought: Sequence[int],
    views: Mapping[str, int | None],
) -> list[str]:
    """Demand that COPY `brought` each table the rows that the dump held, and that they are all there.

    Returns remarks on what the database's own code has added to them, and on materialized `views` that held another
    number of rows at the backup: they were out of date then. Raises NotProvenError.
    """
    facts = proof.facts
    of_blocks = [(block.table, block.rows) for block in facts.blocks]
    expected = of_blocks if len(brought) == len(of_blocks) else list(facts.rows.items())
    if len(brought) == len(expected):  # one number for each COPY, or for each table
        for (table, wanted), taken in zip(expected, brought, strict=True):
            if taken != wanted:
                name = readable(table, proof.encoding)
                raise NotProvenError(f"the server took {taken} rows for {name}, the dump held {wanted}")
    elif sum(brought) != sum(facts.rows.values()):  # of a dump of somebody else's the sum has to do
        raise NotProvenError(f"the server took {sum(brought)} rows, the dump held {sum(facts.rows.values())}")
    counts, large_objects, said = databases.count(
        database,
        facts.rows,
        proof.encoding,
        with_partitions=_partitioned(proof),
        then=materialized_views.COUNT_SQL if views else "",
    )
    remarks = []
    for table, wanted in facts.rows.items():
        found, of_extension = counts[table]
        name = readable(table, proof.encoding)
        if found < wanted:
            raise NotProvenError(f"{name} has {found} rows after the restore, the dump held {wanted}")
        if found > wanted and not of_extension:  # an extension fills its own tables first, the dump adds to them
            remarks.append(f"{name} has {found} rows, {found - wanted} more than the dump held: {OWN_CODE}")
    if large_objects < facts.large_objects:
        raise NotProvenError(
            f"there are {large_objects} large objects after the restore, the dump held {facts.large_objects}"
        )
    if more := large_objects - facts.large_objects:
        remarks.append(f"there are {more} more large objects than the dump held: {OWN_CODE}")
    if views:
        now = materialized_views.counts_of(said, proof.encoding)
        remarks += materialized_views.differences(views, now)
    return remarks


def _partitioned(proof: DumpProof) -> frozenset[str]:
    """The tables whose rows the dump has under the name of the whole: pg_dump does so where the partition that a row
    belongs to can be another one after a restore, as with a hash of an enum."""
    tables = proof.reading.tables if proof.reading is not None else {}
    return frozenset(table for table in proof.facts.rows if table in tables and tables[table].made.partitioned)
