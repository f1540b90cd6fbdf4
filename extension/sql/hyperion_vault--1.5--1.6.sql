/* SPDX-License-Identifier: GPL-3.0-or-later */
\echo Use "ALTER EXTENSION hyperion_vault UPDATE TO '1.6'" to load this file. \quit

-- The audit's table: what nodes ship of their spools, and what is left of it when
-- records are deleted for their age. docs/AUDIT.md has what a record is.

-- Nothing has ever been in it.
ALTER TABLE vault.audit_log DROP COLUMN detail;
ALTER TABLE vault.audit_log ADD COLUMN database text;
ALTER TABLE vault.audit_log ADD COLUMN direct bool NOT NULL DEFAULT false;
ALTER TABLE vault.audit_log ADD COLUMN reason text;
ALTER TABLE vault.audit_log ADD COLUMN change bigint;
ALTER TABLE vault.audit_log ADD COLUMN statement bigint;
ALTER TABLE vault.audit_log ALTER COLUMN direct DROP DEFAULT;

CREATE INDEX changes_at ON vault.changes (at);

-- Of a node's heads one about every hour: behind one the chain can begin when what
-- is before it is deleted. kept_at is this server's time, at is the node's word.
CREATE TABLE vault.audit_anchors (
	node_id uuid NOT NULL,
	seq bigint NOT NULL CHECK (seq >= 1),
	hash bytea NOT NULL CHECK (octet_length(hash) = 32),
	public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
	signature bytea NOT NULL CHECK (octet_length(signature) = 64),
	at timestamptz NOT NULL,
	kept_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (node_id, seq)
);
ALTER TABLE vault.audit_anchors ENABLE ROW LEVEL SECURITY;
ALTER TABLE vault.audit_anchors FORCE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('vault.audit_anchors', '');

-- The number and the hash of the last record that is here of a node; 0 and 32 zero
-- bytes: none.
CREATE FUNCTION vault.audit_position(node uuid, OUT seq bigint, OUT hash bytea)
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT h.seq, h.hash INTO seq, hash FROM vault.audit_heads h WHERE h.node_id = node;
	IF NOT FOUND THEN
		seq := 0;
		hash := decode(repeat('00', 32), 'hex');
	END IF;
END
$$;

-- Stores the records first, first + 1, ... of a node, and the head that it has
-- signed over the last, if they go on from the last one that is here; with gap also
-- if numbers in between are missing. Else it stores nothing. Either way it answers as
-- audit_position(), so that the node goes on from there. hashes: one a record.
CREATE FUNCTION vault.audit_append(node uuid, first bigint, prev bytea, gap bool, at timestamptz[],
		actor text[], session_role text[], client_ip inet[], face text[], database text[], action text[],
		secret_name text[], version int[], outcome text[], direct bool[], reason text[], change bigint[],
		statement bigint[], hashes bytea[], head_at timestamptz, public_key bytea, signature bytea,
		OUT seq bigint, OUT hash bytea)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n int = coalesce(cardinality(hashes), 0);
	planted vault.audit_log[];
	other bigint;
