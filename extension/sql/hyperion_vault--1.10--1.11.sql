/* SPDX-License-Identifier: GPL-3.0-or-later */
\echo Use "ALTER EXTENSION hyperion_vault UPDATE TO '1.11'" to load this file. \quit

-- Also what CREATE SCHEMA makes in one go, and a view whose rows a column holds.
DROP EVENT TRIGGER hyperion_vault_no_sealed_columns;
CREATE EVENT TRIGGER hyperion_vault_no_sealed_columns ON ddl_command_end
	WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE',
		'CREATE MATERIALIZED VIEW', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE',
		'IMPORT FOREIGN SCHEMA', 'CREATE TYPE', 'ALTER TYPE',
		'CREATE SCHEMA', 'CREATE VIEW', 'ALTER VIEW')
	EXECUTE FUNCTION vault.refuse_sealed_columns();

-- Of whoever owns the rest, not of who updates.
DO $$
DECLARE
	owner regrole := (SELECT extowner::regrole FROM pg_catalog.pg_extension WHERE extname = 'hyperion_vault');
BEGIN
	IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE oid = owner) THEN
		EXECUTE pg_catalog.format('ALTER EVENT TRIGGER hyperion_vault_no_sealed_columns OWNER TO %s', owner);
	END IF;
END $$;
