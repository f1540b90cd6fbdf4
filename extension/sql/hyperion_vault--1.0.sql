/* SPDX-License-Identifier: GPL-3.0-or-later */
\echo Use "CREATE EXTENSION hyperion_vault" to load this file. \quit

-- An existing schema of this name (somebody's trap, or another vault) makes
-- the script fail here. Nothing below says OR REPLACE or IF NOT EXISTS.
CREATE SCHEMA vault;

---------------------------------------------------------------- vault.sealed

CREATE TYPE vault.sealed;

CREATE FUNCTION vault.sealed_in(cstring) RETURNS vault.sealed
	AS 'MODULE_PATHNAME', 'vault_sealed_in'
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION vault.sealed_out(vault.sealed) RETURNS cstring
	AS 'MODULE_PATHNAME', 'vault_sealed_out'
	LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION vault.sealed_recv(internal) RETURNS vault.sealed
	AS 'MODULE_PATHNAME', 'vault_sealed_recv'
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION vault.sealed_send(vault.sealed) RETURNS bytea
	AS 'MODULE_PATHNAME', 'vault_sealed_send'
	LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE TYPE vault.sealed (
	INPUT = vault.sealed_in,
	OUTPUT = vault.sealed_out,
	RECEIVE = vault.sealed_recv,
	SEND = vault.sealed_send,
	INTERNALLENGTH = VARIABLE,
	ALIGNMENT = int4,
	STORAGE = plain
);
COMMENT ON TYPE vault.sealed IS
	'a sealed secret: opened by a hyperion-vault node when it is a result column of its own';

-- Assignment casts, so that plpgsql and INSERT meet our hint and not an I/O
-- conversion that silently yields ciphertext.
CREATE FUNCTION vault.sealed_to_text(vault.sealed) RETURNS text
	AS 'MODULE_PATHNAME', 'vault_sealed_cast' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION vault.sealed_to_varchar(vault.sealed) RETURNS varchar
	AS 'MODULE_PATHNAME', 'vault_sealed_cast' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION vault.sealed_to_bpchar(vault.sealed) RETURNS bpchar
	AS 'MODULE_PATHNAME', 'vault_sealed_cast' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION vault.sealed_to_name(vault.sealed) RETURNS name
	AS 'MODULE_PATHNAME', 'vault_sealed_cast' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION vault.sealed_to_bytea(vault.sealed) RETURNS bytea
	AS 'MODULE_PATHNAME', 'vault_sealed_cast' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION vault.sealed_to_json(vault.sealed) RETURNS json
	AS 'MODULE_PATHNAME', 'vault_sealed_cast' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION vault.sealed_to_jsonb(vault.sealed) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'vault_sealed_cast' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
CREATE FUNCTION vault.sealed_to_xml(vault.sealed) RETURNS xml
	AS 'MODULE_PATHNAME', 'vault_sealed_cast' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

CREATE CAST (vault.sealed AS text) WITH FUNCTION vault.sealed_to_text(vault.sealed) AS ASSIGNMENT;
CREATE CAST (vault.sealed AS varchar) WITH FUNCTION vault.sealed_to_varchar(vault.sealed) AS ASSIGNMENT;
CREATE CAST (vault.sealed AS bpchar) WITH FUNCTION vault.sealed_to_bpchar(vault.sealed) AS ASSIGNMENT;
CREATE CAST (vault.sealed AS name) WITH FUNCTION vault.sealed_to_name(vault.sealed) AS ASSIGNMENT;
CREATE CAST (vault.sealed AS bytea) WITH FUNCTION vault.sealed_to_bytea(vault.sealed) AS ASSIGNMENT;
CREATE CAST (vault.sealed AS json) WITH FUNCTION vault.sealed_to_json(vault.sealed) AS ASSIGNMENT;
CREATE CAST (vault.sealed AS jsonb) WITH FUNCTION vault.sealed_to_jsonb(vault.sealed) AS ASSIGNMENT;
CREATE CAST (vault.sealed AS xml) WITH FUNCTION vault.sealed_to_xml(vault.sealed) AS ASSIGNMENT;

---------------------------------------------------------------------- tables
-- No foreign keys between them: pg_restore -j loads tables at the same time,
-- and a child's COPY would fail as a whole. The functions keep them consistent.

CREATE FUNCTION vault.valid_name(name text) RETURNS bool
	AS 'MODULE_PATHNAME', 'vault_valid_name' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION vault.valid_pattern(pattern text) RETURNS bool
	AS 'MODULE_PATHNAME', 'vault_valid_pattern' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE TABLE vault.meta (
	vault_id uuid PRIMARY KEY,
	kms_key_ids text[] NOT NULL DEFAULT '{}',
	bootstrapped_at timestamptz NOT NULL DEFAULT now(),
	last_tick_at timestamptz
);
-- One row at most.
CREATE UNIQUE INDEX meta_one_row ON vault.meta ((true));

-- A deleted secret keeps its row, so that no version number is ever used twice.
CREATE TABLE vault.secrets (
	id uuid PRIMARY KEY,
	name text COLLATE "C" NOT NULL UNIQUE CHECK (vault.valid_name(name)),
	kind text NOT NULL CHECK (kind IN ('manual', 'automatic')),
	format text NOT NULL DEFAULT 'opaque' CHECK (format IN ('opaque', 'userpass')),
	description text CHECK (octet_length(description) <= 4096),
	rotation_interval interval
		CHECK (rotation_interval >= '1 second' AND rotation_interval <= '100 years'),
	grace_period interval CHECK (grace_period >= '0' AND grace_period <= '100 years'),
	current_version int NOT NULL CHECK (current_version >= 0),
	next_rotation_at timestamptz,
	allowed_cidrs cidr[] CHECK (array_ndims(allowed_cidrs) = 1 AND
		cardinality(allowed_cidrs) BETWEEN 1 AND 64 AND array_position(allowed_cidrs, NULL) IS NULL),
	deleted_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	CHECK (current_version > 0 OR deleted_at IS NOT NULL),
	CHECK (kind = 'automatic' OR (rotation_interval IS NULL AND next_rotation_at IS NULL)),
	CHECK (deleted_at IS NULL OR (kind = 'manual' AND format = 'opaque' AND description IS NULL
		AND grace_period IS NULL AND allowed_cidrs IS NULL))
);
CREATE INDEX secrets_due ON vault.secrets (next_rotation_at)
	WHERE kind = 'automatic' AND deleted_at IS NULL;
CREATE INDEX secrets_placeholder ON vault.secrets (deleted_at) WHERE current_version = 0;

-- Every length is checked, so that not even a careless INSERT stores plaintext.
CREATE TABLE vault.secret_versions (
	secret_id uuid NOT NULL,
	version int NOT NULL CHECK (version >= 1),
	envelope_format smallint NOT NULL DEFAULT 1 CHECK (envelope_format = 1),
	value_format smallint NOT NULL CHECK (value_format BETWEEN 1 AND 3),
	kms_key_id text NOT NULL CHECK (octet_length(kms_key_id) BETWEEN 1 AND 2048),
	wrapped_dek bytea NOT NULL CHECK (octet_length(wrapped_dek) BETWEEN 1 AND 6144),
	nonce bytea NOT NULL CHECK (octet_length(nonce) = 24),
	-- commitment 32, value 1 .. 512 KiB, tag 16
	ciphertext bytea NOT NULL CHECK (octet_length(ciphertext) BETWEEN 49 AND 524336),
	stage text NOT NULL CHECK (stage IN ('pending', 'current', 'previous')),
	created_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz,
	rewrapped_at timestamptz,
	PRIMARY KEY (secret_id, version),
	CHECK ((stage = 'previous') = (expires_at IS NOT NULL))
);
-- Ciphertext does not compress.
ALTER TABLE vault.secret_versions ALTER COLUMN ciphertext SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX secret_versions_current ON vault.secret_versions (secret_id)
	WHERE stage = 'current';
CREATE INDEX secret_versions_expiry ON vault.secret_versions (expires_at)
	WHERE expires_at IS NOT NULL;

-- A grant counts only while pg_authid has role_oid under role_name.
CREATE TABLE vault.grants (
	role_oid oid NOT NULL,
	role_name name NOT NULL,
	pattern text COLLATE "C" NOT NULL CHECK (vault.valid_pattern(pattern)),
	actions text[] NOT NULL CHECK (actions = '{*}' OR (cardinality(actions) >= 1 AND
		actions <@ '{read,verify,list,create,update,rotate,delete}')),
	granted_at timestamptz NOT NULL DEFAULT now(),
	granted_by name NOT NULL DEFAULT session_user,
	PRIMARY KEY (role_name, pattern)
);

CREATE TABLE vault.rotation_jobs (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	secret_id uuid NOT NULL,
	enqueued_at timestamptz NOT NULL DEFAULT now(),
	claimed_at timestamptz,
	claimed_by text,
	claim_token uuid,
	attempts int NOT NULL DEFAULT 0 CHECK (attempts >= 0),
	completed_at timestamptz,
	error text
);
CREATE UNIQUE INDEX rotation_jobs_open ON vault.rotation_jobs (secret_id)
	WHERE completed_at IS NULL;
CREATE INDEX rotation_jobs_secret ON vault.rotation_jobs (secret_id);

CREATE TABLE vault.roles (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	name text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 255),
	description text,
	is_admin bool NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE vault.role_permissions (
	role_id uuid NOT NULL,
	action text NOT NULL CHECK (action IN
		('read', 'verify', 'list', 'create', 'update', 'rotate', 'delete', 'write', '*')),
	path_pattern text COLLATE "C" NOT NULL CHECK (vault.valid_pattern(path_pattern)),
	PRIMARY KEY (role_id, action, path_pattern)
);

-- Only the SHA-256 of a token is stored. role_id NULL is the built-in admin.
CREATE TABLE vault.admin_tokens (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	name text COLLATE "C" NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 255),
	role_id uuid,
	token_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(token_sha256) = 32),
	created_at timestamptz NOT NULL DEFAULT now(),
	last_used_at timestamptz,
	revoked_at timestamptz
);