BEGIN
	IF getdatabaseencoding() <> 'UTF8' THEN
		RAISE EXCEPTION 'the audit needs a database in UTF8' USING ERRCODE = 'feature_not_supported',
			HINT = 'Move the vault to a database that is made with ENCODING ''UTF8'', or set VAULT_AUDIT_SHIP=off.';
	END IF;
	IF n = 0 THEN
		SELECT p.seq, p.hash INTO seq, hash FROM vault.audit_position(node) p;
		RETURN;
	END IF;
	IF n > 10000 OR node IS NULL OR first IS NULL OR first < 1 OR gap IS NULL OR head_at IS NULL
		OR coalesce(octet_length(prev), 0) <> 32 OR coalesce(octet_length(signature), 0) <> 64
		OR EXISTS (SELECT FROM unnest(ARRAY[cardinality(at), cardinality(actor), cardinality(session_role),
			cardinality(client_ip), cardinality(face), cardinality(database), cardinality(action),
			cardinality(secret_name), cardinality(version), cardinality(outcome), cardinality(direct),
			cardinality(reason), cardinality(change), cardinality(statement)]) c WHERE c IS DISTINCT FROM n) THEN
		RAISE EXCEPTION 'this is no batch of audit records' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'It has at most 10000 records, each with all columns, and the head that is signed over the last.';
	END IF;

	-- The row of the head is the node's lock.
	INSERT INTO vault.audit_heads (node_id, seq, hash, public_key, at)
		VALUES (node, 0, decode(repeat('00', 32), 'hex'), audit_append.public_key, head_at) ON CONFLICT DO NOTHING;
	SELECT h.seq, h.hash INTO seq, hash FROM vault.audit_heads h WHERE h.node_id = node FOR UPDATE;
	IF ((first = seq + 1 AND prev = hash) OR (gap AND first > seq + 1)) IS NOT TRUE THEN
		DELETE FROM vault.audit_heads h WHERE h.node_id = node AND h.seq = 0;
		RETURN;
	END IF;
	IF first > seq + 1 THEN
		-- Nothing else will prove what is before the gap.
		INSERT INTO vault.audit_anchors (node_id, seq, hash, public_key, signature, at)
			SELECT h.node_id, h.seq, h.hash, h.public_key, h.signature, h.at FROM vault.audit_heads h
			WHERE h.node_id = node AND h.signature IS NOT NULL ON CONFLICT DO NOTHING;
	END IF;

	-- Those that are there ahead of the head somebody has put there. What is equal may stay.
	SELECT array_agg(l) INTO planted FROM vault.audit_log l WHERE l.node_id = node AND l.seq BETWEEN first AND first + n - 1;
	IF planted IS NOT NULL THEN
		DELETE FROM vault.audit_log l WHERE l.node_id = node AND l.seq BETWEEN first AND first + n - 1;
	END IF;
	INSERT INTO vault.audit_log (node_id, seq, at, actor, session_role, client_ip, face, action, secret_name, version,
			outcome, prev_hash, hash, database, direct, reason, change, statement)
		SELECT node, first + u.i - 1, u.at, nullif(u.actor, ''), nullif(u.session_role, ''), u.client_ip, u.face, u.action,
			nullif(u.secret_name, ''), nullif(u.version, 0), u.outcome, u.prev_hash, u.hash, nullif(u.database, ''),
			u.direct, nullif(u.reason, ''), nullif(u.change, 0), nullif(u.statement, 0)
		FROM unnest(at, actor, session_role, client_ip, face, database, action, secret_name, version, outcome,
			direct, reason, change, statement, hashes, array_prepend(prev, hashes)) WITH ORDINALITY
			u(at, actor, session_role, client_ip, face, database, action, secret_name, version, outcome,
			direct, reason, change, statement, hash, prev_hash, i)
		WHERE u.i <= n;
	IF planted IS NOT NULL THEN
		SELECT min(p.seq) INTO other FROM unnest(planted) p
			JOIN vault.audit_log l ON l.node_id = node AND l.seq = p.seq WHERE l IS DISTINCT FROM p;
	END IF;
	IF other IS NOT NULL THEN
		RAISE EXCEPTION 'audit record % of node % is there already and is another one', other, node
			USING ERRCODE = 'unique_violation',
			HINT = 'Somebody has written to vault.audit_log, or another node runs with a copy of this one''s directory. Keep both, and see hyperion-vault audit verify.';
	END IF;

	seq := first + n - 1;
	SELECT l.hash INTO hash FROM vault.audit_log l WHERE l.node_id = node AND l.seq = audit_append.seq;
	UPDATE vault.audit_heads h SET seq = audit_append.seq, hash = audit_append.hash,
			public_key = audit_append.public_key, signature = audit_append.signature, at = head_at
		WHERE h.node_id = node;
	INSERT INTO vault.audit_anchors (node_id, seq, hash, public_key, signature, at)
		SELECT node, audit_append.seq, audit_append.hash, audit_append.public_key, audit_append.signature, head_at
		WHERE coalesce((SELECT head_at >= a.at + interval '1 hour' OR head_at < a.at OR audit_append.seq >= a.seq + 50000
			FROM vault.audit_anchors a WHERE a.node_id = node ORDER BY a.seq DESC LIMIT 1), true)
		ON CONFLICT DO NOTHING;
END
$$;

-- Deletes records that are older than before, of each node up to an anchor, which
-- stays and is where its chain then begins. Some 100,000 a call: call it until it
-- answers 0. When no record is left to delete it is the turn of vault.changes: what is
-- older than before and than every record that is left. Until then a record may name
-- it, or show by naming none that it came through no node.
CREATE FUNCTION vault.prune_audit(before timestamptz) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	most CONSTANT bigint = 100000;
	chain record;
	upto bigint;
	gone bigint;
	deleted bigint = 0;
