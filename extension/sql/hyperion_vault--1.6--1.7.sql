/* SPDX-License-Identifier: GPL-3.0-or-later */
\echo Use "ALTER EXTENSION hyperion_vault UPDATE TO '1.7'" to load this file. \quit

-- Every change of a secret, a right, a role or a token leaves a row in vault.changes,
-- whoever makes it and by whatever way; the node in between is told its number.

-- subject: the secret's name, a grant's role and pattern, a role's or token's name.
ALTER TABLE vault.changes ALTER COLUMN secret_id DROP NOT NULL;
ALTER TABLE vault.changes ADD COLUMN subject text;

-- For the functions below.
CREATE FUNCTION vault.log_change(action text, subject text) RETURNS void
	AS 'MODULE_PATHNAME', 'vault_log_change_sql'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

-- As in 1.0, and changes: for each version the number of its row. What it returns
-- cannot be changed, so it is made anew, with the rights that the old one has now.
ALTER FUNCTION vault.next_version(text, int, text) RENAME TO next_version_before;
CREATE FUNCTION vault.next_version(name text, n int, action text, OUT secret_id uuid, OUT first int,
		OUT changes bigint[])
	AS 'MODULE_PATHNAME', 'vault_next_version' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;

-- As in 1.3 and 1.5, but in C: a SECURITY DEFINER function hides whose right is used.
CREATE OR REPLACE FUNCTION vault.node_update(name text, rotation_interval interval, grace_period interval,
		description text, allowed_cidrs cidr[], actor text) RETURNS void
	AS 'MODULE_PATHNAME', 'vault_node_update'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
CREATE OR REPLACE FUNCTION vault.node_reschedule(name text, next_rotation_at timestamptz, actor text) RETURNS void
	AS 'MODULE_PATHNAME', 'vault_node_reschedule'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
CREATE OR REPLACE FUNCTION vault.node_delete(name text, actor text) RETURNS bool
	AS 'MODULE_PATHNAME', 'vault_node_delete'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;

-- As in 1.4, with its change.
CREATE OR REPLACE FUNCTION vault.rest_admin(caller bytea, change text, name text, detail jsonb) RETURNS void
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
	PERFORM vault.log_change(CASE change WHEN 'create_role' THEN 'role_create' WHEN 'set_permissions' THEN 'role_update'
		WHEN 'delete_role' THEN 'role_delete' WHEN 'create_token' THEN 'token_create' ELSE 'token_revoke' END, name);
END
$$;

-- As in 1.3, 1.4 and 1.0, with their changes.
CREATE OR REPLACE FUNCTION vault.add_token(name text, role text, sha256 bytea) RETURNS void
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
	PERFORM vault.log_change('token_create', name);
END
$$;

CREATE OR REPLACE FUNCTION vault.bootstrap_token(sha256 bytea) RETURNS bool
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM vault.admin_tokens) THEN
		-- Against another node, and init, that do the same now.
		LOCK TABLE vault.admin_tokens IN SHARE ROW EXCLUSIVE MODE;
		INSERT INTO vault.admin_tokens (name, token_sha256) SELECT 'bootstrap', bootstrap_token.sha256
			WHERE NOT EXISTS (SELECT FROM vault.admin_tokens);
		IF FOUND THEN
			PERFORM vault.log_change('token_create', 'bootstrap');
		END IF;
	END IF;
	RETURN EXISTS (SELECT FROM vault.admin_tokens t
		WHERE t.token_sha256 = bootstrap_token.sha256 AND t.revoked_at IS NULL);
END
$$;

CREATE OR REPLACE FUNCTION vault.adopt_grants() RETURNS int
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bound int;
BEGIN
	UPDATE vault.grants g SET role_oid = a.oid
		FROM pg_roles a
		WHERE a.rolname = g.role_name AND a.oid <> g.role_oid;
	GET DIAGNOSTICS bound = ROW_COUNT;
	IF bound > 0 THEN
		PERFORM vault.log_change('grant', bound || ' adopted');
	END IF;
	RETURN bound;
END
$$;

------------------------------------------------------------------- privileges
-- As in 1.0 and 1.1.
DO $$
DECLARE
	f regprocedure;
	cmd text;
BEGIN
	FOREACH f IN ARRAY ARRAY['vault.log_change(text, text)', 'vault.next_version(text, int, text)']::regprocedure[]
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

GRANT EXECUTE ON FUNCTION vault.next_version(text, int, text) TO PUBLIC;

-- What was granted or revoked since 1.0 by hand.
CREATE FUNCTION vault.run_outside_script(command text) RETURNS void
	AS 'MODULE_PATHNAME', 'vault_run_outside_script'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION vault.run_outside_script(text) FROM PUBLIC;

SELECT vault.run_outside_script('REVOKE EXECUTE ON FUNCTION vault.next_version(text, int, text) FROM PUBLIC')
	FROM pg_proc p
	WHERE p.oid = 'vault.next_version_before(text, int, text)'::regprocedure
		AND NOT EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0);
SELECT vault.run_outside_script(format('GRANT EXECUTE ON FUNCTION vault.next_version(text, int, text) TO %s%s',
		a.grantee::regrole, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
	FROM pg_proc p, aclexplode(p.proacl) a
	WHERE p.oid = 'vault.next_version_before(text, int, text)'::regprocedure AND a.grantee NOT IN (0, p.proowner)
	ORDER BY a.grantee;

DROP FUNCTION vault.run_outside_script(text);
DROP FUNCTION vault.next_version_before(text, int, text);