CREATE TABLE vault.auth_lockouts (
	client_ip inet PRIMARY KEY,
	failures int NOT NULL DEFAULT 0 CHECK (failures >= 0),
	window_start timestamptz NOT NULL DEFAULT now(),
	locked_until timestamptz
);

-- A plain table: partitions made later break the restore of a dump.
CREATE TABLE vault.audit_log (
	node_id uuid NOT NULL,
	seq bigint NOT NULL CHECK (seq >= 1),
	at timestamptz NOT NULL,
	actor text,
	session_role text,
	client_ip inet,
	face text NOT NULL,
	action text NOT NULL,
	secret_name text,
	version int,
	outcome text NOT NULL,
	detail jsonb,
	prev_hash bytea NOT NULL CHECK (octet_length(prev_hash) = 32),
	hash bytea NOT NULL CHECK (octet_length(hash) = 32),
	PRIMARY KEY (node_id, seq)
);
CREATE INDEX audit_log_at ON vault.audit_log (at);

CREATE TABLE vault.audit_heads (
	node_id uuid PRIMARY KEY,
	seq bigint NOT NULL CHECK (seq >= 0),
	hash bytea NOT NULL CHECK (octet_length(hash) = 32),
	public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
	signature bytea CHECK (octet_length(signature) = 64),
	at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE vault.changes (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	secret_id uuid NOT NULL,
	version int,
	action text NOT NULL,
	session_role name NOT NULL DEFAULT session_user,
	"current_role" name NOT NULL DEFAULT current_user,
	at timestamptz NOT NULL DEFAULT now()
);

DO $$
DECLARE
	t regclass;
BEGIN
	FOR t IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'vault'::regnamespace AND c.relkind = 'r'
	LOOP
		EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
		EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t);
		PERFORM pg_extension_config_dump(t, '');
	END LOOP;
	FOR t IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'vault'::regnamespace AND c.relkind = 'S'
	LOOP
		PERFORM pg_extension_config_dump(t, '');
	END LOOP;
