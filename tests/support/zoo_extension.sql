-- The script of an extension with rows and keys of its own: its tables are there after CREATE EXTENSION, and a dump
-- has only the rows that users added.
CREATE TABLE zoo_kinds (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO zoo_kinds VALUES (1, 'mammifère'), (2, 'oiseau');
CREATE TABLE zoo_kind_names (kind int REFERENCES zoo_kinds, language text, name text, PRIMARY KEY (kind, language));
INSERT INTO zoo_kind_names VALUES (1, 'en', 'mammal');
SELECT pg_catalog.pg_extension_config_dump('zoo_kinds', 'WHERE id > 100');
SELECT pg_catalog.pg_extension_config_dump('zoo_kind_names', 'WHERE kind > 100');
CREATE FUNCTION zoo_kind_name(i int) RETURNS text LANGUAGE sql IMMUTABLE
    RETURN (SELECT name FROM @extschema@.zoo_kinds WHERE id = i);
