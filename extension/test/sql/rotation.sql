-- Automatic rotation: what is due and when, claims and their fences, attempts,
-- what becomes of superseded versions.
SELECT vault.grant_service_role('regress_hv_service');
-- As a node does it: one transaction that reserves, seals and completes.
CREATE FUNCTION t.complete(name text, job bigint, token uuid, seen int) RETURNS int
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r record;
BEGIN
	SELECT * INTO r FROM vault.node_next_version(name, 'rotate', 'tester');
	RETURN vault.complete_rotation(job, token, seen, t.record(name, r.secret_id, r.version, 'rotated'));
END
$$;
CREATE FUNCTION t.auto(name text, grace interval = NULL, every interval = '30 days') RETURNS int
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT vault.create_secret(name, 'automatic', t.seal(name, 'first', 'create'), every, grace) $$;
CREATE FUNCTION t.due(prefix text) RETURNS void LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ UPDATE vault.secrets SET next_rotation_at = now() - interval '1 second' WHERE starts_with(name, prefix) AND kind = 'automatic' $$;
CREATE VIEW t.jobs AS SELECT s.name, j.claimed_by, j.claim_token IS NOT NULL AS claimed, j.attempts,
		j.completed_at IS NOT NULL AS done, j.error, j.retry_at > now() AS later
	FROM vault.rotation_jobs j JOIN vault.secrets s ON s.id = j.secret_id ORDER BY j.id;
DELETE FROM vault.rotation_jobs;
UPDATE vault.secrets SET next_rotation_at = NULL WHERE next_rotation_at IS NOT NULL;

-- Nobody but the service role.
SET ROLE regress_hv_app;
SELECT vault.claim_rotation('x', 1);
SELECT vault.complete_rotation(1, gen_random_uuid(), 1, 'no record');
SELECT vault.fail_rotation(1, gen_random_uuid(), 'x');
SELECT vault.rotation_status();
SELECT vault.enqueue_due_rotations();
RESET ROLE;

-- Never later than the interval, and not all at once: up to a tenth of it sooner,
-- at most an hour. A time that is given is kept.
SELECT count(t.auto('rot/spread/' || i)) FROM generate_series(1, 50) i;
SELECT bool_and(next_rotation_at BETWEEN created_at + '30 days' - interval '1 hour' AND created_at + '30 days') AS within,
	count(DISTINCT next_rotation_at) > 40 AS spread FROM vault.secrets WHERE name LIKE 'rot/spread/%';
SELECT count(vault.update_secret('rot/spread/' || i, rotation_interval => '10 seconds')) FROM generate_series(1, 50) i;
SELECT bool_and(next_rotation_at BETWEEN updated_at + '9 seconds' AND updated_at + '10 seconds') AS within,
	count(DISTINCT next_rotation_at) > 40 AS spread FROM vault.secrets WHERE name LIKE 'rot/spread/%';
SELECT count(vault.rotate_secret('rot/spread/' || i, t.seal('rot/spread/' || i, 'next', 'rotate'))) FROM generate_series(1, 50) i;
SELECT bool_and(next_rotation_at BETWEEN updated_at + '9 seconds' AND updated_at + '10 seconds') AS within,
	count(DISTINCT next_rotation_at) > 40 AS spread FROM vault.secrets WHERE name LIKE 'rot/spread/%';
SELECT vault.update_secret('rot/spread/1', next_rotation_at => '2030-01-01 00:00+00');
SELECT next_rotation_at = '2030-01-01 00:00+00' AS kept FROM vault.secrets WHERE name = 'rot/spread/1';
SELECT count(vault.delete_secret('rot/spread/' || i)) FROM generate_series(1, 50) i;

-- Queued once, whoever asks how often; a manual secret and one without a date never.
SELECT t.auto('rot/a', '1 hour'), t.auto('rot/b'), t.auto('rot/once', NULL, NULL), t.put('rot/hand', 'x');
SELECT vault.enqueue_due_rotations();
SELECT t.due('rot/a');
SELECT vault.enqueue_due_rotations(), vault.enqueue_due_rotations();
SELECT * FROM t.jobs;