END
$$;

-- What backends remember of these tables is forgotten on every change, by a
-- message that also reaches standbys. ALWAYS: session_replication_role must not
-- leave a revoked right alive.
CREATE FUNCTION vault.forget_cached() RETURNS trigger
	AS 'MODULE_PATHNAME', 'vault_forget_cached' LANGUAGE C;
CREATE TRIGGER forget_cached AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON vault.grants
	FOR EACH STATEMENT EXECUTE FUNCTION vault.forget_cached();
ALTER TABLE vault.grants ENABLE ALWAYS TRIGGER forget_cached;
CREATE TRIGGER forget_cached AFTER INSERT OR UPDATE OF vault_id OR DELETE OR TRUNCATE ON vault.meta
	FOR EACH STATEMENT EXECUTE FUNCTION vault.forget_cached();
ALTER TABLE vault.meta ENABLE ALWAYS TRIGGER forget_cached;

---------------------------------------------------------------- the SQL face

CREATE FUNCTION vault.read_secret(name text, version int = NULL, missing_ok bool = false)
	RETURNS vault.sealed
	AS 'MODULE_PATHNAME', 'vault_read_secret'
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 100;
CREATE FUNCTION vault.put_secret(name text, value text, description text = NULL) RETURNS int
	AS 'MODULE_PATHNAME', 'vault_put_secret'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