BEGIN
	-- From status(), which is C: before the library is loaded a session could give
	-- itself a setting of that name.
	IF coalesce(before > now() - make_interval(secs => (vault.status() ->> 'audit_min_age_secs')::int), true) THEN
		RAISE EXCEPTION 'audit records of that age are kept' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'hyperion_vault.audit_min_age in the server''s configuration is the age from which on they may be deleted.';
	END IF;
	-- One at a time; of others only VACUUM and ANALYZE of this small table wait.
	LOCK TABLE vault.audit_anchors IN SHARE UPDATE EXCLUSIVE MODE;
	-- Of a node that is no more the last head will do, later: its time is the node's word.
	INSERT INTO vault.audit_anchors (node_id, seq, hash, public_key, signature, at)
		SELECT h.node_id, h.seq, h.hash, h.public_key, h.signature, h.at FROM vault.audit_heads h
		WHERE h.seq > 0 AND h.signature IS NOT NULL AND h.at <= before ON CONFLICT DO NOTHING;
	FOR chain IN
		SELECT h.node_id, h.seq AS head, (SELECT l.seq FROM vault.audit_log l WHERE l.node_id = h.node_id
			ORDER BY l.seq LIMIT 1) AS oldest
		FROM vault.audit_heads h ORDER BY h.node_id
	LOOP
		-- The last anchor within what is left of the call, else the first one.
		SELECT coalesce(max(a.seq) FILTER (WHERE a.seq - chain.oldest < most - deleted), min(a.seq)) INTO upto
			FROM vault.audit_anchors a
			WHERE a.node_id = chain.node_id AND a.seq BETWEEN chain.oldest AND chain.head
				AND a.at <= before AND a.kept_at <= before;
		CONTINUE WHEN upto IS NULL OR deleted > 0 AND upto - chain.oldest >= most - deleted;
		DELETE FROM vault.audit_log l WHERE l.node_id = chain.node_id AND l.seq <= upto;
		GET DIAGNOSTICS gone = ROW_COUNT;
		DELETE FROM vault.audit_anchors a WHERE a.node_id = chain.node_id AND a.seq < upto;
		deleted := deleted + gone;
	END LOOP;
	IF deleted = 0 THEN
		DELETE FROM vault.changes c WHERE c.id IN (SELECT o.id FROM vault.changes o
			WHERE o.at < least(before, (SELECT min(l.at) FROM vault.audit_log l)) ORDER BY o.at LIMIT most);
		GET DIAGNOSTICS deleted = ROW_COUNT;
	END IF;
	RETURN deleted;
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
		'vault.bootstrap_token(bytea)', 'vault.lockout(inet, int)',
		'vault.node_reschedule(text, timestamptz, text)',
		'vault.claim_rotation(text, int)', 'vault.complete_rotation(bigint, uuid, int, text)',
		'vault.fail_rotation(bigint, uuid, text)', 'vault.rotation_status()',
		'vault.audit_position(uuid)', 'vault.prune_audit(timestamptz)',
		'vault.audit_append(uuid, bigint, bytea, bool, timestamptz[], text[], text[], inet[], text[], text[], text[],
			text[], int[], text[], bool[], text[], bigint[], bigint[], bytea[], timestamptz, bytea, bytea)']::regprocedure[]
	LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', f, role);
	END LOOP;
END
$$;

------------------------------------------------------------------- privileges
-- As in 1.0 and 1.1; a table as well.
DO $$
DECLARE
	owner regrole = (SELECT e.extowner FROM pg_extension e WHERE e.extname = 'hyperion_vault');
	f regprocedure;
	cmd text;
BEGIN
	EXECUTE format('ALTER TABLE vault.audit_anchors OWNER TO %s', owner);
	FOR cmd IN
		SELECT format('REVOKE ALL ON TABLE vault.audit_anchors FROM %s',
				CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
			FROM pg_class c, aclexplode(c.relacl) a
			WHERE c.oid = 'vault.audit_anchors'::regclass AND a.grantee <> c.relowner
	LOOP
		EXECUTE cmd;
	END LOOP;
	FOREACH f IN ARRAY ARRAY['vault.audit_position(uuid)', 'vault.prune_audit(timestamptz)',
		'vault.audit_append(uuid, bigint, bytea, bool, timestamptz[], text[], text[], inet[], text[], text[], text[],
			text[], int[], text[], bool[], text[], bigint[], bigint[], bytea[], timestamptz, bytea, bytea)']::regprocedure[]
	LOOP
		EXECUTE format('ALTER FUNCTION %s OWNER TO %s', f, owner);
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

SELECT vault.run_outside_script(format('GRANT EXECUTE ON FUNCTION vault.audit_position(uuid),'
		' vault.prune_audit(timestamptz), vault.audit_append(uuid, bigint, bytea, bool, timestamptz[], text[], text[], inet[], text[], text[], text[],'
		' text[], int[], text[], bool[], text[], bigint[], bigint[], bytea[], timestamptz, bytea, bytea) TO %s%s',
		a.grantee::regrole, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
	FROM pg_proc p, aclexplode(p.proacl) a
	WHERE p.oid = 'vault.login_verifier(text)'::regprocedure
		AND a.privilege_type = 'EXECUTE' AND a.grantee NOT IN (0, p.proowner)
	ORDER BY a.grantee;

DROP FUNCTION vault.run_outside_script(text);