-- A claim is one node's; another gets nothing, until the claim's time is over.
SET SESSION AUTHORIZATION regress_hv_service;
SELECT count(*) FROM vault.claim_rotation('n1', 0);
SELECT job, token, name, current_version FROM vault.claim_rotation('n1', 10) \gset first_
SELECT :'first_name' AS name, :first_current_version AS current_version;
SELECT count(*) FROM vault.claim_rotation('n2', 10);
SELECT vault.status()->>'rotations_claimed' AS claimed;
RESET SESSION AUTHORIZATION;
SELECT retry_at - claimed_at AS claimed_for FROM vault.rotation_jobs;
SELECT * FROM t.jobs;
UPDATE vault.rotation_jobs SET retry_at = now() - interval '1 second';
SET SESSION AUTHORIZATION regress_hv_service;
SELECT job, token FROM vault.claim_rotation('n2', 10) \gset second_
SELECT :first_job = :second_job AS same_job, :'first_token' = :'second_token' AS same_token;
-- The first node wakes up: what it does is not done, what the second does is.
SELECT t.try_hint(format('SELECT t.complete(''rot/a'', %s, %L, 1)', :first_job, :'first_token'));
SELECT vault.fail_rotation(:first_job, :'first_token', 'too late');
SELECT t.try_hint(format('SELECT t.complete(''rot/a'', %s, %L, 2)', :second_job, :'second_token'));
SELECT t.complete('rot/a', :second_job, :'second_token', 1);
SELECT t.try_hint(format('SELECT t.complete(''rot/a'', %s, %L, 2)', :second_job, :'second_token'));
SELECT vault.fail_rotation(:second_job, :'second_token', 'too late');
SELECT count(*) FROM vault.claim_rotation('n1', 10);
RESET SESSION AUTHORIZATION;
SELECT * FROM t.jobs;
SELECT version, stage, expires_at - v.created_at BETWEEN '1 hour' AND '2 hours' AS in_grace
	FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id WHERE s.name = 'rot/a' ORDER BY 1;
SELECT t.read('rot/a'), t.read('rot/a', 1);
SELECT next_rotation_at > now() + '29 days' AS due_later FROM vault.secrets WHERE name = 'rot/a';

-- What complete_rotation takes is a record reserved in this transaction, of that secret.
SELECT t.due('rot/'), vault.enqueue_due_rotations();
SET SESSION AUTHORIZATION regress_hv_service;
SELECT job, token FROM vault.claim_rotation('n1', 10) WHERE name = 'rot/a' \gset a_
SELECT t.try_hint(format('SELECT vault.complete_rotation(%s, %L, 2, ''hunter2'')', :a_job, :'a_token'));
SELECT t.try_hint(format('SELECT vault.complete_rotation(%s, %L, 2, t.node_seal(''rot/b'', ''x'', ''rotate''))', :a_job, :'a_token'));
SELECT t.try_hint(format('SELECT vault.complete_rotation(%s, %L, 2, t.node_seal(''rot/a'', ''x'', ''update''))', :a_job, :'a_token'));
SELECT vault.complete_rotation(NULL, NULL, NULL, 'hunter2') IS NULL AS nothing;
RESET SESSION AUTHORIZATION;
SELECT t.read('rot/a'), t.read('rot/b');

-- A rotation by hand, a new date, a deletion: the job is done or gone, and who has claimed it too late.
SELECT vault.rotate_secret('rot/a', t.seal('rot/a', 'by hand', 'rotate'));
SELECT t.try(format('SELECT t.complete(''rot/a'', %s, %L, 3)', :a_job, :'a_token'));
SELECT vault.update_secret('rot/b', description => 'still due');
SELECT count(*) FROM t.jobs WHERE name = 'rot/b' AND NOT done;
SELECT vault.update_secret('rot/b', next_rotation_at => now() + interval '1 day');
SELECT count(*) FROM t.jobs WHERE name = 'rot/b' AND NOT done;
UPDATE vault.rotation_jobs SET retry_at = NULL WHERE completed_at IS NULL;
SELECT job, token, name FROM vault.claim_rotation('n1', 10) \gset once_
SELECT :'once_name' AS name;
SELECT t.complete('rot/once', :once_job, :'once_token', 1);
SELECT next_rotation_at, current_version FROM vault.secrets WHERE name = 'rot/once';
SELECT t.due('rot/b'), vault.enqueue_due_rotations();
SELECT job, token FROM vault.claim_rotation('n1', 10) \gset b_
SELECT vault.delete_secret('rot/b');
SELECT t.try(format('SELECT t.complete(''rot/b'', %s, %L, 1)', :b_job, :'b_token'));
SELECT t.auto('rot/b');
SELECT t.try(format('SELECT t.complete(''rot/b'', %s, %L, 2)', :b_job, :'b_token'));
SELECT vault.fail_rotation(:b_job, :'b_token', 'it is gone');
SELECT count(*) FROM vault.rotation_jobs WHERE completed_at IS NULL;
-- A put in between: the rotation is of another value than the node has seen.
SELECT t.due('rot/b'), vault.enqueue_due_rotations();
SELECT job, token, current_version FROM vault.claim_rotation('n1', 10) \gset b_
SELECT t.put('rot/b', 'by hand');
SELECT t.try(format('SELECT t.complete(''rot/b'', %s, %L, %s)', :b_job, :'b_token', :b_current_version));
SELECT current_version = :b_current_version + 1 AS the_put FROM vault.secrets WHERE name = 'rot/b';
SELECT vault.fail_rotation(:b_job, :'b_token', 'the secret was written meanwhile');