CREATE FUNCTION vault.create_secret(name text, kind text, value text = NULL,
		rotation_interval interval = NULL, grace_period interval = NULL, description text = NULL)
	RETURNS int
	AS 'MODULE_PATHNAME', 'vault_create_secret'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
CREATE FUNCTION vault.rotate_secret(name text, value text = NULL) RETURNS int
	AS 'MODULE_PATHNAME', 'vault_rotate_secret'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
CREATE FUNCTION vault.update_secret(name text, rotation_interval interval = NULL,
		grace_period interval = NULL, description text = NULL, next_rotation_at timestamptz = NULL)
	RETURNS void
	AS 'MODULE_PATHNAME', 'vault_update_secret'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
CREATE FUNCTION vault.delete_secret(name text) RETURNS bool
	AS 'MODULE_PATHNAME', 'vault_delete_secret'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
-- Volatile: a challenge may be answered once, so the planner must not repeat it.
CREATE FUNCTION vault.verify_secret(name text, value text) RETURNS int
	AS 'MODULE_PATHNAME', 'vault_verify_secret'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100;
CREATE FUNCTION vault.list_secrets(prefix text = '', OUT name text, OUT kind text, OUT format text,
		OUT description text, OUT current_version int, OUT rotation_interval interval,
		OUT grace_period interval, OUT next_rotation_at timestamptz, OUT created_at timestamptz,
		OUT updated_at timestamptz)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'vault_list_secrets'
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 1000;
CREATE FUNCTION vault.list_versions(name text, OUT version int, OUT stage text,
		OUT created_at timestamptz, OUT expires_at timestamptz)
	RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'vault_list_versions'
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 100 ROWS 3;

CREATE FUNCTION vault.grant_access(role regrole, pattern text, VARIADIC actions text[] = '{read}')
	RETURNS void
	AS 'MODULE_PATHNAME', 'vault_grant_access' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION vault.revoke_access(role regrole, pattern text, VARIADIC actions text[] = '{*}')
	RETURNS void
	AS 'MODULE_PATHNAME', 'vault_revoke_access' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION vault.allowed(action text, name text) RETURNS bool
	AS 'MODULE_PATHNAME', 'vault_allowed_sql' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;

