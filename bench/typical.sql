-- What the guide calls a typical database: a construction company's people, sites, time sheets, an audit log with JSON,
-- notifications and documents' metadata. Its plain dump compresses by about 10 with gzip, as the guide says.
--
-- Variable: megabytes, the size of the plain dump to aim at, in 10^6 bytes. Rows come from hashes of their number: the
-- same on every run. Rows lie in the order of time, as an application appends them.

SET client_min_messages = warning;
SET synchronous_commit = off;
SET timezone = 'UTC';
BEGIN;

-- The last divisor is what one row takes in a plain dump.
SELECT greatest(1, :megabytes * 1e6 * 0.24 / 120)::bigint AS pointages,
       greatest(1, :megabytes * 1e6 * 0.48 / 542)::bigint AS journal,
       greatest(1, :megabytes * 1e6 * 0.23 / 305)::bigint AS notifications,
       greatest(1, :megabytes * 1e6 * 0.05 / 185)::bigint AS documents
\gset

CREATE FUNCTION pg_temp.draw(i bigint, salt int, n int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((hashint8extended(i, salt) & 9223372036854775807) % n)::int;

-- Row i of n, over three years: working hours, some seconds apart, to the microsecond.
CREATE FUNCTION pg_temp.moment(i bigint, n bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN timestamptz '2023-01-02 05:00:00+00' + (i * 94608000.0 / n) * interval '1 second'
        + pg_temp.draw(i, 1, 1000000) * interval '1 microsecond';

CREATE TABLE utilisateurs (
    id integer PRIMARY KEY, code text NOT NULL UNIQUE, nom text NOT NULL, prenom text NOT NULL, email text NOT NULL UNIQUE,
    role text NOT NULL, mot_de_passe text NOT NULL, actif boolean NOT NULL, cree_le timestamptz NOT NULL
);
CREATE TABLE chantiers (
    id integer PRIMARY KEY, code text NOT NULL UNIQUE, nom text NOT NULL, adresse text NOT NULL, statut text NOT NULL,
    budget numeric(12, 2), heures_estimees integer, date_debut date, date_fin date
);
CREATE TABLE pointages (
    id bigint NOT NULL, utilisateur_id integer NOT NULL, chantier_id integer NOT NULL, jour date NOT NULL,
    heures_normales interval NOT NULL, heures_sup interval NOT NULL, statut text NOT NULL, commentaire text,
    cree_le timestamptz NOT NULL, valide_le timestamptz, validateur_id integer, motif_rejet text
);
CREATE TABLE journal_audit (
    id bigint NOT NULL, survenu_le timestamptz NOT NULL, auteur_id integer NOT NULL, auteur_nom text NOT NULL,
    requete text NOT NULL, entite text NOT NULL, entite_id bigint NOT NULL, action text NOT NULL, adresse_ip inet, navigateur text,
    avant json, apres json
);
CREATE TABLE notifications (
    id bigint NOT NULL, utilisateur_id integer NOT NULL, type text NOT NULL, titre text NOT NULL, message text NOT NULL,
    lien text, donnees json, lue boolean NOT NULL, cree_le timestamptz NOT NULL
);
CREATE TABLE documents (
    id bigint NOT NULL, chantier_id integer NOT NULL, dossier text NOT NULL, nom text NOT NULL, chemin text NOT NULL,
    type_mime text NOT NULL, taille_octets bigint NOT NULL, depose_par integer NOT NULL, depose_le timestamptz NOT NULL,
    version integer NOT NULL
);

INSERT INTO utilisateurs
    SELECT i, 'COMP' || lpad(i::text, 4, '0'),
           (ARRAY['Martin', 'Bernard', 'Dubois', 'Thomas', 'Robert', 'Richard', 'Petit', 'Durand', 'Leroy', 'Moreau', 'Simon',
               'Laurent', 'Lefebvre', 'Michel', 'Garcia', 'David'])[1 + pg_temp.draw(i, 2, 16)],
           (ARRAY['Jean', 'Pierre', 'Michel', 'André', 'Philippe', 'René', 'Louis', 'Alain', 'Jacques', 'Bernard', 'Marie',
               'Luc'])[1 + pg_temp.draw(i, 3, 12)],
           'compte' || i || '@hub-chantier.example',
           (ARRAY['compagnon', 'compagnon', 'compagnon', 'chef_chantier', 'conducteur', 'admin'])[1 + pg_temp.draw(i, 4, 6)],
           '$2b$12$' || md5(i::text) || substr(md5('x' || i), 1, 21), pg_temp.draw(i, 5, 20) > 0, pg_temp.moment(i, 250)
    FROM generate_series(1, 250) AS i;
INSERT INTO chantiers
    SELECT i, 'A' || lpad(i::text, 3, '0'),
           (ARRAY['Résidence', 'Groupe scolaire', 'Gymnase', 'Extension', 'Réhabilitation', 'Parking', 'Médiathèque',
               'Entrepôt'])[1 + pg_temp.draw(i, 2, 8)] || ' '
               || (ARRAY['des Tilleuls', 'du Parc', 'de la Gare', 'Jean-Moulin', 'des Alpes', 'du Lac'])[1 + pg_temp.draw(i, 3, 6)],
           pg_temp.draw(i, 4, 180) || ' rue de la République, 73000 Chambéry', 'en_cours',
           pg_temp.draw(i, 5, 90000000) / 100.0, 100 * pg_temp.draw(i, 6, 200), date '2023-01-02' + pg_temp.draw(i, 7, 900),
           date '2024-01-02' + pg_temp.draw(i, 7, 900)
    FROM generate_series(1, 90) AS i;
-- A crew's week is entered at once: the same site, the same hours, the same foreman.
INSERT INTO pointages
    SELECT i, 1 + i % 250, 1 + pg_temp.draw(i / 12, 2, 90), pg_temp.moment(i / 40 * 40, :pointages)::date,
           CASE WHEN pg_temp.draw(i, 3, 10) = 0 THEN interval '3 hours 30 minutes' ELSE interval '7 hours' END,
           CASE WHEN pg_temp.draw(i, 4, 8) = 0 THEN interval '1 hour' ELSE interval '0' END,
           CASE WHEN pg_temp.draw(i, 5, 40) = 0 THEN 'rejete' ELSE 'valide' END,
           CASE WHEN pg_temp.draw(i, 6, 12) = 0 THEN (ARRAY['Intempéries, arrêt à midi', 'Livraison béton en retard',
               'Renfort équipe maçonnerie', 'Coffrage dalle niveau 2', 'Nettoyage fin de chantier',
               'Attente grue'])[1 + pg_temp.draw(i, 7, 6)] END,
           pg_temp.moment(i, :pointages), pg_temp.moment(i / 40 * 40, :pointages) + interval '1 day',
           1 + pg_temp.draw(i / 40, 8, 12), NULL
    FROM generate_series(1, :pointages) AS i;
INSERT INTO journal_audit
    SELECT i, pg_temp.moment(i, :journal), auteur, 'Compagnon ' || auteur, left(md5(i::text), 16),
           CASE WHEN kind < 5 THEN 'pointage' WHEN kind < 8 THEN 'affectation' ELSE 'chantier' END,
           i * 3 + pg_temp.draw(i, 5, 3), CASE WHEN kind < 7 THEN 'modification' ELSE 'creation' END,
           ('10.8.' || auteur % 4 || '.' || auteur)::inet,
           (ARRAY['Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36',
               'Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1',
               'Mozilla/5.0 (Linux; Android 14; SM-G556B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Mobile Safari/537.36'
               ])[1 + auteur % 3],
           CASE WHEN kind < 7 THEN format('{"utilisateur_id": %s, "chantier_id": %s, "date": "%s", "heures": {"normales": 7.0, "sup": 0.0}, "statut": "brouillon", "commentaire": null}',
               1 + i % 250, chantier, day)::json END,
           format('{"utilisateur_id": %s, "chantier_id": %s, "date": "%s", "heures": {"normales": %s, "sup": %s}, "statut": "%s", "commentaire": null, "tache": {"code": "T-%s", "libelle": "%s"}}',
               1 + i % 250, chantier, day, (ARRAY['7.0', '7.0', '7.0', '3.5'])[1 + pg_temp.draw(i, 6, 4)],
               pg_temp.draw(i, 7, 3), (ARRAY['soumis', 'valide', 'valide'])[1 + pg_temp.draw(i, 8, 3)], 100 + task,
               (ARRAY['Coffrage voile', 'Ferraillage dalle', 'Coulage béton', 'Maçonnerie élévation', 'Terrassement', 'Étanchéité toiture',
                   'Réseaux enterrés', 'Pose menuiseries'])[1 + task % 8])::json
    FROM generate_series(1, :journal) AS i,
         LATERAL (SELECT 1 + pg_temp.draw(i / 3, 2, 250) AS auteur, pg_temp.draw(i, 3, 10) AS kind,
                         1 + pg_temp.draw(i / 6, 4, 90) AS chantier, pg_temp.draw(i, 9, 40) AS task,
                         pg_temp.moment(i, :journal)::date AS day OFFSET 0) AS drawn;
INSERT INTO notifications
    SELECT i, user_id, (ARRAY['pointage_valide', 'affectation_nouvelle', 'document_ajoute', 'rappel_pointage'])[1 + kind],
           (ARRAY['Pointage validé', 'Nouvelle affectation', 'Document ajouté', 'Pointage à compléter'])[1 + kind],
           CASE kind
               WHEN 0 THEN 'Vos heures de la semaine ' || week || ' ont été validées par votre conducteur de travaux.'
               WHEN 1 THEN 'Vous êtes affecté au chantier A' || lpad(site::text, 3, '0') || ' à partir de la semaine ' || week || '.'
               WHEN 2 THEN 'Un nouveau plan a été déposé sur le chantier A' || lpad(site::text, 3, '0') || '.'
               ELSE 'Votre feuille d''heures de la semaine ' || week || ' est incomplète, merci de la compléter avant vendredi 17 h.'
           END,
           '/chantiers/' || site || '/planning?semaine=' || week,
           format('{"chantier": {"id": %s, "code": "A%s"}, "semaine": %s, "canal": ["application", "courriel"], "priorite": "normale"}',
               site, lpad(site::text, 3, '0'), week)::json,
           pg_temp.draw(i, 5, 10) > 0, pg_temp.moment(i, :notifications)
    FROM generate_series(1, :notifications) AS i,
         LATERAL (SELECT 1 + pg_temp.draw(i, 6, 250) AS user_id, pg_temp.draw(i / 2, 2, 4) AS kind, 1 + pg_temp.draw(i / 4, 3, 90) AS site,
                         1 + (i * 156 / :notifications) % 52 AS week OFFSET 0) AS drawn;
INSERT INTO documents
    SELECT i, 1 + i * 90 / (:documents + 1), folder, 'Plan_' || folder || '_A' || lpad((1 + i * 90 / (:documents + 1))::text, 3, '0') || '_v'
               || pg_temp.draw(i, 3, 9) || '.pdf',
           '/data/documents/chantiers/' || 1 + i * 90 / (:documents + 1) || '/' || folder || '/' || md5(i::text)::uuid || '.pdf',
           'application/pdf', 20000 + pg_temp.draw(i, 4, 8000000), 1 + pg_temp.draw(i / 10, 5, 250), pg_temp.moment(i, :documents),
           pg_temp.draw(i, 3, 9)
    FROM generate_series(1, :documents) AS i,
         LATERAL (SELECT (ARRAY['structure', 'architecte', 'electricite', 'plomberie', 'securite'])[1 + pg_temp.draw(i / 5, 2, 5)]
                  AS folder OFFSET 0) AS drawn;

ALTER TABLE pointages ADD PRIMARY KEY (id);
ALTER TABLE journal_audit ADD PRIMARY KEY (id);
ALTER TABLE notifications ADD PRIMARY KEY (id);
ALTER TABLE documents ADD PRIMARY KEY (id);
CREATE INDEX ON pointages (utilisateur_id, jour);
CREATE INDEX ON journal_audit (entite, entite_id);
COMMIT;