-- Attempts: later each time, then given up for an hour; the error stays to be seen.
SELECT * FROM t.jobs WHERE NOT done;
SELECT count(*) FROM vault.claim_rotation('n1', 10);
SELECT open, failing, oldest IS NOT NULL AS since FROM vault.rotation_status();
DO $$
DECLARE
	c record;
	given_up bool = false;
	waits interval[];
BEGIN
	WHILE NOT given_up LOOP
		UPDATE vault.rotation_jobs SET retry_at = now() WHERE completed_at IS NULL;
		SELECT * INTO STRICT c FROM vault.claim_rotation('n1', 10);
		SELECT vault.fail_rotation(c.job, c.token, repeat('the KMS said no. ', 100)) INTO STRICT given_up;
		waits := waits || (SELECT retry_at - now() FROM vault.rotation_jobs WHERE id = c.job);
	END LOOP;
	RAISE NOTICE '% attempts more, bounds kept: %', cardinality(waits), (SELECT bool_and(w BETWEEN least(2 ^ (i + 1), 300) / 2 * interval '1 second'
		AND least(2 ^ (i + 1), 300) * interval '1 second') FROM unnest(waits) WITH ORDINALITY u(w, i));
END
$$;
SELECT attempts, done, claimed, length(error) FROM t.jobs WHERE error IS NOT NULL;
SELECT count(*) FROM vault.claim_rotation('n1', 10);
SELECT vault.enqueue_due_rotations();
SELECT open, failing, oldest FROM vault.rotation_status();
UPDATE vault.rotation_jobs SET completed_at = completed_at - interval '1 hour' WHERE error IS NOT NULL;
SELECT vault.enqueue_due_rotations();
SELECT open, failing FROM vault.rotation_status();
-- Nodes that die of it, time and again.
UPDATE vault.rotation_jobs SET attempts = 10, retry_at = now() WHERE completed_at IS NULL;
SELECT count(*) FROM vault.claim_rotation('n1', 10);
SELECT attempts, done, claimed, error FROM t.jobs WHERE error LIKE 'no node%';
SELECT vault.rotate_secret('rot/b', t.seal('rot/b', 'by hand', 'rotate'));
SELECT open, failing FROM vault.rotation_status();

-- As many as are asked for, oldest first; none that another transaction has.
SELECT count(t.auto('rot/many/' || i)) FROM generate_series(1, 5) i;
SELECT t.due('rot/many/'), vault.enqueue_due_rotations();
SELECT count(*) FROM vault.claim_rotation('n1', 2);
SELECT count(*) FROM vault.claim_rotation('n2', 10);
SELECT claimed_by, count(*) FROM t.jobs WHERE name LIKE 'rot/many/%' GROUP BY 1 ORDER BY 1;

-- A tick deletes versions whose grace is over, and jobs that are done since long.
SELECT vault.tick();
SELECT t.read('rot/a', 1);
UPDATE vault.secret_versions SET expires_at = now() - interval '1 second' WHERE expires_at IS NOT NULL
	AND secret_id = (SELECT id FROM vault.secrets WHERE name = 'rot/a');
SELECT t.try($$SELECT t.read('rot/a', 1)$$);
SELECT count(*) FROM vault.node_candidates('rot/a', 'tester');
UPDATE vault.rotation_jobs SET completed_at = now() - interval '25 hours'
	WHERE id = (SELECT min(id) FROM vault.rotation_jobs WHERE completed_at IS NOT NULL);
SELECT count(*) AS jobs FROM vault.rotation_jobs \gset before_
SELECT vault.tick();
SELECT version, stage FROM vault.secret_versions v JOIN vault.secrets s ON s.id = v.secret_id WHERE s.name = 'rot/a';
SELECT :before_jobs - count(*) AS gone FROM vault.rotation_jobs;

-- By REST a date can be set as well.
SET SESSION AUTHORIZATION regress_hv_service;
SELECT vault.node_reschedule('rot/a', '2030-01-01 00:00+00', 'tester');
SELECT next_rotation_at = '2030-01-01 00:00+00' AS kept, rotation_interval_secs FROM vault.node_list('rot/a', '', 1);
SELECT vault.node_reschedule('rot/hand', '2030-01-01 00:00+00', 'tester');
RESET SESSION AUTHORIZATION;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA vault FROM regress_hv_service;
GRANT EXECUTE ON FUNCTION vault.login_verifier(text), vault.status(), vault.tick(), vault.hba_rules() TO regress_hv_service;
