/* SPDX-License-Identifier: GPL-3.0-or-later */
\echo Use "ALTER EXTENSION hyperion_vault UPDATE TO '1.4'" to load this file. \quit

-- Roles and tokens of REST for its administrators, and locked addresses. A node
-- asks its own rules before; here nobody's word is taken: caller is the hash of
-- the asking token, which must be a living administrator's in this server. Nothing
-- touches vault.grants or a role of PostgreSQL.

CREATE FUNCTION vault.check_rest_admin(caller bytea) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM vault.admin_tokens t LEFT JOIN vault.roles r ON r.id = t.role_id
		WHERE t.token_sha256 = caller AND t.revoked_at IS NULL AND (t.role_id IS NULL OR r.is_admin)) THEN
		RAISE EXCEPTION 'the token is not an administrator''s, or not any more' USING ERRCODE = 'invalid_grantor';
	END IF;
END
$$;

-- change: create_role, set_permissions, delete_role, create_token, revoke_token.
-- detail is what REST's body says of a role (description, is_admin, permissions) or
-- of a token (role, and its sha256 in hexadecimal). What a row's lock waited for is
-- seen by the statement behind it: so a token that is revoked, or a role that is
-- deleted meanwhile, is one.
CREATE FUNCTION vault.rest_admin(caller bytea, change text, name text, detail jsonb) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	held uuid;
BEGIN
	PERFORM FROM vault.admin_tokens t WHERE t.token_sha256 = caller FOR SHARE;
	PERFORM vault.check_rest_admin(caller);
	IF name = 'admin' AND change IN ('create_role', 'set_permissions', 'delete_role') THEN
		RAISE EXCEPTION 'the role admin is built in' USING ERRCODE = 'invalid_parameter_value';
	END IF;
	CASE change
	WHEN 'create_role' THEN
		INSERT INTO vault.roles (name, description, is_admin)
			VALUES (rest_admin.name, detail->>'description', coalesce((detail->>'is_admin')::bool, false))
			ON CONFLICT DO NOTHING RETURNING id INTO held;
		IF held IS NULL THEN
			RAISE EXCEPTION 'there is a role of that name' USING ERRCODE = 'duplicate_object';
		END IF;
	WHEN 'set_permissions', 'delete_role' THEN
		SELECT r.id INTO held FROM vault.roles r WHERE r.name = rest_admin.name FOR UPDATE;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'no such role for tokens' USING ERRCODE = 'undefined_object';
		END IF;
		IF change = 'delete_role' AND EXISTS (SELECT FROM vault.admin_tokens t
			WHERE t.role_id = held AND t.revoked_at IS NULL) THEN
			RAISE EXCEPTION 'the role has tokens' USING ERRCODE = 'object_in_use';
		END IF;
		DELETE FROM vault.role_permissions p WHERE p.role_id = held;
		DELETE FROM vault.roles r WHERE r.id = held AND change = 'delete_role';
	WHEN 'create_token' THEN
		SELECT r.id INTO held FROM vault.roles r WHERE r.name = detail->>'role' AND r.name <> 'admin'
			FOR KEY SHARE;
		IF held IS NULL AND detail->>'role' IS DISTINCT FROM 'admin' THEN
			RAISE EXCEPTION 'no such role for tokens' USING ERRCODE = 'undefined_object';
		END IF;
		INSERT INTO vault.admin_tokens (name, role_id, token_sha256)
			VALUES (rest_admin.name, held, decode(detail->>'sha256', 'hex')) ON CONFLICT DO NOTHING;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'there is, or was, a token of that name' USING ERRCODE = 'duplicate_object';
		END IF;
	WHEN 'revoke_token' THEN
		UPDATE vault.admin_tokens t SET revoked_at = now() WHERE t.name = rest_admin.name AND t.revoked_at IS NULL;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'no such token' USING ERRCODE = 'undefined_object';
		END IF;
	END CASE;
	IF change IN ('create_role', 'set_permissions') THEN
		INSERT INTO vault.role_permissions (role_id, action, path_pattern)
			SELECT DISTINCT held, p.action, p.path
			FROM jsonb_to_recordset(detail->'permissions') p(action text, path text);
	END IF;
END
$$;

