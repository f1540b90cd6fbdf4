/* SPDX-License-Identifier: GPL-3.0-or-later */
\echo Use "ALTER EXTENSION hyperion_vault UPDATE TO '1.13'" to load this file. \quit

-- Anybody can fill the queue of notifications: listen, and stay in a transaction. Who
-- notifies then cannot commit, and with it would go the rest of the tick. Nodes look
-- by themselves, too. Else as in 1.5.
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
	IF added > 0 AND pg_notification_queue_usage() < 0.9 THEN
		PERFORM pg_notify('vault_rotation', added::text);
	END IF;
	RETURN added;
END
$$;

-- A column of a stranger's that holds rows of a table of ours would keep a later
-- version from changing that table. Not as the extension's own: of what that revokes
-- from such a type pg_dump has no notion, and warns.
CREATE FUNCTION vault.run_outside_script(command text) RETURNS void
	AS 'MODULE_PATHNAME', 'vault_run_outside_script'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION vault.run_outside_script(text) FROM PUBLIC;

SELECT vault.run_outside_script(pg_catalog.format('REVOKE USAGE ON TYPE %s FROM PUBLIC', c.oid::regclass))
	FROM pg_catalog.pg_class c
	WHERE c.relnamespace = 'vault'::regnamespace AND c.relkind IN ('r', 'v')
	ORDER BY c.relname;

DROP FUNCTION vault.run_outside_script(text);
