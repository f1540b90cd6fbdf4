/* SPDX-License-Identifier: GPL-3.0-or-later */
\echo Use "ALTER EXTENSION hyperion_vault UPDATE TO '1.10'" to load this file. \quit

-- Audit records come as the bytes that their hashes are over, and are stored in C. A
-- node of before keeps its records until it is a newer one.
DROP FUNCTION vault.audit_append(uuid, bigint, bytea, bool, timestamptz[], text[], text[], inet[], text[], text[],
	text[], text[], int[], text[], bool[], text[], bigint[], bigint[], bytea[], timestamptz, bytea, bytea);

-- Rows of audit_log from n records, the first of which has this number and follows prev.
-- For audit_append().
CREATE FUNCTION vault.audit_store(node uuid, first bigint, n int, prev bytea, records bytea) RETURNS void
	AS 'MODULE_PATHNAME', 'vault_audit_store'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

-- Stores the records first, first + 1, ... of a node, and the head that it has
-- signed over the last, if they go on from the last one that is here; with gap also
-- if numbers in between are missing. Else it stores nothing. Either way it answers as
-- audit_position(), so that the node goes on from there. records: n of them, each its
-- canonical bytes with its hash behind.
CREATE FUNCTION vault.audit_append(node uuid, first bigint, n int, prev bytea, gap bool, records bytea,
		head_at timestamptz, public_key bytea, signature bytea, OUT seq bigint, OUT hash bytea)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	planted vault.audit_log[];
	other bigint;
BEGIN
	IF getdatabaseencoding() <> 'UTF8' THEN
		RAISE EXCEPTION 'the audit needs a database in UTF8' USING ERRCODE = 'feature_not_supported',
			HINT = 'Move the vault to a database that is made with ENCODING ''UTF8'', or set VAULT_AUDIT_SHIP=off.';
	END IF;
	IF coalesce(n, 0) = 0 THEN
		SELECT p.seq, p.hash INTO seq, hash FROM vault.audit_position(node) p;
		RETURN;
	END IF;
	IF n NOT BETWEEN 1 AND 10000 OR node IS NULL OR first IS NULL OR first < 1 OR gap IS NULL OR records IS NULL OR head_at IS NULL
		OR coalesce(octet_length(prev), 0) <> 32 OR coalesce(octet_length(signature), 0) <> 64 THEN
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
	PERFORM vault.audit_store(node, first, n, prev, records);
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
		'vault.audit_append(uuid, bigint, int, bytea, bool, bytea, timestamptz, bytea, bytea)',
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
	FOREACH f IN ARRAY ARRAY['vault.audit_append(uuid, bigint, int, bytea, bool, bytea, timestamptz, bytea, bytea)',
		'vault.audit_store(uuid, bigint, int, bytea, bytea)']::regprocedure[]
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

SELECT vault.run_outside_script(format('GRANT EXECUTE ON FUNCTION vault.audit_append(uuid, bigint, int, bytea, bool, bytea, timestamptz, bytea, bytea) TO %s%s',
		a.grantee::regrole, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
	FROM pg_proc p, aclexplode(p.proacl) a
	WHERE p.oid = 'vault.login_verifier(text)'::regprocedure
		AND a.privilege_type = 'EXECUTE' AND a.grantee NOT IN (0, p.proowner)
	ORDER BY a.grantee;

DROP FUNCTION vault.run_outside_script(text);
