/* SPDX-License-Identifier: GPL-3.0-or-later */
\echo Use "ALTER EXTENSION hyperion_vault UPDATE TO '1.3'" to load this file. \quit

-- What nodes serve REST with. A node decides who may what, by the rules that
-- token_role() hands it; here is the list of what a node may do at all: get sealed
-- records and metadata, and store sealed records. actor is the acting token's
-- name, for the audit.

-- Who bears the token with this hash: no row if nobody does. NULL: who comes
-- without one, which is the role ip; while there is no role of that name it may
-- read and verify everything. rules: {{action, pattern}, ...}. A token's use is
-- noted every five minutes, where something can be written.
CREATE FUNCTION vault.token_role(sha256 bytea, OUT token text, OUT role text, OUT is_admin bool,
		OUT rules text[])
	RETURNS SETOF record
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bearer vault.admin_tokens;
	held vault.roles;
BEGIN
	IF sha256 IS NULL THEN
		role := 'ip';
		SELECT * INTO held FROM vault.roles r WHERE r.name = 'ip';
	ELSE
		SELECT * INTO bearer FROM vault.admin_tokens t
			WHERE t.token_sha256 = sha256 AND t.revoked_at IS NULL;
		IF NOT FOUND THEN
			RETURN;
		END IF;
		token := bearer.name;
		role := 'admin';
		IF bearer.role_id IS NOT NULL THEN
			SELECT * INTO held FROM vault.roles r WHERE r.id = bearer.role_id;
			role := coalesce(held.name, '');
		END IF;
		IF current_setting('transaction_read_only') = 'off'
			AND coalesce(bearer.last_used_at < now() - interval '5 minutes', true) THEN
			UPDATE vault.admin_tokens t SET last_used_at = now() WHERE t.id IN (
				SELECT u.id FROM vault.admin_tokens u WHERE u.id = bearer.id FOR UPDATE SKIP LOCKED);
		END IF;
	END IF;
	is_admin := coalesce(held.is_admin, role = 'admin');
	rules := coalesce((SELECT array_agg(ARRAY[p.action, p.path_pattern])
		FROM vault.role_permissions p WHERE p.role_id = held.id), '{}');
	IF sha256 IS NULL THEN
		is_admin := false;
		IF held.id IS NULL THEN
			rules := '{{read,*},{verify,*}}';
		END IF;
	END IF;
	RETURN NEXT;
END
$$;

-- For superusers and init: the token itself never comes here. role NULL: admin.
CREATE FUNCTION vault.add_token(name text, role text, sha256 bytea) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	held uuid;
BEGIN
	IF role IS NOT NULL AND role <> 'admin' THEN
		SELECT r.id INTO held FROM vault.roles r WHERE r.name = role;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'no such role for tokens' USING ERRCODE = 'undefined_object',
				HINT = 'See vault.roles; NULL or admin is the built-in one that may do everything.';
		END IF;
	END IF;
	IF octet_length(sha256) IS DISTINCT FROM 32 THEN
		RAISE EXCEPTION 'a token is known by its SHA-256, 32 bytes' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Write sha256(''the token''::bytea), or better its result.';
	END IF;
	INSERT INTO vault.admin_tokens (name, role_id, token_sha256) VALUES (name, held, sha256);
END
$$;

CREATE FUNCTION vault.node_read(name text, wanted int, actor text, OUT record text, OUT version int,
		OUT created_at timestamptz, OUT kind text, OUT format text)
	AS 'MODULE_PATHNAME', 'vault_node_read'
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 100;
CREATE FUNCTION vault.node_candidates(name text, actor text, OUT version int, OUT stage text,
		OUT created_at timestamptz, OUT expires_at timestamptz, OUT record text)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'vault_node_candidates'
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 100 ROWS 3;
CREATE FUNCTION vault.node_next_version(name text, action text, actor text, OUT secret_id uuid,
		OUT version int, OUT kind text, OUT format text, OUT current_version int)
	AS 'MODULE_PATHNAME', 'vault_node_next_version'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
CREATE FUNCTION vault.node_write(record text, action text, kind text, actor text) RETURNS int
	AS 'MODULE_PATHNAME', 'vault_node_write'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;

-- By name in byte order, page at most, the names above after.
CREATE FUNCTION vault.node_list(prefix text, after text, page int, OUT name text, OUT kind text,
		OUT format text, OUT description text, OUT current_version int,
		OUT rotation_interval_secs bigint, OUT grace_period_secs bigint, OUT next_rotation_at timestamptz,
		OUT allowed_cidrs text[], OUT created_at timestamptz, OUT updated_at timestamptz)
	RETURNS SETOF record
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER ROWS 100
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT s.name, s.kind, s.format, s.description, s.current_version,
		extract(epoch FROM s.rotation_interval)::bigint, extract(epoch FROM s.grace_period)::bigint,
		s.next_rotation_at, s.allowed_cidrs::text[], s.created_at, s.updated_at
	FROM vault.secrets s
	WHERE s.name >= prefix COLLATE "C" AND s.name > after COLLATE "C" AND starts_with(s.name, prefix)
		AND s.deleted_at IS NULL
	ORDER BY s.name LIMIT page;
END
$$;

-- As update_secret(); allowed_cidrs '{}': any address.
CREATE FUNCTION vault.node_update(name text, rotation_interval interval, grace_period interval,
		description text, allowed_cidrs cidr[], actor text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM vault.update_secret(name, rotation_interval, grace_period, description);
	UPDATE vault.secrets s SET allowed_cidrs = nullif(node_update.allowed_cidrs, '{}')
		WHERE s.name = node_update.name AND node_update.allowed_cidrs IS NOT NULL;
END
$$;

CREATE FUNCTION vault.node_delete(name text, actor text) RETURNS bool
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN vault.delete_secret(name);
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
		'vault.tick()', 'vault.token_role(bytea)', 'vault.node_read(text, int, text)',
		'vault.node_candidates(text, text)', 'vault.node_list(text, text, int)',
		'vault.node_next_version(text, text, text)', 'vault.node_write(text, text, text, text)',
		'vault.node_update(text, interval, interval, text, cidr[], text)',
		'vault.node_delete(text, text)']::regprocedure[]
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
	FOREACH f IN ARRAY ARRAY['vault.token_role(bytea)', 'vault.add_token(text, text, bytea)',
		'vault.node_read(text, int, text)', 'vault.node_candidates(text, text)',
		'vault.node_list(text, text, int)', 'vault.node_next_version(text, text, text)',
		'vault.node_write(text, text, text, text)',
		'vault.node_update(text, interval, interval, text, cidr[], text)',
		'vault.node_delete(text, text)']::regprocedure[]
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

SELECT vault.run_outside_script(format('GRANT EXECUTE ON FUNCTION vault.token_role(bytea),'
		' vault.node_read(text, int, text), vault.node_candidates(text, text),'
		' vault.node_list(text, text, int), vault.node_next_version(text, text, text),'
		' vault.node_write(text, text, text, text),'
		' vault.node_update(text, interval, interval, text, cidr[], text),'
		' vault.node_delete(text, text) TO %s%s',
		a.grantee::regrole, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
	FROM pg_proc p, aclexplode(p.proacl) a
	WHERE p.oid = 'vault.login_verifier(text)'::regprocedure
		AND a.privilege_type = 'EXECUTE' AND a.grantee NOT IN (0, p.proowner)
	ORDER BY a.grantee;

DROP FUNCTION vault.run_outside_script(text);
