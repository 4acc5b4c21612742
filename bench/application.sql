-- What an application's database looks like to a restore: foreign keys, and indexes on what is searched for. Some 10
-- million rows for a plain dump of 1 GB, 13 indexes and 3 foreign keys. Rows come from hashes of their number: the same
-- on every run.
--
-- Variable: megabytes, the size of the plain dump to aim at, in 10^6 bytes.

SET client_min_messages = warning;
SET synchronous_commit = off;
SET timezone = 'UTC';
SET maintenance_work_mem = '256MB';
BEGIN;

SELECT greatest(1, :megabytes * 3600)::bigint AS pointages,
       greatest(1, :megabytes * 5500)::bigint AS lignes,
       greatest(1, :megabytes * 700)::bigint AS factures,
       greatest(1, :megabytes * 900)::bigint AS journal,
       greatest(1, :megabytes * 40)::bigint AS utilisateurs,
       greatest(1, :megabytes * 10)::bigint AS chantiers
\gset

CREATE FUNCTION pg_temp.draw(i bigint, salt int, n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (hashint8extended(i, salt) & 9223372036854775807) % n;

CREATE TABLE utilisateurs (id bigint NOT NULL, nom text NOT NULL, email text NOT NULL, cree_le timestamptz NOT NULL);
CREATE TABLE chantiers (id bigint NOT NULL, code text NOT NULL, nom text NOT NULL, budget numeric(12, 2));
CREATE TABLE pointages (
    id bigint NOT NULL, utilisateur_id bigint NOT NULL, chantier_id bigint NOT NULL, debut timestamptz NOT NULL,
    minutes integer NOT NULL, statut text NOT NULL, commentaire text, reference text NOT NULL
);
CREATE TABLE factures (
    id bigint NOT NULL, numero text NOT NULL, chantier_id bigint NOT NULL, emise_le date NOT NULL, total numeric(12, 2) NOT NULL
);
CREATE TABLE lignes (
    id bigint NOT NULL, facture_id bigint NOT NULL, article text NOT NULL, quantite integer NOT NULL,
    prix numeric(10, 2) NOT NULL, remise numeric(4, 2), libelle text NOT NULL
);
CREATE TABLE journal (
    id bigint NOT NULL, survenu_le timestamptz NOT NULL, auteur_id bigint NOT NULL, entite text NOT NULL, entite_id bigint NOT NULL,
    navigateur text NOT NULL, apres jsonb NOT NULL
);

INSERT INTO utilisateurs
    SELECT i, 'Nom ' || pg_temp.draw(i, 1, 5000), 'compte' || i || '@hub-chantier.example',
           timestamptz '2023-01-01 00:00Z' + i * interval '1 minute'
    FROM generate_series(1, :utilisateurs) AS i;
INSERT INTO chantiers
    SELECT i, 'A' || lpad(i::text, 6, '0'), 'Chantier ' || pg_temp.draw(i, 1, 900), pg_temp.draw(i, 2, 90000000) / 100.0
    FROM generate_series(1, :chantiers) AS i;
INSERT INTO pointages
    SELECT i, 1 + pg_temp.draw(i, 1, :utilisateurs), 1 + pg_temp.draw(i, 2, :chantiers),
           timestamptz '2023-01-02 05:00Z' + i * interval '20 seconds' + pg_temp.draw(i, 3, 20000) * interval '1 ms',
           30 + pg_temp.draw(i, 4, 600)::int, (ARRAY['valide', 'valide', 'soumis', 'rejete'])[1 + pg_temp.draw(i, 5, 4)],
           CASE WHEN pg_temp.draw(i, 6, 2) = 0 THEN 'Coffrage de la dalle, niveau ' || pg_temp.draw(i, 7, 12) END,
           'pointage/' || left(md5(i::text), 12)
    FROM generate_series(1, :pointages) AS i;
INSERT INTO factures
    SELECT i, 'F' || lpad(i::text, 9, '0'), 1 + pg_temp.draw(i, 1, :chantiers), date '2023-01-02' + (i * 900 / :factures)::int,
           pg_temp.draw(i, 2, 9000000) / 100.0
    FROM generate_series(1, :factures) AS i;
INSERT INTO lignes
    SELECT i, 1 + pg_temp.draw(i, 1, :factures), 'R-' || pg_temp.draw(i, 2, 20000), 1 + pg_temp.draw(i, 3, 90)::int,
           pg_temp.draw(i, 4, 900000) / 100.0, CASE WHEN pg_temp.draw(i, 5, 5) = 0 THEN 5.00 END,
           (ARRAY['Béton prêt à l''emploi', 'Treillis soudé', 'Parpaing creux', 'Bois de coffrage', 'Location grue', 'Main d''œuvre',
               'Isolant laine', 'Enduit de façade'])[1 + pg_temp.draw(i, 6, 8)] || ', livraison ' || pg_temp.draw(i, 7, 40) || ' jours'
    FROM generate_series(1, :lignes) AS i;
INSERT INTO journal
    SELECT i, timestamptz '2023-01-02 05:00Z' + i * interval '80 seconds', 1 + pg_temp.draw(i, 1, :utilisateurs),
           (ARRAY['pointage', 'facture', 'chantier'])[1 + pg_temp.draw(i, 2, 3)], pg_temp.draw(i, 3, 4000000),
           'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/'
               || 100 + pg_temp.draw(i, 7, 30) || '.0.0.0 Safari/537.36',
           jsonb_build_object('statut', 'valide', 'minutes', pg_temp.draw(i, 4, 600), 'par', pg_temp.draw(i, 5, 400),
               'jeton', left(md5(i::text), 12), 'commentaire', NULL, 'canal', 'application')
    FROM generate_series(1, :journal) AS i;

ALTER TABLE utilisateurs ADD PRIMARY KEY (id), ADD UNIQUE (email);
ALTER TABLE chantiers ADD PRIMARY KEY (id), ADD UNIQUE (code);
ALTER TABLE pointages ADD PRIMARY KEY (id);
ALTER TABLE factures ADD PRIMARY KEY (id), ADD UNIQUE (numero);
ALTER TABLE lignes ADD PRIMARY KEY (id);
ALTER TABLE journal ADD PRIMARY KEY (id);
CREATE INDEX pointages_par_compte ON pointages (utilisateur_id, debut);
CREATE INDEX pointages_par_chantier ON pointages (chantier_id);
CREATE INDEX lignes_par_facture ON lignes (facture_id);
CREATE INDEX journal_par_entite ON journal (entite, entite_id);
ALTER TABLE pointages
    ADD FOREIGN KEY (utilisateur_id) REFERENCES utilisateurs, ADD FOREIGN KEY (chantier_id) REFERENCES chantiers;
ALTER TABLE lignes ADD FOREIGN KEY (facture_id) REFERENCES factures;
COMMIT;
