-- What nodes ship: audit_position, audit_append, prune_audit. A node here is a
-- number, and the hash of its record n a function of both.
SELECT vault.grant_service_role('regress_hv_service');
CREATE FUNCTION t.node(int) RETURNS uuid LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	RETURN ('00000000-0000-4000-8000-' || lpad($1::text, 12, '0'))::uuid;
CREATE FUNCTION t.hash(node int, seq bigint) RETURNS bytea LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	RETURN CASE WHEN seq = 0 THEN decode(repeat('00', 32), 'hex') ELSE sha256(convert_to(node || '/' || seq, 'UTF8')) END;
CREATE FUNCTION t.field(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	RETURN int4send(octet_length($1)) || $1;
-- The canonical bytes of a record, and its hash.
CREATE FUNCTION t.record(node int, seq bigint, at timestamptz, face text, addr bytea = '\x0a000001', actor bytea = 'app') RETURNS bytea
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	RETURN t.field('\x01') || t.field(uuid_send(t.node(node))) || t.field(int8send(seq)) ||
		t.field(int8send((extract(epoch FROM at) * 1000000)::bigint)) || t.field(actor) || t.field('') || t.field(addr) ||
		t.field(face::bytea) || t.field('db') || t.field('read') || t.field('app/db') || t.field(int4send(0)) || t.field('ok') ||
		t.field('\x01') || t.field('') || t.field(int8send(0)) || t.field(int8send(-1)) || t.hash(node, seq);
-- Records a to b of a node, a millisecond apart, the head at the time of the last. Answers
-- with the number at which the table is then, and whose hash that is.
CREATE FUNCTION t.ship(node int, a bigint, b bigint, start timestamptz = '2026-01-01 00:00+00', prev bytea = NULL,
		gap bool = false, face text = 'sql') RETURNS text
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	one bytea = t.record(node, 0, start, face);	-- the others have another number, time and hash
	usecs bigint = extract(epoch FROM start) * 1000000;
	r record;
BEGIN
	SELECT p.* INTO r FROM (SELECT string_agg(substr(one, 1, 29) || int8send(i) || substr(one, 38, 4) || int8send(usecs + i * 1000)
			|| substr(one, 50, octet_length(one) - 81) || t.hash(node, i), '' ORDER BY i) AS records FROM generate_series(a, b) i) s,
		vault.audit_append(t.node(node), a, (b - a + 1)::int, coalesce(prev, t.hash(node, a - 1)), gap, s.records,
			start + make_interval(secs => b / 1000.0), sha256('key'), sha512('signature')) p;
	RETURN r.seq || CASE WHEN r.hash = t.hash(node, r.seq) THEN '' ELSE ' of another' END;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;

-- Nobody but the service role, and the tables are the owner's.
SET ROLE regress_hv_app;
SELECT vault.audit_position(t.node(1));
SELECT t.ship(1, 1, 2);
SELECT vault.prune_audit('2026-01-01');
SELECT count(*) FROM vault.audit_anchors;
SET SESSION AUTHORIZATION regress_hv_service;
SELECT count(*) FROM vault.audit_log;
SELECT count(*) FROM vault.audit_anchors;

-- In order, exactly once: what does not go on from where the table stands is not stored.
SELECT seq, encode(hash, 'hex') AS hash FROM vault.audit_position(t.node(1));
SELECT t.ship(1, 2, 3) AS too_early, t.ship(1, 1, 2, prev => t.hash(2, 1)) AS of_another;
SELECT t.ship(1, 1, 3) AS first, t.ship(1, 1, 3) AS again, t.ship(1, 3, 5) AS overlapping, t.ship(1, 4, 5) AS next, t.ship(1, 7, 8) AS missing;
SELECT t.ship(1, 6, 6, prev => t.hash(1, 4)) AS other_prev;
SELECT p.seq, p.hash = t.hash(1, 5) AS same FROM vault.audit_position(t.node(1)) p;
-- With nothing to store it only asks.
SELECT p.seq, p.hash = t.hash(1, 5) AS same FROM vault.audit_append(t.node(1), NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL) p;
SELECT p.seq FROM vault.audit_append(t.node(9), 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL) p;
-- A gap is a node's word that what is missing is gone.
SELECT t.ship(1, 6, 7, gap => true) AS no_gap, t.ship(1, 5, 7, gap => true) AS overlapping, t.ship(1, 9, 10, gap => true) AS gap, t.ship(2, 4, 5, gap => true) AS first_of_all;
RESET SESSION AUTHORIZATION;
-- The head that was before it is kept: no later one proves what is there.
SELECT node_id, seq FROM vault.audit_anchors ORDER BY 1, 2;
SELECT count(*) FROM vault.audit_heads WHERE node_id = t.node(9);
SELECT seq, at, actor, session_role, client_ip, face, database, action, secret_name, version, outcome, direct, reason, change, statement,
	prev_hash = t.hash(1, seq - 1) AS prev, hash = t.hash(1, seq) AS hash FROM vault.audit_log WHERE node_id = t.node(1) ORDER BY seq;
SELECT node_id, seq, at, octet_length(public_key) AS key, octet_length(signature) AS signature FROM vault.audit_heads ORDER BY node_id;
-- status tells of them, the latest first, without hashes and keys.
SELECT jsonb_agg(jsonb_build_object('node_id', h.node_id, 'shipped', h.seq, 'at', h.at) ORDER BY h.at DESC, h.node_id)
	= vault.status()->'audit_nodes' AS told FROM vault.audit_heads h;

-- What is no batch.
SELECT what, t.try_hint(format('SELECT vault.audit_append(%L, %s, %s, %L, false, %L, now(), sha256(%L), sha512(%L))', t.node(1), a, n, t.hash(1, 10), records, '', ''))
	FROM (SELECT t.record(1, 11, '2026-01-01 00:00+00', 'sql') AS r) r, LATERAL (VALUES
	(1, 'no number', 0, 1, r), (2, 'nothing', 11, 1, ''), (3, 'one is missing', 11, 2, r), (4, 'one too many', 11, 1, r || r), (5, 'cut off', 11, 1, substr(r, 1, 150)),
	(6, 'another node''s', 11, 1, t.record(2, 11, '2026-01-01 00:00+00', 'sql')), (7, 'another number', 11, 1, t.record(1, 12, '2026-01-01 00:00+00', 'sql')),
	(8, 'another format', 11, 1, overlay(r PLACING '\x02' FROM 5)), (9, 'no length', 11, 1, overlay(r PLACING '\xffffffff' FROM 6)),
	(10, 'no address', 11, 1, t.record(1, 11, '2026-01-01 00:00+00', 'sql', '\x0a00')),
	(11, 'no text', 11, 1, t.record(1, 11, '2026-01-01 00:00+00', 'sql', actor => '\xff'))) v(i, what, a, n, records) ORDER BY i;
SELECT t.try_hint(format('SELECT vault.audit_append(%L, 11, 1, %L, false, NULL, now(), sha256(%L), sha512(%L))', t.node(1), t.hash(1, 10), '', ''));
SELECT t.ship(1, 11, 11, NULL) AS no_time, t.ship(1, 11, 10011) AS too_many;
-- Texts are what they are in the record, whatever the session's are in.
BEGIN;
SET LOCAL client_encoding = 'LATIN1';
SELECT p.seq FROM vault.audit_append(t.node(1), 11, 1, t.hash(1, 10), false, t.record(1, 11, '2026-01-01 00:00+00', 'sql', actor => '\xc3a4',
	addr => '\x20010db8000000000000000000000001'), now(), sha256(''), sha512('')) p;
SELECT convert_to(actor, 'UTF8') AS actor, client_ip, current_setting('client_encoding') FROM vault.audit_log WHERE node_id = t.node(1) AND seq = 11;
ROLLBACK;
-- Short or long.
BEGIN;
SELECT p.seq FROM vault.audit_append(t.node(1), 11, 5, t.hash(1, 10), false, (SELECT string_agg(t.record(1, 10 + i, '2026-01-01 00:00+00', 'sql',
	actor => convert_to(repeat(U&'\00e9', n / 2) || repeat('x', n % 2), 'UTF8')), '' ORDER BY i) FROM (VALUES (1, 1), (2, 125), (3, 126), (4, 127), (5, 255)) v(i, n)),
	now(), sha256(''), sha512('')) p;
SELECT seq, octet_length(actor) AS bytes, actor = repeat(U&'\00e9', octet_length(actor) / 2) || repeat('x', octet_length(actor) % 2) AS same, secret_name,
	prev_hash = t.hash(1, seq - 1) AS prev, hash = t.hash(1, seq) AS hash FROM vault.audit_log WHERE node_id = t.node(1) AND seq > 10 ORDER BY seq;
ROLLBACK;

-- A planted row is an alarm, and nothing of the batch is stored; an equal one may stay.
INSERT INTO vault.audit_log (node_id, seq, at, face, action, outcome, direct, prev_hash, hash)
	VALUES (t.node(1), 12, now(), 'sql', 'read', 'ok', true, t.hash(1, 11), t.hash(1, 12));
SELECT t.ship(1, 11, 13);
SELECT max(seq), (SELECT seq FROM vault.audit_position(t.node(1))) FROM vault.audit_log WHERE node_id = t.node(1) AND seq <> 12;
UPDATE vault.audit_log l SET (at, actor, client_ip, database, secret_name, statement) =
	(SELECT at + interval '2 milliseconds', actor, client_ip, database, secret_name, statement FROM vault.audit_log WHERE node_id = t.node(1) AND seq = 10)
	WHERE node_id = t.node(1) AND seq = 12;
SELECT t.ship(1, 11, 13);
SELECT count(*) FROM vault.audit_log WHERE node_id = t.node(1) AND seq > 10;
-- Restored to before its last records: the node ships them again.
DELETE FROM vault.audit_log WHERE node_id = t.node(1) AND seq > 5;
UPDATE vault.audit_heads SET seq = 5, hash = t.hash(1, 5) WHERE node_id = t.node(1);
SELECT t.ship(1, 14, 14) AS where_it_stands, t.ship(1, 6, 14) AS again;

-- Triggers and constraints of the operator's hold, and a column that he added or changed does no harm.
CREATE TABLE t.fired (what text, seq bigint);
CREATE FUNCTION t.fire() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_LEVEL = 'STATEMENT' THEN
		INSERT INTO t.fired VALUES (TG_WHEN, (SELECT max(l.seq) FROM vault.audit_log l WHERE l.node_id = t.node(5)));
		RETURN NULL;
	END IF;
	INSERT INTO t.fired VALUES (TG_WHEN, NEW.seq);
	IF TG_WHEN = 'BEFORE' AND NEW.seq = 2 THEN
		RETURN NULL;
	END IF;
	NEW.reason = 'by trigger';
	RETURN NEW;
END
$$;
BEGIN;
ALTER TABLE vault.audit_log ADD COLUMN own text, ADD COLUMN gone text DEFAULT 'x', ADD COLUMN given text NOT NULL DEFAULT 'default',
	ADD COLUMN made bigint GENERATED ALWAYS AS (seq * 2) STORED;
ALTER TABLE vault.audit_log DROP COLUMN gone;
CREATE TRIGGER a BEFORE INSERT ON vault.audit_log FOR EACH ROW EXECUTE FUNCTION t.fire();
CREATE TRIGGER b AFTER INSERT ON vault.audit_log FOR EACH ROW EXECUTE FUNCTION t.fire();
CREATE TRIGGER c BEFORE INSERT ON vault.audit_log EXECUTE FUNCTION t.fire();
CREATE TRIGGER d AFTER INSERT ON vault.audit_log EXECUTE FUNCTION t.fire();
SELECT t.ship(5, 1, 3);
SELECT * FROM t.fired;
SELECT seq, reason, actor, own, given, made FROM vault.audit_log WHERE node_id = t.node(5) ORDER BY seq;
ROLLBACK;
-- A trigger before a row sees those before it, and one with a table of the new rows has them all.
CREATE FUNCTION t.look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_LEVEL = 'STATEMENT' THEN
		INSERT INTO t.fired SELECT 'NEW', count(*) FROM new_rows;
		RETURN NULL;
	END IF;
	NEW.change = (SELECT count(*) FROM vault.audit_log l WHERE l.node_id = NEW.node_id);
	RETURN NEW;
END
$$;
BEGIN;
CREATE TRIGGER a BEFORE INSERT ON vault.audit_log FOR EACH ROW EXECUTE FUNCTION t.look();
CREATE TRIGGER d AFTER INSERT ON vault.audit_log REFERENCING NEW TABLE AS new_rows EXECUTE FUNCTION t.look();
SELECT t.ship(5, 1, 600);
SELECT count(*) FILTER (WHERE change = seq - 1), (SELECT seq FROM t.fired) AS new_rows FROM vault.audit_log WHERE node_id = t.node(5);
ROLLBACK;
-- What has no rows of its own is refused, and a partition has its bounds.
BEGIN;
CREATE TABLE t.parent (LIKE vault.audit_log) PARTITION BY RANGE (seq);
ALTER TABLE t.parent ATTACH PARTITION vault.audit_log FOR VALUES FROM (0) TO (10000);
SELECT t.ship(5, 1, 2) AS within, t.ship(5, 10000, 10000, gap => true) AS beyond;
ROLLBACK;
BEGIN;
ALTER TABLE vault.audit_log RENAME TO audit_log_before;
CREATE TABLE vault.audit_log (LIKE vault.audit_log_before) PARTITION BY RANGE (seq);
SELECT t.ship(5, 1, 3) AS partitioned;
ROLLBACK;
BEGIN;
ALTER TABLE vault.audit_log ADD CONSTRAINT none_of_rest CHECK (face <> 'rest');
SELECT t.ship(5, 1, 600, face => 'rest') AS refused, t.ship(5, 1, 600) AS stored;
ALTER TABLE vault.audit_log ALTER COLUMN statement TYPE numeric;
SELECT t.ship(5, 601, 602) AS changed;
ALTER TABLE vault.audit_log DROP COLUMN statement;
SELECT t.ship(5, 601, 602) AS dropped;
SELECT count(*), count(DISTINCT hash) FROM vault.audit_log WHERE node_id = t.node(5);
ROLLBACK;

-- Every hour of the node's time, and every 50,000 records, a head is an anchor.
SELECT t.ship(3, 1, 10), t.ship(3, 11, 20, '2026-01-01 00:59+00'), t.ship(3, 21, 30, '2026-01-01 01:00+00'), t.ship(3, 31, 40, '2025-12-31 23:00+00');
SELECT count(t.ship(4, i * 10000 + 1, (i + 1) * 10000)) FROM generate_series(0, 12) i;
SELECT node_id, seq, at, hash = t.hash(right(node_id::text, 3)::int, seq) AS hash FROM vault.audit_anchors
	WHERE node_id >= t.node(3) ORDER BY 1, 2;

-- Deleting by age: not sooner than the configuration says, and a session cannot say so.
SET SESSION AUTHORIZATION regress_hv_service;
SELECT t.try_hint(format('SELECT vault.prune_audit(%s)', a)) FROM unnest(ARRAY['now()', 'NULL', $$now() - interval '89 days'$$]) a;
SET hyperion_vault.audit_min_age = 0;
-- All was kept just now, whatever the nodes say of its age.
SELECT vault.prune_audit(now() - interval '91 days');
RESET SESSION AUTHORIZATION;
SELECT count(*) FROM vault.audit_log;
UPDATE vault.audit_anchors SET kept_at = '2026-01-02' WHERE node_id >= t.node(3);
UPDATE vault.audit_anchors SET at = now(), kept_at = now() WHERE node_id = t.node(3) AND seq = 40;
UPDATE vault.audit_heads SET at = now() WHERE node_id IN (t.node(1), t.node(3));
INSERT INTO vault.audit_log (node_id, seq, at, face, action, outcome, direct, prev_hash, hash)
	VALUES (t.node(4), 130001, now(), 'sql', 'read', 'ok', true, t.hash(4, 130000), t.hash(4, 130001));
-- Times of later records say nothing of how old the changes are, nor do records of no node.
UPDATE vault.audit_log SET at = '2020-01-01' WHERE node_id = t.node(1) AND seq = (SELECT max(seq) FROM vault.audit_log WHERE node_id = t.node(1));
INSERT INTO vault.audit_log (node_id, seq, at, face, action, outcome, direct, prev_hash, hash)
	VALUES (t.node(999), 1, '2020-01-01', 'sql', 'read', 'ok', true, t.hash(999, 0), t.hash(999, 1));
DELETE FROM vault.changes;
INSERT INTO vault.changes (secret_id, action, at) SELECT gen_random_uuid(), 'x', i FROM unnest(ARRAY[
	'2025-12-01', '2026-01-01', '2026-01-03', now() - interval '1 day']::timestamptz[]) i;
SET SESSION AUTHORIZATION regress_hv_service;
-- Node by node up to an anchor, about 100,000 rows a call; the changes come last.
SELECT vault.prune_audit(now() - interval '91 days') FROM generate_series(1, 4);
RESET SESSION AUTHORIZATION;
SELECT node_id, min(seq), max(seq), count(*) FROM vault.audit_log GROUP BY 1 ORDER BY 1;
SELECT node_id, seq FROM vault.audit_anchors ORDER BY 1, 2;
SELECT seq, (SELECT seq FROM vault.audit_position(t.node(4))) AS position FROM vault.audit_heads WHERE node_id = t.node(4);
SELECT at < '2026-01-01' AS old FROM vault.changes ORDER BY at;
SELECT t.ship(4, 130001, 130002) AS planted, t.ship(3, 41, 41) AS goes_on;

DELETE FROM vault.audit_log;
DELETE FROM vault.audit_heads;
DELETE FROM vault.audit_anchors;
DELETE FROM vault.changes;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA vault FROM regress_hv_service;
-- Another encoding could not hold what was hashed.
CREATE DATABASE regress_hv_latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C';
\c regress_hv_latin
CREATE EXTENSION hyperion_vault;
\set VERBOSITY terse
SELECT vault.audit_append(gen_random_uuid(), 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
\c contrib_regression
DROP DATABASE regress_hv_latin;
