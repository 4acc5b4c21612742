"""The sample database: Hub Chantier's tables and rows, made inside the server by `sample.sql`.

`python -m tests.support.sample --megabytes 500 | psql -d hub_chantier` makes one by hand.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.support import Psql

SCRIPT = Path(__file__).with_suffix(".sql")
READER = "hub_lecture"
SMALL = """
CREATE TABLE chantiers (id int PRIMARY KEY, nom text NOT NULL, note text);
INSERT INTO chantiers SELECT g, 'chantier ' || g, repeat(md5(g::text), 4) FROM generate_series(1, 2000) g;
CREATE TABLE utilisateurs (id int PRIMARY KEY, chantier int REFERENCES chantiers, nom text);
INSERT INTO utilisateurs SELECT g, g, md5(g::text) FROM generate_series(1, 1000) g;
CREATE INDEX ON utilisateurs (nom);
"""
"""Two tables, some 400 kB: enough to be cut anywhere, little enough to be restored a hundred times."""


def load_sample(
    psql: Psql,
    database: str,
    megabytes: float = 50,
    *,
    seed: int = 0,
    reader: str | None = READER,
    extension: str | None = None,
) -> None:
    """Fill an empty database so that its plain dump has `megabytes` * 10^6 bytes, give or take a few percent.

    The same seed gives the same rows on every server from 15 to 18. `reader` is a role that is granted SELECT
    and made where it is missing: a restore on another server needs it there. None leaves grants out.
    """
    variables = {"megabytes": str(megabytes), "seed": str(seed)}
    if reader is not None:
        variables["reader"] = reader
    if extension is not None:
        variables["extension"] = extension
    psql(SCRIPT.read_text(encoding="utf-8"), database=database, variables=variables)


def main() -> None:
    """Print the script, with its variables set at the top, for a psql of one's own."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.sample", description=__doc__)
    parser.add_argument("--megabytes", type=float, default=50, help="size of the plain dump, in 10^6 bytes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", default=READER, help="role that is granted SELECT; empty: no grants")
    parser.add_argument("--extension", default="", help="extension to create, such as pgcrypto or vector")
    options = parser.parse_args()
    for name, value in vars(options).items():
        if value != "":
            quoted = str(value).replace("\\", "\\\\").replace("'", "\\'")
            sys.stdout.write(f"\\set {name} '{quoted}'\n")
    sys.stdout.write(SCRIPT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