--------------------------------------------------------- for the node's own use

CREATE FUNCTION vault.next_version(name text, n int, action text, OUT secret_id uuid, OUT first int)
	AS 'MODULE_PATHNAME', 'vault_next_version' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000;
CREATE FUNCTION vault.verify_begin(name text, OUT challenge bytea, OUT records text[])
	AS 'MODULE_PATHNAME', 'vault_verify_begin' LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100;
CREATE FUNCTION vault.fail(sqlstate text, message text, detail text = NULL, hint text = NULL)
	RETURNS void
	AS 'MODULE_PATHNAME', 'vault_fail' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION vault.login_verifier(name text) RETURNS text
	AS 'MODULE_PATHNAME', 'vault_login_verifier' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
CREATE FUNCTION vault.status() RETURNS jsonb
	AS 'MODULE_PATHNAME', 'vault_status' LANGUAGE C VOLATILE PARALLEL UNSAFE;

------------------------------------------------------------------ housekeeping

CREATE FUNCTION vault.enqueue_due_rotations() RETURNS int
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	added int;
BEGIN
	-- A secret that is being written is left for the next time: an open
	-- transaction of some client must not hold up all others' rotations.
	INSERT INTO vault.rotation_jobs (secret_id)
		SELECT s.id FROM vault.secrets s
		WHERE s.kind = 'automatic' AND s.deleted_at IS NULL AND s.next_rotation_at <= now()
			AND NOT EXISTS (SELECT FROM vault.rotation_jobs j
				WHERE j.secret_id = s.id AND j.completed_at IS NULL)
		FOR NO KEY UPDATE OF s SKIP LOCKED
		ON CONFLICT (secret_id) WHERE completed_at IS NULL DO NOTHING;
	GET DIAGNOSTICS added = ROW_COUNT;
	IF added > 0 THEN
		PERFORM pg_notify('vault_rotation', added::text);
	END IF;
	RETURN added;
END
$$;

CREATE FUNCTION vault.expire_grace_versions() RETURNS int
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	removed int;
BEGIN
	DELETE FROM vault.secret_versions d WHERE (d.secret_id, d.version) IN (
		SELECT v.secret_id, v.version FROM vault.secret_versions v
		WHERE v.expires_at <= now() FOR UPDATE SKIP LOCKED);
	GET DIAGNOSTICS removed = ROW_COUNT;
	RETURN removed;
END
$$;

CREATE FUNCTION vault.tick() RETURNS void
	AS 'MODULE_PATHNAME', 'vault_tick' LANGUAGE C VOLATILE PARALLEL UNSAFE;

-- A restored dump keeps the old cluster's role OIDs: bind the grants to the
-- roles that have those names here.
CREATE FUNCTION vault.adopt_grants() RETURNS int
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bound int;
BEGIN
	UPDATE vault.grants g SET role_oid = a.oid
		FROM pg_roles a
		WHERE a.rolname = g.role_name AND a.oid <> g.role_oid;
	GET DIAGNOSTICS bound = ROW_COUNT;
	RETURN bound;
END
$$;

CREATE FUNCTION vault.grant_service_role(role regrole) RETURNS void
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
	FOREACH f IN ARRAY ARRAY['vault.login_verifier(text)', 'vault.status()', 'vault.tick()']::regprocedure[]
	LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', f, role);
	END LOOP;
END
$$;

