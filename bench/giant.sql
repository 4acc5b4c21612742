-- One table that is nearly all of the database, with a primary key and three indexes.
--
-- Variable: megabytes, the size of the plain dump to aim at, in 10^6 bytes.

SET client_min_messages = warning;
SET synchronous_commit = off;
SET timezone = 'UTC';
SET maintenance_work_mem = '256MB';
BEGIN;
CREATE FUNCTION pg_temp.draw(i bigint, salt int, n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (hashint8extended(i, salt) & 9223372036854775807) % n;
CREATE TABLE capteurs (id integer PRIMARY KEY, nom text NOT NULL);
CREATE TABLE mesures (
    id bigint NOT NULL, capteur_id integer NOT NULL, releve_le timestamptz NOT NULL, valeur double precision NOT NULL,
    etat text NOT NULL, jeton text NOT NULL
);
INSERT INTO capteurs SELECT i, 'Capteur ' || i FROM generate_series(1, 500) AS i;
INSERT INTO mesures
    SELECT i, 1 + pg_temp.draw(i, 1, 500), timestamptz '2024-01-01 00:00Z' + i * interval '2 seconds',
           pg_temp.draw(i, 2, 1000000) / 1000.0, (ARRAY['ok', 'ok', 'ok', 'alerte'])[1 + pg_temp.draw(i, 3, 4)], left(md5(i::text), 10)
    FROM generate_series(1, (:megabytes * 1e6 / 56)::bigint) AS i;
ALTER TABLE mesures ADD PRIMARY KEY (id), ADD FOREIGN KEY (capteur_id) REFERENCES capteurs;
CREATE INDEX mesures_par_capteur ON mesures (capteur_id, releve_le);
CREATE INDEX mesures_par_jeton ON mesures (jeton);
CREATE INDEX mesures_par_date ON mesures (releve_le);
COMMIT;
