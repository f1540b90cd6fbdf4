/* SPDX-License-Identifier: GPL-3.0-or-later */
\echo Use "ALTER EXTENSION hyperion_vault UPDATE TO '1.2'" to load this file. \quit

-- How far this server has replayed, or has written if it is the primary, and on
-- which timeline that is.
CREATE FUNCTION vault.replayed(OUT lsn pg_lsn, OUT timeline int)
	AS 'MODULE_PATHNAME', 'vault_replayed'
	LANGUAGE C VOLATILE PARALLEL SAFE;

------------------------------------------------------------------- privileges
-- As in 1.0 and 1.1. Everybody may ask, as for pg_last_wal_replay_lsn().
DO $$
DECLARE
	f regprocedure = 'vault.replayed()';
	cmd text;
BEGIN
	EXECUTE format('ALTER FUNCTION %s OWNER TO %s', f, (SELECT e.extowner::regrole
		FROM pg_extension e WHERE e.extname = 'hyperion_vault'));
	FOR cmd IN
		SELECT format('REVOKE ALL ON FUNCTION %s FROM %s', f,
				CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
			FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
			WHERE p.oid = f AND a.grantee <> p.proowner
	LOOP
		EXECUTE cmd;
	END LOOP;
END
$$;

GRANT EXECUTE ON FUNCTION vault.replayed() TO PUBLIC;
