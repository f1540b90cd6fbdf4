/* SPDX-License-Identifier: GPL-3.0-or-later */
\echo Use "ALTER EXTENSION hyperion_vault UPDATE TO '1.8'" to load this file. \quit

-- Who bears a token, and what that reads, in one call: a node asks for both at each
-- GET of a secret.

-- As in 1.3, in C.
CREATE OR REPLACE FUNCTION vault.token_role(sha256 bytea, OUT token text, OUT role text, OUT is_admin bool,
		OUT rules text[])
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'vault_token_role'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100 ROWS 1;

-- token_role(), NULLs if nobody bears it, with what of node_read() a node needs. A secret
-- that these rules do not let be read is not looked for: how long that takes tells
-- nothing about it.
CREATE FUNCTION vault.token_read(sha256 bytea, name text, wanted int, OUT token text, OUT role text,
		OUT is_admin bool, OUT rules text[], OUT record text, OUT created_at timestamptz, OUT kind text)
	AS 'MODULE_PATHNAME', 'vault_token_read'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100;

CREATE OR REPLACE FUNCTION vault.grant_service_role(role regrole) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	f regprocedure;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = role) THEN
		RAISE EXCEPTION 'no such role' USING ERRCODE = 'undefined_object',
			HINT = 'Create the service role first: CREATE ROLE vault_service LOGIN PASSWORD ...';
	END IF;
	EXECUTE format('GRANT USAGE ON SCHEMA vault TO %s', role);
	FOREACH f IN ARRAY ARRAY['vault.login_verifier(text)', 'vault.hba_rules()', 'vault.status()',
		'vault.tick()', 'vault.token_role(bytea)', 'vault.node_read(text, int, text)',
		'vault.node_candidates(text, text)', 'vault.node_list(text, text, int)',
		'vault.node_next_version(text, text, text)', 'vault.node_write(text, text, text, text)',
		'vault.node_update(text, interval, interval, text, cidr[], text)',
		'vault.node_delete(text, text)', 'vault.rest_admin(bytea, text, text, jsonb)',
		'vault.rest_roles(bytea, text, text, int)', 'vault.rest_tokens(bytea, text, int)',
		'vault.bootstrap_token(bytea)', 'vault.lockout(inet, int)',
		'vault.node_reschedule(text, timestamptz, text)',
		'vault.claim_rotation(text, int)', 'vault.complete_rotation(bigint, uuid, int, text)',
		'vault.fail_rotation(bigint, uuid, text)', 'vault.rotation_status()',
		'vault.audit_position(uuid)', 'vault.prune_audit(timestamptz)',
		'vault.audit_append(uuid, bigint, bytea, bool, timestamptz[], text[], text[], inet[], text[], text[], text[],
			text[], int[], text[], bool[], text[], bigint[], bigint[], bytea[], timestamptz, bytea, bytea)',
		'vault.token_read(bytea, text, int)']::regprocedure[]
	LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', f, role);
	END LOOP;
END
$$;

------------------------------------------------------------------- privileges
-- As in 1.0 and 1.1.
DO $$
DECLARE
	f regprocedure;
	cmd text;
BEGIN
	FOREACH f IN ARRAY ARRAY['vault.token_read(bytea, text, int)']::regprocedure[]
	LOOP
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
	END LOOP;
END
$$;

-- The service roles of before get what grant_service_role() gives now.
CREATE FUNCTION vault.run_outside_script(command text) RETURNS void
	AS 'MODULE_PATHNAME', 'vault_run_outside_script'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION vault.run_outside_script(text) FROM PUBLIC;

SELECT vault.run_outside_script(format('GRANT EXECUTE ON FUNCTION vault.token_read(bytea, text, int) TO %s%s',
		a.grantee::regrole, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
	FROM pg_proc p, aclexplode(p.proacl) a
	WHERE p.oid = 'vault.login_verifier(text)'::regprocedure
		AND a.privilege_type = 'EXECUTE' AND a.grantee NOT IN (0, p.proowner)
	ORDER BY a.grantee;

DROP FUNCTION vault.run_outside_script(text);
