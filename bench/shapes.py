"""What a database holds: typical rows (gzip makes a tenth of them), hard time sheets (a third), the tests' sample.

For restores: an application's tables with their indexes and foreign keys, and one giant table.
"""

from __future__ import annotations

from pathlib import Path

from tests.support import Psql
from tests.support.sample import load_sample

ROW_BYTES = 101
TYPICAL, TIME_SHEETS, SAMPLE = "typical", "time sheets", "sample"
APPLICATION, GIANT = "application", "giant"
SHAPES = {
    TYPICAL: "hub_chantier",
    TIME_SHEETS: "hub_pointages",
    SAMPLE: "hub_sample",
    APPLICATION: "hub_application",
    GIANT: "hub_giant",
}
"""Each shape's name, and its database's."""

# Little text and many numbers that repeat nothing; rows come from hashes of their number: the same on every run.
TIME_SHEETS_SQL = r"""
SET synchronous_commit = off;
BEGIN;
CREATE TABLE utilisateurs (id integer PRIMARY KEY, nom text NOT NULL, email text NOT NULL);
CREATE TABLE chantiers (id integer PRIMARY KEY, nom text NOT NULL, budget numeric(12, 2));
CREATE TABLE pointages (
    id bigint NOT NULL,
    utilisateur_id integer NOT NULL,
    chantier_id integer NOT NULL,
    debut timestamptz NOT NULL,
    minutes integer NOT NULL,
    commentaire text,
    reference text NOT NULL
);
CREATE FUNCTION pg_temp.draw(i bigint, salt int, n int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((hashint8extended(i, salt) & 9223372036854775807) % n)::int;
CREATE FUNCTION pg_temp.word(i bigint, salt int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['béton', 'coffrage', 'ferraillage', 'échafaudage', 'maçonnerie', 'toiture', 'enduit', 'dalle',
        'terrassement', 'livraison', 'grue', 'isolation', 'réception', 'réserve', 'plomberie', 'carrelage', 'poutre',
        'charpente', 'bardage', 'voirie', 'fouille', 'remblai', 'pluie', 'retard', 'contrôle', 'sécurité', 'benne',
        'mortier', 'façade', 'menuiserie', 'équipe', 'matin'])[1 + pg_temp.draw(i, salt, 32)];
INSERT INTO utilisateurs
    SELECT i, 'Nom ' || i, 'compte' || i || '@hub-chantier.example' FROM generate_series(1, 400) AS i;
INSERT INTO chantiers SELECT i, 'Lot ' || i, pg_temp.draw(i, 1, 90000000) / 100.0 FROM generate_series(1, 60) AS i;
INSERT INTO pointages
    SELECT i, 1 + pg_temp.draw(i, 2, 400), 1 + pg_temp.draw(i, 3, 60),
           timestamptz '2025-01-01 05:00Z' + pg_temp.draw(i, 4, 525600) * interval '1 minute',
           30 + pg_temp.draw(i, 5, 600),
           pg_temp.word(i, 6) || ' ' || pg_temp.word(i, 7) || ', ' || pg_temp.word(i, 8) || ' '
               || pg_temp.draw(i, 9, 1000) || ' ' || pg_temp.word(i, 10) || ' ' || pg_temp.word(i, 11),
           left(md5(i::text), 8)
    FROM generate_series(1, :rows) AS i;
ALTER TABLE pointages ADD PRIMARY KEY (id);
COMMIT;
"""


def load(shape: str, psql: Psql, megabytes: float) -> str:
    """Make the shape's database, so that its plain dump has about `megabytes` * 10^6 bytes; returns its name."""
    database = SHAPES[shape]
    psql(f"CREATE DATABASE {database};")
    if shape == SAMPLE:
        load_sample(psql, database, megabytes)
    elif shape == TIME_SHEETS:
        psql(TIME_SHEETS_SQL, database=database, variables={"rows": str(int(megabytes * 1e6 / ROW_BYTES))})
    else:
        script = Path(__file__).with_name(f"{shape}.sql").read_text(encoding="utf-8")
        psql(script, database=database, variables={"megabytes": str(megabytes)})
    psql("VACUUM ANALYZE;", database=database)  # else the first reader would write hint bits
    psql("CHECKPOINT;", database=database)
    return database
