/* SPDX-License-Identifier: GPL-3.0-or-later */
\echo Use "ALTER EXTENSION hyperion_vault UPDATE TO '1.9'" to load this file. \quit

-- How the vault is, for who watches the server. Not as the extension's own privilege:
-- those of the service roles on this function would become that with it, and a dump
-- would leave them out.
CREATE FUNCTION vault.run_outside_script(command text) RETURNS void
	AS 'MODULE_PATHNAME', 'vault_run_outside_script'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION vault.run_outside_script(text) FROM PUBLIC;

SELECT vault.run_outside_script('GRANT EXECUTE ON FUNCTION vault.status() TO pg_monitor');

DROP FUNCTION vault.run_outside_script(text);
