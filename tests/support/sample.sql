-- A sample database like Hub Chantier's: the people, sites, time sheets, photos and papers of a construction company.
--
-- Run it with psql 15 or later in an empty database of a server 15 to 18, as a superuser. Variables:
--   megabytes   size of the plain dump to aim at, in 10^6 bytes; a fraction is fine (default 50)
--   seed        another seed gives other rows, the same one always the same (default 0)
--   reader      a role that may read; made if it is missing, unset: no grants (no default)
--   extension   an extension to create, unset: none (no default)
--
-- All rows come from hashes of their number, never from random() or now(). Indexes, foreign keys and triggers come
-- after the rows, for speed; all of it is one transaction.

\set ON_ERROR_STOP on
\if :{?megabytes}
\else
    \set megabytes 50
\endif
\if :{?seed}
\else
    \set seed 0
\endif

SET client_min_messages = warning;
SET client_encoding = 'UTF8';
SET timezone = 'UTC';
SET synchronous_commit = off;
SET maintenance_work_mem = '256MB';

BEGIN;

-- How many rows: the last divisor is what one row takes in a plain dump, and the schema takes 55 kB.
SELECT greatest(1, size * 0.40 / 82)::bigint AS pointages,
       greatest(12, size * 0.30 / 155)::bigint AS journal,
       greatest(4, size * 0.11 / 1390)::bigint AS documents,
       greatest(1, size * 0.15 / 12290)::bigint AS photos,
       greatest(1, size * 0.04 / 4 / 2 / 32)::bigint AS plan_blocks,
       (40 + 4 * sqrt(:megabytes))::bigint AS utilisateurs,
       (12 + 2 * sqrt(:megabytes))::bigint AS chantiers
FROM (SELECT :megabytes * 1e6 - 55e3 AS size) AS aim
\gset

-- One draw out of n, for row i; `salt` keeps the columns of a row apart.
CREATE FUNCTION pg_temp.draw(i bigint, salt int, n int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((hashint8extended(i, salt + 1000 * :seed) & 9223372036854775807) % n)::int;

-- Bytes that do not compress, as in a JPEG.
CREATE FUNCTION pg_temp.noise(i bigint, salt int, blocks bigint) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT string_agg(sha256(int8send(i) || int8send(k) || int4send(salt + 1000 * :seed)), ''::bytea ORDER BY k)
            FROM generate_series(1, blocks) AS k);

