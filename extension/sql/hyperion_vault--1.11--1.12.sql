/* SPDX-License-Identifier: GPL-3.0-or-later */
\echo Use "ALTER EXTENSION hyperion_vault UPDATE TO '1.12'" to load this file. \quit

-- Records come in the order of their time: blocks know from when to when theirs are, and
-- no record costs an entry. Somebody may have dropped the one of before.
DROP INDEX IF EXISTS vault.audit_log_at;
CREATE INDEX audit_log_at ON vault.audit_log USING brin (at) WITH (autosummarize = on);

-- Changes go when they are older than each chain's first record. Else as in 1.6.
CREATE OR REPLACE FUNCTION vault.prune_audit(before timestamptz) RETURNS bigint
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
			WHERE o.at < least(before, (SELECT min(f.at) FROM vault.audit_heads h CROSS JOIN LATERAL
				(SELECT l.at FROM vault.audit_log l WHERE l.node_id = h.node_id ORDER BY l.seq LIMIT 1) f))
			ORDER BY o.at LIMIT most);
		GET DIAGNOSTICS deleted = ROW_COUNT;
	END IF;
	RETURN deleted;
END
$$;
