/* SPDX-License-Identifier: GPL-3.0-or-later */
\echo Use "ALTER EXTENSION hyperion_vault UPDATE TO '1.1'" to load this file. \quit

-- What this session carries, in an order that depends on nothing else.
CREATE FUNCTION vault.session_state(OUT kind text, OUT name text, OUT value text, OUT detail text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'vault_session_state'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000 ROWS 10;

-- A node's claim about its client.
CREATE FUNCTION vault.client_addr() RETURNS inet
	AS 'MODULE_PATHNAME', 'vault_client_addr'
	LANGUAGE C STABLE PARALLEL SAFE;

-- The lines of this server's pg_hba.conf in their order, without what they may
-- hold of secrets: of the options only two, and of an error what kind it is, for
-- the rest quotes the line. In English, so that it can be told where the quote
-- begins. file_name came with 16.
CREATE FUNCTION vault.hba_rules(OUT file_name text, OUT line_number int, OUT type text,
		OUT database text[], OUT user_name text[], OUT address text, OUT netmask text,
		OUT auth_method text, OUT options text[], OUT error text, OUT loaded_at timestamptz)
	RETURNS SETOF record
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp SET lc_messages = 'C'
AS $$
BEGIN
	RETURN QUERY SELECT to_jsonb(r) ->> 'file_name', r.line_number, r.type, r.database, r.user_name,
		r.address, r.netmask, r.auth_method,
		(SELECT array_agg(o) FROM unnest(r.options) o WHERE o ~ '^(clientcert|map)='),
		rtrim(split_part(split_part(r.error, ':', 1), '"', 1)),
		pg_conf_load_time()
	FROM pg_hba_file_rules() r;
END
$$;

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
		'vault.tick()']::regprocedure[]
	LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', f, role);
	END LOOP;
END
$$;

------------------------------------------------------------------- privileges
-- As in 1.0: the extension's owner has all, whoever runs this and whatever his
-- default privileges are, and everybody else what is granted below.
DO $$
DECLARE
	f regprocedure;
	cmd text;
BEGIN
	FOREACH f IN ARRAY ARRAY['vault.session_state()', 'vault.client_addr()', 'vault.hba_rules()']::regprocedure[]
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

GRANT EXECUTE ON FUNCTION vault.session_state(), vault.client_addr() TO PUBLIC;

-- The service roles of before get what grant_service_role() gives now.
CREATE FUNCTION vault.run_outside_script(command text) RETURNS void
	AS 'MODULE_PATHNAME', 'vault_run_outside_script'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION vault.run_outside_script(text) FROM PUBLIC;

SELECT vault.run_outside_script(format('GRANT EXECUTE ON FUNCTION vault.hba_rules() TO %s%s',
		a.grantee::regrole, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
	FROM pg_proc p, aclexplode(p.proacl) a
	WHERE p.oid = 'vault.login_verifier(text)'::regprocedure
		AND a.privilege_type = 'EXECUTE' AND a.grantee NOT IN (0, p.proowner)
	ORDER BY a.grantee;

DROP FUNCTION vault.run_outside_script(text);
