-- The extension, roles and helpers that the other files use. The server never
-- opens anything, so a "sealed" record here is just well-formed bytes.
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_hv_app, regress_hv_bob, regress_hv_group, regress_hv_writer,
	regress_hv_member, regress_hv_noinherit, regress_hv_service;
RESET client_min_messages;

CREATE EXTENSION hyperion_vault;
INSERT INTO vault.meta (vault_id) VALUES ('11111111-2222-4333-8444-555555555555');

CREATE ROLE regress_hv_app LOGIN;
CREATE ROLE regress_hv_bob LOGIN;
CREATE ROLE regress_hv_writer LOGIN;
CREATE ROLE regress_hv_group;
CREATE ROLE regress_hv_member LOGIN IN ROLE regress_hv_group;
CREATE ROLE regress_hv_noinherit LOGIN NOINHERIT IN ROLE regress_hv_group;
CREATE ROLE regress_hv_service LOGIN;

CREATE SCHEMA t;
GRANT USAGE ON SCHEMA t TO PUBLIC;

CREATE FUNCTION t.field(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
	RETURN int4send(length($1)) || $1;

CREATE FUNCTION t.base64url(bytea) RETURNS text LANGUAGE sql IMMUTABLE
	SET search_path = pg_catalog, pg_temp
	RETURN translate(encode($1, 'base64'), E'+/=\n', '-_');

-- A record whose "ciphertext" is 49 bytes that start with the given text.
CREATE FUNCTION t.record(name text, id uuid, version int, content text,
		format int = 1, vault uuid = '11111111-2222-4333-8444-555555555555', kms text = 'local:test')
	RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	RETURN 'hv1.' || t.base64url(t.field('\x01') || t.field(uuid_send(vault)) || t.field(uuid_send(id)) ||
		t.field(int4send(version)) || t.field(convert_to(name, 'UTF8')) ||
		t.field(set_byte('\x00', 0, format)) || t.field(convert_to(kms, 'UTF8')) ||
		t.field('\xdddd') || t.field(decode(repeat('aa', 24), 'hex')) ||
		t.field(convert_to(rpad(content, 49, '.'), 'UTF8')) || t.field(''));

-- What a node does in front of a put: reserve, then seal for just that version.
CREATE FUNCTION t.seal(name text, content text, action text = 'put') RETURNS text
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r record;
BEGIN
	SELECT * INTO r FROM vault.next_version(name, 1, action);
	RETURN t.record(name, r.secret_id, r.first, content);
END
$$;

CREATE FUNCTION t.put(name text, content text) RETURNS int
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT vault.put_secret(name, t.seal(name, content)) $$;

-- The fields of a record, for comparison: "name v3 f1 text of the ciphertext".
CREATE FUNCTION t.show(rec text) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	raw bytea;
	f bytea[];
	len int;
BEGIN
	IF rec IS NULL OR left(rec, 4) <> 'hv1.' THEN
		RETURN rec;
	END IF;
	raw := decode(rpad(translate(substr(rec, 5), '-_', '+/'), ((length(rec) - 4 + 3) / 4) * 4, '='), 'base64');
	WHILE length(raw) > 0 LOOP
		len := ('x' || encode(substr(raw, 1, 4), 'hex'))::bit(32)::int;
		f := f || substr(raw, 5, len);
		raw := substr(raw, 5 + len);
	END LOOP;
	RETURN format('%s v%s f%s %s%s', convert_from(f[5], 'UTF8'),
		('x' || encode(f[4], 'hex'))::bit(32)::int, get_byte(f[6], 0),
		rtrim(convert_from(f[10], 'UTF8'), '.'),
		CASE WHEN length(f[11]) > 0 THEN ' cidrs ' || encode(f[11], 'hex') ELSE '' END);
END
$$;

-- A statement's first column, or SQLSTATE and message of its error.
CREATE FUNCTION t.try(cmd text) RETURNS text
	LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	result text;
BEGIN
	EXECUTE cmd INTO result;
	RETURN coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;

-- As try, with the hint.
CREATE FUNCTION t.try_hint(cmd text) RETURNS text
	LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE cmd;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ': ' || SQLERRM || ' | ' || hint;
END
$$;

-- read_secret as text: the server has ciphertext only.
CREATE FUNCTION t.read(name text, version int = NULL) RETURNS text
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT t.show(format('%s', vault.read_secret(name, version))) $$;

-- The nodes of an executed plan.
CREATE FUNCTION t.plan(cmd text) RETURNS SETOF text LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, BUFFERS off) ' || cmd LOOP
		RETURN NEXT regexp_replace(line, ' \(.*', '');
	END LOOP;
END
$$;

SELECT t.put('app/db', 'first'), t.put('app/db', 'second');
SELECT t.read('app/db');