-- By name in byte order, page at most, the names above after; wanted: that one.
-- Not among vault.roles is admin, which is built in. permissions: as token_role().
CREATE FUNCTION vault.rest_roles(caller bytea, wanted text, after text, page int, OUT name text,
		OUT description text, OUT is_admin bool, OUT permissions text[], OUT created_at timestamptz)
	RETURNS SETOF record
	LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER ROWS 100
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM vault.check_rest_admin(caller);
	RETURN QUERY SELECT a.name, a.description, a.is_admin,
		coalesce((SELECT array_agg(ARRAY[p.action, p.path_pattern] ORDER BY p.action, p.path_pattern)
			FROM vault.role_permissions p WHERE p.role_id = a.id), '{}'),
		a.created_at
	FROM (SELECT r.id, r.name, r.description, r.is_admin, r.created_at FROM vault.roles r WHERE r.name <> 'admin'
		UNION ALL SELECT NULL, 'admin', 'built in', true, NULL) a
	WHERE a.name > after COLLATE "C" AND (wanted IS NULL OR a.name = wanted COLLATE "C")
	ORDER BY a.name COLLATE "C" LIMIT page;
END
$$;

-- Those that were revoked too: a name is used once. role NULL: the role is gone.
CREATE FUNCTION vault.rest_tokens(caller bytea, after text, page int, OUT name text, OUT role text,
		OUT created_at timestamptz, OUT last_used_at timestamptz, OUT revoked_at timestamptz)
	RETURNS SETOF record
	LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER ROWS 100
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM vault.check_rest_admin(caller);
	RETURN QUERY SELECT t.name, CASE WHEN t.role_id IS NULL THEN 'admin' ELSE r.name END,
		t.created_at, t.last_used_at, t.revoked_at
	FROM vault.admin_tokens t LEFT JOIN vault.roles r ON r.id = t.role_id
	WHERE t.name > after COLLATE "C" ORDER BY t.name LIMIT page;
END
$$;

-- The first token of all, an administrator's: nothing happens if there ever was
-- one. true: the token with this hash is one of those that live.
CREATE FUNCTION vault.bootstrap_token(sha256 bytea) RETURNS bool
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM vault.admin_tokens) THEN
		-- Against another node, and init, that do the same now.
		LOCK TABLE vault.admin_tokens IN SHARE ROW EXCLUSIVE MODE;
		INSERT INTO vault.admin_tokens (name, token_sha256) SELECT 'bootstrap', bootstrap_token.sha256
			WHERE NOT EXISTS (SELECT FROM vault.admin_tokens);
	END IF;
	RETURN EXISTS (SELECT FROM vault.admin_tokens t
		WHERE t.token_sha256 = bootstrap_token.sha256 AND t.revoked_at IS NULL);
END
$$;

-- For how many seconds more a client (of IPv6: its network) is locked. With secs,
-- locks it for so long first; the table is bounded, and what is over leaves it.
CREATE FUNCTION vault.lockout(client inet, secs int) RETURNS int
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF secs > 0 THEN
		DELETE FROM vault.auth_lockouts l WHERE l.client_ip IN (SELECT o.client_ip FROM vault.auth_lockouts o
			WHERE o.locked_until < now() LIMIT 100 FOR UPDATE SKIP LOCKED);
		INSERT INTO vault.auth_lockouts AS l (client_ip, locked_until)
			SELECT client, now() + make_interval(secs => least(secs, 86400))
			WHERE (SELECT count(*) FROM vault.auth_lockouts) < 10000
			ON CONFLICT (client_ip) DO UPDATE SET locked_until = greatest(l.locked_until, excluded.locked_until);
	END IF;
	RETURN coalesce((SELECT greatest(0, ceil(extract(epoch FROM l.locked_until - now())))::int
		FROM vault.auth_lockouts l WHERE l.client_ip = client), 0);
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
		'vault.node_delete(text, text)', 'vault.rest_admin(bytea, text, text, jsonb)',
		'vault.rest_roles(bytea, text, text, int)', 'vault.rest_tokens(bytea, text, int)',
		'vault.bootstrap_token(bytea)', 'vault.lockout(inet, int)']::regprocedure[]
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
	FOREACH f IN ARRAY ARRAY['vault.check_rest_admin(bytea)', 'vault.rest_admin(bytea, text, text, jsonb)',
		'vault.rest_roles(bytea, text, text, int)', 'vault.rest_tokens(bytea, text, int)',
		'vault.bootstrap_token(bytea)', 'vault.lockout(inet, int)']::regprocedure[]
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

SELECT vault.run_outside_script(format('GRANT EXECUTE ON FUNCTION vault.rest_admin(bytea, text, text, jsonb),'
		' vault.rest_roles(bytea, text, text, int), vault.rest_tokens(bytea, text, int),'
		' vault.bootstrap_token(bytea), vault.lockout(inet, int) TO %s%s',
		a.grantee::regrole, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
	FROM pg_proc p, aclexplode(p.proacl) a
	WHERE p.oid = 'vault.login_verifier(text)'::regprocedure
		AND a.privilege_type = 'EXECUTE' AND a.grantee NOT IN (0, p.proowner)
	ORDER BY a.grantee;

DROP FUNCTION vault.run_outside_script(text);
