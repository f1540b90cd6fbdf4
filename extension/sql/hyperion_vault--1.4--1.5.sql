/* SPDX-License-Identifier: GPL-3.0-or-later */
\echo Use "ALTER EXTENSION hyperion_vault UPDATE TO '1.5'" to load this file. \quit

-- Automatic rotation. A tick queues what is due; any node claims a job, and
-- completes it in the transaction that stores the new version. All times are the
-- server's.

-- Until then a job is left alone: claimed, or failed a moment ago.
ALTER TABLE vault.rotation_jobs ADD COLUMN retry_at timestamptz;
CREATE INDEX rotation_jobs_completed ON vault.rotation_jobs (completed_at)
	WHERE completed_at IS NOT NULL;

-- As in 1.0, but a job that was given up is not queued anew at once.
CREATE OR REPLACE FUNCTION vault.enqueue_due_rotations() RETURNS int
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
				WHERE j.secret_id = s.id AND (j.completed_at IS NULL
					OR j.error IS NOT NULL AND j.completed_at > now() - interval '1 hour'))
		FOR NO KEY UPDATE OF s SKIP LOCKED
		ON CONFLICT (secret_id) WHERE completed_at IS NULL DO NOTHING;
	GET DIAGNOSTICS added = ROW_COUNT;
	IF added > 0 THEN
		PERFORM pg_notify('vault_rotation', added::text);
	END IF;
	RETURN added;
END
$$;

-- Jobs for a node to do, oldest first, each for 15 seconds: a node that does not
-- complete its job by then has lost it to whoever claims it next, for each claim
-- has a token of its own. After ten attempts a job is given up; its error stays.
CREATE FUNCTION vault.claim_rotation(node text, most int, OUT job bigint, OUT token uuid, OUT name text,
		OUT current_version int)
	RETURNS SETOF record
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER ROWS 10
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	IF NOT (vault.status() ->> 'rotation_enabled')::bool THEN
		RETURN;
	END IF;
	-- Of a secret that was deleted, rotated or put off by a transaction that is older
	-- than the job, and did not see it.
	DELETE FROM vault.rotation_jobs j WHERE j.id IN (SELECT o.id FROM vault.rotation_jobs o
		WHERE o.completed_at IS NULL AND NOT EXISTS (SELECT FROM vault.secrets s
			WHERE s.id = o.secret_id AND s.next_rotation_at <= now())
		FOR UPDATE OF o SKIP LOCKED);
	UPDATE vault.rotation_jobs j SET completed_at = now(), claim_token = NULL,
			error = coalesce(j.error, 'no node has finished it')
		WHERE j.id IN (SELECT o.id FROM vault.rotation_jobs o
			WHERE o.completed_at IS NULL AND o.attempts >= 10 AND o.retry_at <= now()
			FOR UPDATE SKIP LOCKED);
	RETURN QUERY
		WITH free AS MATERIALIZED (
			SELECT o.id FROM vault.rotation_jobs o
			WHERE o.completed_at IS NULL AND o.attempts < 10 AND coalesce(o.retry_at <= now(), true)
			ORDER BY o.enqueued_at, o.id LIMIT claim_rotation.most
			FOR UPDATE SKIP LOCKED)
		UPDATE vault.rotation_jobs j SET claimed_at = now(), claimed_by = claim_rotation.node,
				claim_token = gen_random_uuid(), attempts = j.attempts + 1,
				retry_at = now() + interval '15 seconds'
			FROM free f, vault.secrets s
			WHERE j.id = f.id AND s.id = j.secret_id
			RETURNING j.id, j.claim_token, s.name, s.current_version;
END
$$;

-- Stores a rotation's new version, sealed for what node_next_version() has reserved
-- in this transaction, and completes the job: only while the claim holds and the
-- secret is at the version that the claim has seen.
CREATE FUNCTION vault.complete_rotation(job bigint, token uuid, seen int, record text) RETURNS int
	AS 'MODULE_PATHNAME', 'vault_complete_rotation'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE COST 1000;

-- Says why a claimed job was not done. It can be claimed again after a second or
-- two, then after twice as long each time, five minutes at most; the tenth time it
-- is given up. True: it was; NULL: the claim did not hold any more.
CREATE FUNCTION vault.fail_rotation(job bigint, token uuid, reason text) RETURNS bool
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	given_up bool;
BEGIN
	UPDATE vault.rotation_jobs j SET error = left(reason, 1000), claim_token = NULL,
			completed_at = CASE WHEN j.attempts >= 10 THEN now() END,
			retry_at = now() + least(interval '5 minutes', make_interval(secs => 2 ^ least(j.attempts, 10)))
				* (0.5 + random() / 2)
		WHERE j.id = job AND j.claim_token = token AND j.completed_at IS NULL
		RETURNING j.completed_at IS NOT NULL INTO given_up;
	RETURN given_up;
END
$$;

-- How many jobs wait or are under way, how many secrets' last attempts failed, and
-- since when the oldest job waits.
CREATE FUNCTION vault.rotation_status(OUT open bigint, OUT failing bigint, OUT oldest timestamptz)
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT count(*) FILTER (WHERE j.completed_at IS NULL),
			count(DISTINCT j.secret_id) FILTER (WHERE j.error IS NOT NULL),
			min(j.enqueued_at) FILTER (WHERE j.completed_at IS NULL)
		INTO open, failing, oldest
		FROM vault.rotation_jobs j
		WHERE j.completed_at IS NULL OR j.error IS NOT NULL
			AND j.completed_at > now() - interval '1 hour'
			AND EXISTS (SELECT FROM vault.secrets s WHERE s.id = j.secret_id AND s.next_rotation_at <= now());
END
$$;

-- As update_secret()'s next_rotation_at.
CREATE FUNCTION vault.node_reschedule(name text, next_rotation_at timestamptz, actor text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM vault.update_secret(name, next_rotation_at => node_reschedule.next_rotation_at);
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
		'vault.fail_rotation(bigint, uuid, text)', 'vault.rotation_status()']::regprocedure[]
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
	FOREACH f IN ARRAY ARRAY['vault.claim_rotation(text, int)', 'vault.complete_rotation(bigint, uuid, int, text)',
		'vault.fail_rotation(bigint, uuid, text)', 'vault.rotation_status()',
		'vault.node_reschedule(text, timestamptz, text)']::regprocedure[]
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

SELECT vault.run_outside_script(format('GRANT EXECUTE ON FUNCTION vault.claim_rotation(text, int),'
		' vault.complete_rotation(bigint, uuid, int, text), vault.fail_rotation(bigint, uuid, text),'
		' vault.rotation_status(), vault.node_reschedule(text, timestamptz, text) TO %s%s',
		a.grantee::regrole, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END))
	FROM pg_proc p, aclexplode(p.proacl) a
	WHERE p.oid = 'vault.login_verifier(text)'::regprocedure
		AND a.privilege_type = 'EXECUTE' AND a.grantee NOT IN (0, p.proowner)
	ORDER BY a.grantee;

DROP FUNCTION vault.run_outside_script(text);