CREATE FUNCTION pg_temp.word(i bigint, salt int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (ARRAY['béton', 'coffrage', 'ferraillage', 'échafaudage', 'maçonnerie', 'toiture', 'enduit', 'dalle', 'semelle',
        'terrassement', 'livraison', 'grue', 'étanchéité', 'isolation', 'réception', 'réserve', 'plâtrerie', 'électricité',
        'plomberie', 'carrelage', 'poutre', 'linteau', 'charpente', 'bardage', 'voirie', 'réseau', 'fouille', 'remblai',
        'pluie', 'retard', 'contrôle', 'sécurité', 'nettoyage', 'benne', 'mortier', 'parpaing', 'façade', 'menuiserie',
        'sous-traitant', 'conducteur', 'équipe', 'matin', 'après-midi', 'terminé', 'en cours', 'à reprendre', 'conforme',
        'prévoir', 'commande', 'métré'])[1 + pg_temp.draw(i, salt, 50)];

CREATE FUNCTION pg_temp.moment(i bigint, salt int) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN timestamptz '2025-01-01 05:00:00+00'
        + pg_temp.draw(i, salt, 365) * interval '24 hours' + pg_temp.draw(i, salt + 1, 50400000) * interval '1 millisecond';

---------------------------------------------------------------------------------------------------------------- schema

CREATE SCHEMA "Ressources humaines";
COMMENT ON SCHEMA "Ressources humaines" IS 'Ce que seule la direction lit';

\if :{?extension}
    CREATE EXTENSION :"extension";
\endif

CREATE TYPE statut_chantier AS ENUM ('prévu', 'en cours', 'suspendu', 'réceptionné');
CREATE TYPE adresse AS (rue text, code_postal text, ville text);
CREATE DOMAIN courriel AS text CHECK (VALUE ~ '^[^@ ]+@[^@ ]+$');
COMMENT ON TYPE statut_chantier IS 'Où en est un chantier';

CREATE TABLE utilisateurs (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    nom text NOT NULL,
    prenom text NOT NULL,
    email courriel UNIQUE,
    role text NOT NULL DEFAULT 'compagnon',
    actif boolean NOT NULL DEFAULT true,
    cree_le timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT role_connu CHECK (role IN ('compagnon', 'chef de chantier', 'conducteur', 'direction'))
);
COMMENT ON TABLE utilisateurs IS 'Les comptes de l''application';
COMMENT ON COLUMN utilisateurs.email IS 'Sert d''identifiant; NULL pour les intérimaires';

CREATE SEQUENCE numero_chantier START 1000 INCREMENT 5;
CREATE TABLE chantiers (
    id bigint PRIMARY KEY DEFAULT nextval('numero_chantier'),
    nom text NOT NULL,
    lieu adresse,
    statut statut_chantier NOT NULL DEFAULT 'prévu',
    budget numeric(12, 2),
    etiquettes text[] NOT NULL DEFAULT '{}',
    modifie_le timestamptz
);
ALTER SEQUENCE numero_chantier OWNED BY chantiers.id;

CREATE TABLE affectations (
    utilisateur_id integer NOT NULL,
    chantier_id bigint NOT NULL,
    periode daterange NOT NULL,
    PRIMARY KEY (utilisateur_id, chantier_id)
);

CREATE TABLE pointages (
    id bigint GENERATED BY DEFAULT AS IDENTITY,
    utilisateur_id integer NOT NULL,
    chantier_id bigint NOT NULL,
    jour date NOT NULL,
    debut time NOT NULL,
    fin time NOT NULL,
    pause_heures real NOT NULL DEFAULT 0,
    valide boolean,
    commentaire text,
    duree interval GENERATED ALWAYS AS (fin - debut) STORED
);
COMMENT ON TABLE pointages IS E'Feuilles d''heures\nune ligne par personne et par jour';

CREATE TABLE photos (
    id bigserial PRIMARY KEY,
    chantier_id bigint NOT NULL,
    prise_le timestamptz NOT NULL,
    legende text,
    image bytea NOT NULL
);
ALTER TABLE photos ALTER COLUMN image SET STORAGE EXTERNAL;

CREATE TABLE documents (
    id uuid PRIMARY KEY,
    chantier_id bigint,
    titre text NOT NULL,
    contenu text,
    plan oid
);

CREATE TABLE journal (
    id bigint NOT NULL,
    horodatage timestamptz NOT NULL,
    niveau smallint NOT NULL,
    utilisateur_id integer,
    details jsonb NOT NULL
) PARTITION BY RANGE (horodatage);
SELECT format('CREATE TABLE journal_%s PARTITION OF journal FOR VALUES FROM (%L) TO (%L)',
              to_char(mois, 'YYYY_MM'), mois, mois + interval '1 month')
FROM generate_series(timestamptz '2025-01-01', '2025-12-01', '1 month') AS mois
\gexec
CREATE TABLE journal_reste PARTITION OF journal DEFAULT;

CREATE UNLOGGED TABLE sessions (jeton text PRIMARY KEY, utilisateur_id integer);
CREATE TABLE archives (LIKE chantiers INCLUDING DEFAULTS);

-- Names that have to be quoted, and rows that look like the end of something.
CREATE TABLE "Ressources humaines"."Équipes d'été" (
    "N°" smallint PRIMARY KEY,
    "Prénom & nom" text,
    "taux ""brut""" numeric(6, 2) DEFAULT 11.88
);
CREATE TABLE "select" ("table" integer, "Ordre" text, "back\slash" text);
CREATE TABLE "Textes pièges" (id integer PRIMARY KEY, texte text);

------------------------------------------------------------------------------------------------------------------ rows

INSERT INTO utilisateurs (nom, prenom, email, role, actif, cree_le)
SELECT (ARRAY['Martin', 'Bernard', 'Lefèvre', 'Moreau', 'Girard', 'Da Silva', 'N''Diaye', 'Roux', 'Benoît', 'Garçon']
           )[1 + pg_temp.draw(i, 1, 10)],
       (ARRAY['Léa', 'Chloé', 'Noël', 'François', 'Aïcha', 'Jérôme', 'Inès', 'Théo', 'Zoé', 'Loïc'])[1 + pg_temp.draw(i, 2, 10)],
       CASE WHEN i % 9 <> 0 THEN 'compte' || i || '@hub-chantier.example' END,
       (ARRAY['compagnon', 'compagnon', 'chef de chantier', 'conducteur', 'direction'])[1 + pg_temp.draw(i, 3, 5)],
       pg_temp.draw(i, 4, 12) > 0,
       pg_temp.moment(i, 5)
FROM generate_series(1, :utilisateurs) AS i;

INSERT INTO chantiers (id, nom, lieu, statut, budget, etiquettes)
SELECT nextval('numero_chantier'),
       'Lot ' || pg_temp.word(i, 10) || ' ' || i,
       ROW (pg_temp.draw(i, 11, 90) || ' rue de l''Église, "bât. B"', lpad(pg_temp.draw(i, 12, 96000)::text, 5, '0'), 'Saint-Étienne')::adresse,
       (enum_range(NULL::statut_chantier))[1 + pg_temp.draw(i, 13, 4)],
       CASE WHEN i % 7 <> 0 THEN pg_temp.draw(i, 14, 90000000) / 100.0 END,
       CASE WHEN i % 3 <> 0 THEN ARRAY[pg_temp.word(i, 15), NULL, 'à "suivre", {urgent}'] ELSE '{}' END
FROM generate_series(1, :chantiers) AS i;

INSERT INTO affectations
SELECT DISTINCT ON (utilisateur, chantier) utilisateur, chantier, daterange(debut, CASE WHEN i % 5 <> 0 THEN debut + 90 END)
FROM generate_series(1, 3 * :utilisateurs) AS i,
     LATERAL (SELECT 1 + pg_temp.draw(i, 20, :utilisateurs) AS utilisateur,
                     1000 + 5 * pg_temp.draw(i, 21, :chantiers) AS chantier,
                     date '2025-01-01' + pg_temp.draw(i, 22, 300) AS debut) AS drawn
ORDER BY utilisateur, chantier, i;

INSERT INTO pointages (utilisateur_id, chantier_id, jour, debut, fin, pause_heures, valide, commentaire)
SELECT 1 + pg_temp.draw(i, 30, :utilisateurs),
       1000 + 5 * pg_temp.draw(i, 31, :chantiers),
       date '2019-01-01' + (2500::bigint * i / :pointages)::int,
       time '06:30' + pg_temp.draw(i, 33, 12) * interval '15 minutes',
       time '15:30' + pg_temp.draw(i, 34, 12) * interval '15 minutes',
       pg_temp.draw(i, 35, 5) / 4.0,
       nullif(pg_temp.draw(i, 36, 3), 0) = 1,
       CASE WHEN i % 4 <> 0 THEN pg_temp.word(i, 37) || ', ' || pg_temp.word(i, 38) || ' et ' || pg_temp.word(i, 39)
            || ' (lot ' || pg_temp.draw(i, 40, 5000) || ')' END
FROM generate_series(1, :pointages) AS i;

INSERT INTO photos (chantier_id, prise_le, legende, image)
SELECT 1000 + 5 * pg_temp.draw(i, 50, :chantiers),
       pg_temp.moment(i, 51),
       pg_temp.word(i, 53),
       '\xffd8ffe000104a464946'::bytea || pg_temp.noise(i, 54, 96 + pg_temp.draw(i, 55, 192))
FROM generate_series(1, :photos) AS i;

-- Four plans as large objects; their numbers are given, so that two loads are alike.
SELECT lo_from_bytea((20250000 + i)::oid, pg_temp.noise(i, 60, :plan_blocks)) FROM generate_series(1, 4) AS i \g /dev/null
COMMENT ON LARGE OBJECT 20250001 IS 'Plan de masse';

INSERT INTO documents (id, chantier_id, titre, contenu, plan)
SELECT md5('document ' || i || ' ' || :seed)::uuid,
       CASE WHEN i % 11 <> 0 THEN 1000 + 5 * pg_temp.draw(i, 70, :chantiers) END,
       'Compte rendu n° ' || i,
       (SELECT string_agg(pg_temp.word(1000 * i + k, 71) || CASE k % 12 WHEN 0 THEN E'.\n' ELSE ' ' END, '' ORDER BY k)
        FROM generate_series(1, 80 + pg_temp.draw(i, 72, 120)) AS k),
       CASE WHEN i <= 4 THEN 20250000 + i END
FROM generate_series(1, :documents) AS i;

INSERT INTO journal (id, horodatage, niveau, utilisateur_id, details)
SELECT i,
       -- Some are from before the first month, and go to the default partition.
       pg_temp.moment(i, 80) - CASE WHEN i % 97 = 0 THEN interval '2 years' ELSE interval '0' END,
       pg_temp.draw(i, 82, 5),
       CASE WHEN i % 6 <> 0 THEN 1 + pg_temp.draw(i, 83, :utilisateurs) END,
       jsonb_build_object('action', (ARRAY['connexion', 'lecture', 'modification', 'export', 'suppression'])[1 + pg_temp.draw(i, 84, 5)],
                          'adresse', '10.' || pg_temp.draw(i, 85, 4) || '.' || pg_temp.draw(i, 86, 256) || '.' || pg_temp.draw(i, 87, 256),
                          'duree_ms', pg_temp.draw(i, 88, 4000) / 10.0,
                          'objet', pg_temp.word(i, 89) || ' "' || pg_temp.draw(i, 90, 100000) || '"')
FROM generate_series(1, :journal) AS i;

INSERT INTO sessions SELECT md5('session ' || i), i FROM generate_series(1, 20) AS i;
INSERT INTO "Ressources humaines"."Équipes d'été" VALUES (1, 'Zoé & Loïc', 12.50), (2, E'tab\there', DEFAULT), (-3, NULL, NULL);
INSERT INTO "select" VALUES (1, 'DROP TABLE "select"; --', E'\\'), (1, 'DROP TABLE "select"; --', E'\\'), (NULL, '', NULL);
INSERT INTO "Textes pièges" VALUES
    (1, E'\\.'),
    (2, E'première ligne\n\\.\ndernière ligne'),
    (3, E'--\n-- PostgreSQL database dump complete\n--\n'),
    (4, E'\\unrestrict abc\n\\connect template1\n\\! echo raté'),
    (5, E'COPY public.utilisateurs (id) FROM stdin;\n1\n\\.\n'),
    (6, '\N'), (7, NULL), (8, ''), (9, E'\t\b\f\x0b\r\n\x01\x7f'),
    (10, 'émoji 👷🏽‍♀️, combinant é, عربى'),
    (11, repeat('longue ligne ', 1000));

---------------------------------------------------------------------------------------------- indexes, keys, and code

ALTER TABLE pointages ADD PRIMARY KEY (id),
    ADD FOREIGN KEY (utilisateur_id) REFERENCES utilisateurs,
    ADD FOREIGN KEY (chantier_id) REFERENCES chantiers,
    ADD CONSTRAINT journee CHECK (fin > debut);
CREATE INDEX pointages_par_jour ON pointages (utilisateur_id, jour DESC) INCLUDE (chantier_id);
CREATE INDEX pointages_a_valider ON pointages (jour) WHERE valide IS NULL;
ALTER TABLE affectations
    ADD FOREIGN KEY (utilisateur_id) REFERENCES utilisateurs ON DELETE CASCADE,
    ADD FOREIGN KEY (chantier_id) REFERENCES chantiers ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED;
CREATE INDEX affectations_periode ON affectations USING gist (periode);
ALTER TABLE photos ADD FOREIGN KEY (chantier_id) REFERENCES chantiers;
ALTER TABLE documents ADD FOREIGN KEY (chantier_id) REFERENCES chantiers;
ALTER TABLE journal ADD PRIMARY KEY (horodatage, id);
CREATE INDEX journal_details ON journal USING gin (details jsonb_path_ops);
CREATE INDEX "Index d'expression" ON utilisateurs (lower(nom), (prenom || ' ' || nom));
CREATE STATISTICS pointages_lies (dependencies) ON utilisateur_id, chantier_id FROM pointages;

CREATE FUNCTION marque_modification() RETURNS trigger LANGUAGE plpgsql AS $corps$
BEGIN
    NEW.modifie_le := now();
    RETURN NEW;
END;
$corps$;
COMMENT ON FUNCTION marque_modification() IS 'Tient modifie_le à jour';
CREATE TRIGGER modification BEFORE UPDATE ON chantiers
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION marque_modification();

CREATE FUNCTION heures(p pointages) RETURNS numeric LANGUAGE sql STABLE
    RETURN extract(epoch FROM p.duree) / 3600 - p.pause_heures::numeric;

CREATE VIEW chantiers_ouverts AS
    SELECT id, nom, (lieu).ville, budget FROM chantiers WHERE statut IN ('prévu', 'en cours') WITH LOCAL CHECK OPTION;
CREATE MATERIALIZED VIEW heures_par_mois AS
    SELECT p.chantier_id, date_trunc('month', p.jour::timestamp)::date AS mois, count(*) AS lignes, sum(public.heures(p)) AS heures
    FROM public.pointages AS p GROUP BY 1, 2;
CREATE UNIQUE INDEX heures_par_mois_cle ON heures_par_mois (chantier_id, mois);

ALTER TABLE "Ressources humaines"."Équipes d'été" ENABLE ROW LEVEL SECURITY;
CREATE POLICY lecture ON "Ressources humaines"."Équipes d'été" FOR SELECT USING ("N°" > 0);

-------------------------------------------------------------------------------------- the database itself, and grants

ALTER DATABASE :"DBNAME" SET timezone = 'Europe/Paris';
COMMENT ON DATABASE :"DBNAME" IS 'Hub Chantier, exemple';

\if :{?reader}
    SELECT format('CREATE ROLE %I', :'reader') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'reader')
    \gexec
    GRANT USAGE ON SCHEMA "Ressources humaines" TO :"reader";
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO :"reader";
    GRANT SELECT (nom, prenom), UPDATE (actif) ON utilisateurs TO :"reader";
    REVOKE EXECUTE ON FUNCTION marque_modification() FROM PUBLIC;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO :"reader";
    GRANT TEMPORARY ON DATABASE :"DBNAME" TO :"reader";
\endif

COMMIT;