-- Who may do what, memberships followed. For the owner's eyes.
CREATE VIEW vault.effective_access AS
	SELECT r.rolname AS role, g.role_name AS granted_to, g.pattern, g.actions
	FROM vault.grants g
	JOIN pg_catalog.pg_roles o ON o.oid = g.role_oid AND o.rolname = g.role_name
	JOIN pg_catalog.pg_roles r ON NOT r.rolsuper AND pg_catalog.pg_has_role(r.oid, o.oid, 'USAGE')
	UNION ALL
	SELECT r.rolname, r.rolname, '*', '{*}'::text[]
	FROM pg_catalog.pg_roles r WHERE r.rolsuper;

-- A stored vault.sealed could only raise: see the event trigger at the end.
CREATE FUNCTION vault.refuse_sealed_columns() RETURNS event_trigger
	AS 'MODULE_PATHNAME', 'vault_refuse_sealed_columns' LANGUAGE C;

------------------------------------------------------------------- privileges
-- The installing user's default privileges may have given rights on all of the
-- above to anybody: take everything from everyone but the owner, then grant.
DO $$
DECLARE
	cmd text;
BEGIN
	FOR cmd IN
		SELECT format('REVOKE ALL ON SCHEMA vault FROM %s',
				CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
			FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
			WHERE n.nspname = 'vault' AND a.grantee <> n.nspowner
		UNION
		SELECT format('REVOKE ALL ON %s %s FROM %s',
				CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass,
				CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
			FROM pg_class c, aclexplode(coalesce(c.relacl,
				acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a
			WHERE c.relnamespace = 'vault'::regnamespace AND c.relkind IN ('r', 'v', 'S')
				AND a.grantee <> c.relowner
		UNION
		SELECT format('REVOKE ALL ON FUNCTION %s FROM %s', p.oid::regprocedure,
				CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
			FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
			WHERE p.pronamespace = 'vault'::regnamespace AND a.grantee <> p.proowner
		UNION
		SELECT format('REVOKE ALL ON TYPE vault.sealed FROM %s',
				CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
			FROM pg_type t, aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) a
			WHERE t.oid = 'vault.sealed'::regtype AND a.grantee <> t.typowner
	LOOP
		EXECUTE cmd;
	END LOOP;
END
$$;

GRANT USAGE ON SCHEMA vault TO PUBLIC;
GRANT USAGE ON TYPE vault.sealed TO PUBLIC;
-- The casts too, or users see "permission denied" in place of the hint.
GRANT EXECUTE ON FUNCTION
	vault.sealed_in(cstring), vault.sealed_out(vault.sealed),
	vault.sealed_recv(internal), vault.sealed_send(vault.sealed),
	vault.sealed_to_text(vault.sealed), vault.sealed_to_varchar(vault.sealed),
	vault.sealed_to_bpchar(vault.sealed), vault.sealed_to_name(vault.sealed),
	vault.sealed_to_bytea(vault.sealed), vault.sealed_to_json(vault.sealed),
	vault.sealed_to_jsonb(vault.sealed), vault.sealed_to_xml(vault.sealed),
	vault.valid_name(text), vault.valid_pattern(text),
	vault.read_secret(text, int, bool),
	vault.put_secret(text, text, text),
	vault.create_secret(text, text, text, interval, interval, text),
	vault.rotate_secret(text, text),
	vault.update_secret(text, interval, interval, text, timestamptz),
	vault.delete_secret(text),
	vault.verify_secret(text, text),
	vault.list_secrets(text), vault.list_versions(text),
	vault.grant_access(regrole, text, text[]), vault.revoke_access(regrole, text, text[]),
	vault.allowed(text, text),
	vault.next_version(text, int, text), vault.verify_begin(text),
	vault.fail(text, text, text, text)
	TO PUBLIC;

----------------------------------------------------------------- event trigger
-- Last, so that it does not run for the script itself.

CREATE EVENT TRIGGER hyperion_vault_no_sealed_columns ON ddl_command_end
	WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE',
		'CREATE MATERIALIZED VIEW', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE',
		'IMPORT FOREIGN SCHEMA', 'CREATE TYPE', 'ALTER TYPE')
	EXECUTE FUNCTION vault.refuse_sealed_columns();
