"""How many rows materialized views hold: pg_dump writes none of them, a restore computes them anew."""

from __future__ import annotations

import json
from collections.abc import Mapping

from hubbackup.dump.identifiers import decoded, literal, raw_json
from hubbackup.postgres.pins import KEEP_PATH, OUR_PATH, OWN_PATH

COUNTED_BYTES = 256 << 20
"""Of a larger one the rows are not counted: that must not cost a backup anything that one would notice."""
COUNTING_SECONDS = 5
_FOUND = "hubbackup.views"
_ANSWER = raw_json(f"current_setting('{_FOUND}')::jsonb")
_BODY = f"""
DECLARE
    view record;
    counted bigint;
    found jsonb := '{{}}';
    started timestamptz := clock_timestamp();
BEGIN
    FOR view IN SELECT format('%I.%I', nspname, relname) AS name, relispopulated, pg_relation_size(c.oid) AS bytes
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'm' ORDER BY bytes
    LOOP
        counted := NULL;
        IF view.relispopulated AND view.bytes <= {COUNTED_BYTES}
            AND clock_timestamp() < started + interval '{COUNTING_SECONDS} s' THEN
            BEGIN
                {OWN_PATH}
                EXECUTE 'SELECT count(*) FROM ' || view.name INTO counted;
                {OUR_PATH}
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
        END IF;
        found := found || jsonb_build_object(view.name, counted);
    END LOOP;
    PERFORM set_config('{_FOUND}', found::text, false);
END
"""
COUNT_SQL = f"{KEEP_PATH}SET lock_timeout = '200ms';\nDO {literal(_BODY)};\nSELECT {_ANSWER};\n"
"""For a session with the database's own settings. Reads what is stored, and runs no code of the database's.
Waits for no lock, such as a REFRESH holds."""


def counts_of(answer: str, encoding: str) -> dict[str, int | None]:
    """Rows by quoted name, out of the answer to `COUNT_SQL`; None: not populated, too large, locked, not readable."""
    return dict(json.loads(decoded(bytes.fromhex(answer), encoding)))


def differences(before: Mapping[str, int | None], after: Mapping[str, int | None]) -> list[str]:
    """A sentence for each view that holds another number of rows than it did, as far as both were counted."""
    return [
        f"the materialized view {name} has {after[name]} rows, at the backup it had {rows}: it was out of date then,"
        " or depends on what is not in the backup"
        for name, rows in before.items()
        if rows is not None and after.get(name) is not None and after[name] != rows
    ]
