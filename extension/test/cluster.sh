#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What pg_regress cannot see: the server's log, dump and restore, a standby, the
# worker. Started by run.sh after the suite, on its server, with its database.
# Arguments: the command prefix that runs a program as the server's user.
set -euo pipefail

as_user=("$@")
db=contrib_regression
standby=$SCRATCH/standby
dump=$SCRATCH/dump

fail() {
	echo "FAILED: $*" >&2
	exit 1
}

# The answer of a statement, or its SQLSTATE.
q() {
	"$BINDIR/psql" -XAtq -v ON_ERROR_STOP=1 -v VERBOSITY=sqlstate -d "${2:-$db}" -c "$1" 2>&1 || true
}

# A statement that must succeed; its answer is of no interest.
run() {
	local got
	got=$("$BINDIR/psql" -XAtq -v ON_ERROR_STOP=1 -d "${2:-$db}" -c "$1" 2>&1) || fail "$1: $got"
}

# q with only what psql prints last: "ERROR:  42501" becomes 42501.
expect() {
	local got
	got=$(q "$2" "${3:-$db}" | tail -n 1)
	got=${got##* }
	[ "$got" = "$1" ] || fail "$2: got $got, want $1"
}

# Waits, at most half a minute, until a statement answers as wanted.
wait_for() {
	local deadline=$((SECONDS + 30))
	until [ "$(q "$2" "${3:-$db}")" = "$1" ]; do
		[ $SECONDS -lt $deadline ] || fail "waited in vain for: $2 = $1"
		"$BINDIR/psql" -XAtq -d postgres -c 'SELECT pg_sleep(0.1)' >/dev/null
	done
}

log_holds_no_value() {
	# The suite has sent this word as a value in every way that is refused.
	local values='SELECT vault.put_secret(:name, :value);'
	echo "$values" >"$SCRATCH/bind.sql"
	local refusal='reached the server unsealed' before
	before=$(grep -c "$refusal" "$SERVER_LOG" || true)
	for mode in simple extended prepared; do
		PGOPTIONS='-c log_parameter_max_length_on_error=-1' "$BINDIR/pgbench" -n -t 1 -M "$mode" \
			-D "name='log/a'" -D "value='hunter2'" -f "$SCRATCH/bind.sql" "$db" >/dev/null 2>&1 || true
	done
	[ "$(grep -c "$refusal" "$SERVER_LOG" || true)" = $((before + 3)) ] || fail "no refusal for each mode in the server's log"
	if grep -n hunter2 "$SERVER_LOG" >&2; then
		fail "a refused value is in the server's log"
	fi
}

two_phase() {
	run "BEGIN; SELECT t.put('two/phase', 'x'); PREPARE TRANSACTION 'hv'"
	expect 55P03 "SET hyperion_vault.lock_wait = '100ms'; SELECT t.put('two/phase', 'y')"
	local got
	got=$("$BINDIR/psql" -XAtq -d "$db" -c "SET hyperion_vault.lock_wait = '100ms'" \
		-c "SELECT t.put('two/phase', 'y')" 2>&1 || true)
	grep -q 'HINT:.*lock_wait' <<<"$got" || fail "55P03 has no hint: $got"
	run "COMMIT PREPARED 'hv'"
	expect 2 "SELECT t.put('two/phase', 'y')"
}

notifications() {
	local got
	got=$("$BINDIR/psql" -Xq -d "$db" -c 'LISTEN vault_changed' -c "SELECT t.put('notify/a', 'x')" \
		-c "BEGIN; SAVEPOINT s; SELECT t.put('notify/a', 'y'); ROLLBACK TO s; COMMIT")
	[ "$(grep -c 'notification "vault_changed" with payload "[0-9a-f-]\{36\} 1"' <<<"$got")" = 1 ] ||
		fail "vault_changed: $got"
	[ "$(grep -c 'notification' <<<"$got")" = 1 ] || fail "vault_changed after a rollback: $got"
	# In their order, a deletion as version 0; what is taken back is not told.
	got=$("$BINDIR/psql" -Xq -d "$db" -c 'LISTEN vault_changed' \
		-c "BEGIN; SELECT t.put('notify/a', 'y'); SAVEPOINT s; SELECT vault.delete_secret('notify/a'); ROLLBACK TO s;
			SAVEPOINT s; SELECT t.put('notify/a', 'z'); RELEASE s; SELECT vault.delete_secret('notify/a'); COMMIT" |
		sed -n 's/.*payload "[0-9a-f-]* \([0-9]*\)".*/\1/p' | tr '\n' ' ')
	[ "$got" = "2 3 0 " ] || fail "vault_changed of a transaction: $got"
	got=$("$BINDIR/psql" -Xq -d "$db" -c 'LISTEN vault_rotation' -c "SELECT t.auto('notify/b')" -c "SELECT t.due('notify/b')" \
		-c 'SELECT vault.tick()' -c 'SELECT vault.tick()')
	[ "$(grep -c 'notification "vault_rotation" with payload "1"' <<<"$got")" = 1 ] || fail "vault_rotation: $got"

	# Of a queue that is nearly full, or as good as that: what is due is queued, and nobody told.
	local usage="CREATE OR REPLACE FUNCTION pg_catalog.pg_notification_queue_usage() RETURNS float8 VOLATILE STRICT PARALLEL RESTRICTED"
	run "$usage LANGUAGE sql AS 'SELECT 0.9::float8'"
	got=$("$BINDIR/psql" -Xq -d "$db" -c 'LISTEN vault_rotation' -c "SELECT t.auto('notify/c')" -c "SELECT t.due('notify/c')" -c 'SELECT vault.tick()')
	run "$usage LANGUAGE internal AS 'pg_notification_queue_usage'"
	! grep -q notification <<<"$got" || fail "vault_rotation of a full queue: $got"
	expect 1 "SELECT count(*) FROM t.jobs WHERE name = 'notify/c' AND NOT done"
}

# Switched off, nothing is queued, and what is queued is not handed out.
rotation_off() {
	run "SELECT t.auto('off/a'), t.auto('off/b'); SELECT t.due('off/a'); SELECT vault.tick()"
	run "ALTER SYSTEM SET hyperion_vault.rotation_enabled = off" postgres
	run "SELECT pg_reload_conf()" postgres
	wait_for false "SELECT vault.status()->>'rotation_enabled'"
	run "SELECT t.due('off/b'); SELECT vault.tick()"
	expect 1 "SELECT count(*) FROM t.jobs WHERE name LIKE 'off/%'"
	expect 0 "SELECT count(*) FROM vault.claim_rotation('n', 1000)"
	run "ALTER SYSTEM RESET hyperion_vault.rotation_enabled" postgres
	run "SELECT pg_reload_conf()" postgres
	wait_for true "SELECT vault.status()->>'rotation_enabled'"
	expect t "SELECT count(*) > 0 FROM vault.claim_rotation('n', 1000)"
}

# What psql cannot send: Parse with a name. The text is the client's own.
prepared_by_protocol() {
	local got
	printf '%s\n' '\set a 1' "SELECT :a::int8 + :a::int4, ' ; ' -- x" '  ;' \
		"INSERT INTO t.state SELECT * FROM vault.session_state() WHERE kind <> 'setting';" >"$SCRATCH/prepared.sql"
	run "CREATE TABLE t.state (kind text, name text, value text, detail text)"
	"$BINDIR/pgbench" -n -t 1 -M prepared -f "$SCRATCH/prepared.sql" "$db" >/dev/null
	got=$(q "SELECT kind, name <> '', replace(value, chr(10), '|'), detail FROM t.state WHERE value LIKE '% -- x%'")
	[ "$got" = "parse|t|SELECT \$1::int8 + \$2::int4, ' ; ' -- x|  ;|{20,23}" ] || fail "prepared by protocol: $got"
	run "DROP TABLE t.state"
}

# What another session has is not this one's.
locks_of_others() {
	coproc OTHER { "$BINDIR/psql" -XAtqn -d "$db" 2>&1; }
	local other=$OTHER_PID line
	echo "SELECT pg_advisory_lock(1) IS NOT NULL;" >&"${OTHER[1]}"
	read -r line <&"${OTHER[0]}"
	[ "$line" = t ] || fail "other session: $line"
	expect 0 "SELECT count(*) FROM vault.session_state()"
	echo '\q' >&"${OTHER[1]}"
	wait "$other" || true
}

# The rules without what lines hold of secrets, in the order of the file.
hba_rules() {
	local hba=$SCRATCH/data/pg_hba.conf got
	"${as_user[@]}" cp "$hba" "$hba.before"
	"${as_user[@]}" tee "$hba" >/dev/null <<'EOF'
local all all trust
host "app",sameuser +grp,all 10.1.0.0 255.255.0.0 ldap ldapserver=ldap.example ldapbasedn="dc=x" ldapbinddn="cn=x" ldapbindpasswd=hunter2
hostssl all all ::1/128 cert map=staff clientcert=verify-full
host all all 10.2.0.0/16 md5 hunter2
host all all 10.3.0.0/16 ldap ldapurl="hunter2://x"
host all all 10.4.0.0/16 scram-sha-256 ldapbindpasswd=hunter2
host all all 10.5.0.0/hunter2 reject
nosuch all all reject
host all all samenet reject
EOF
	got=$(q "SET ROLE regress_hv_service;
		SELECT line_number, type, database, user_name, address, netmask, auth_method, options, error FROM vault.hba_rules()")
	diff - <(echo "$got") >&2 <<'EOF' || fail "hba_rules"
1|local|{all}|{all}|||trust||
2|host|{app,sameuser}|{+grp,all}|10.1.0.0|255.255.0.0|ldap||
3|hostssl|{all}|{all}|::1|ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff|cert|{map=staff,clientcert=verify-full}|hostssl record cannot match because SSL is disabled
4||||||||authentication option not in name=value format
5||||||||could not parse LDAP URL
6||||||||authentication option
7||||||||invalid CIDR mask in address
8||||||||invalid connection type
9|host|{all}|{all}|samenet||reject||
EOF
	"${as_user[@]}" mv "$hba.before" "$hba"
	expect t "SELECT count(file_name) = CASE WHEN current_setting('server_version_num')::int >= 160000 THEN count(*) ELSE 0 END
		FROM vault.hba_rules()"
	expect t "SELECT bool_and(loaded_at = pg_conf_load_time()) FROM vault.hba_rules()"
	got=$(q "SELECT max(loaded_at) FROM vault.hba_rules()")
	run "SELECT pg_reload_conf()"
	wait_for t "SELECT max(loaded_at) > '$got' FROM vault.hba_rules()"
}

# Who could call login_verifier before an upgrade can call hba_rules after it,
# and after a restored dump of that.
upgrade_and_restore() {
	run "CREATE DATABASE upgraded" postgres
	run "CREATE EXTENSION hyperion_vault VERSION '1.0'; SELECT vault.grant_service_role('regress_hv_service')" upgraded
	run "ALTER EXTENSION hyperion_vault UPDATE TO '1.1'" upgraded
	run "REVOKE EXECUTE ON FUNCTION vault.next_version(text, int, text) FROM PUBLIC;
		GRANT EXECUTE ON FUNCTION vault.next_version(text, int, text) TO regress_hv_app WITH GRANT OPTION" upgraded
	run "ALTER EXTENSION hyperion_vault UPDATE" upgraded
	run "CREATE DATABASE restored" postgres
	"$BINDIR/pg_dump" -Fc -f "$SCRATCH/upgraded" upgraded
	"$BINDIR/pg_restore" -e -d restored "$SCRATCH/upgraded" || fail "pg_restore of an upgraded vault"
	for name in upgraded restored; do
		expect t "SELECT has_function_privilege('regress_hv_service', 'vault.hba_rules()', 'EXECUTE')" "$name"
		expect f "SELECT has_function_privilege('regress_hv_app', 'vault.hba_rules()', 'EXECUTE')" "$name"
		expect t "SELECT has_function_privilege('regress_hv_app', 'vault.replayed()', 'EXECUTE')" "$name"
		# What was made anew on the way has the rights of before.
		expect t "SELECT has_function_privilege('regress_hv_app', 'vault.next_version(text, int, text)', 'EXECUTE WITH GRANT OPTION')" "$name"
		expect f "SELECT has_function_privilege('regress_hv_bob', 'vault.next_version(text, int, text)', 'EXECUTE')" "$name"
		run "DROP DATABASE $name" postgres
	done

	# A dump from before 1.10 names functions that are gone: it goes into its own version.
	for name in upgraded restored; do
		run "CREATE DATABASE $name" postgres
		run "CREATE EXTENSION hyperion_vault VERSION '1.8'" "$name"
	done
	run "SELECT vault.grant_service_role('regress_hv_service'), vault.grant_access('regress_hv_app', 'up/*')" upgraded
	"$BINDIR/pg_dump" -Fc -f "$SCRATCH/upgraded" upgraded
	"$BINDIR/pg_restore" -e -d restored "$SCRATCH/upgraded" || fail "pg_restore into the dump's version"
	run "ALTER EXTENSION hyperion_vault UPDATE" restored
	expect t "SELECT bool_and(has_function_privilege('regress_hv_service', oid, 'EXECUTE')) FROM pg_proc WHERE proname = 'audit_append'" restored
	expect 1 "SELECT count(*) FROM vault.grants" restored
	run "DROP DATABASE upgraded" postgres
	run "DROP DATABASE restored" postgres
}

# Everything that a dump must carry, as one text.
contents() {
	q "SELECT 'meta', count(*), md5(string_agg(m::text, ',' ORDER BY vault_id)) FROM (SELECT vault_id, kms_key_ids, bootstrapped_at FROM vault.meta) m" "$1"
	for t in secrets secret_versions grants rotation_jobs roles role_permissions admin_tokens auth_lockouts \
		audit_log audit_heads audit_anchors changes; do
		q "SELECT '$t', count(*), md5(string_agg(x::text, ',' ORDER BY x::text)) FROM vault.$t x" "$1"
	done
	q "SELECT nextval('vault.rotation_jobs_id_seq') > 1, has_function_privilege('regress_hv_service', 'vault.tick()', 'EXECUTE')" "$1"
	q "SELECT tgenabled FROM pg_trigger WHERE tgname = 'forget_cached'; SELECT evtenabled FROM pg_event_trigger WHERE evtname LIKE 'hyperion%'" "$1"
	q "SELECT t.read('dump/' || i) FROM generate_series(1, 3) i" "$1"
	q "SELECT t.put('dump/1', 'after')" "$1"
}

dump_and_restore() {
	local before
	run "SELECT count(t.put('dump/' || i, 'v' || i)) FROM generate_series(1, 2000) i"
	run "INSERT INTO vault.rotation_jobs (secret_id) SELECT id FROM vault.secrets WHERE name LIKE 'dump/1%'"
	run "CREATE VIEW t.a_view AS SELECT vault.read_secret('dump/1') AS s"
	run "SELECT t.ship(7, 1, 20), t.ship(7, 30, 40, gap => true)"
	"${as_user[@]}" mkdir "$dump"
	for role in regress_hv_dumper regress_hv_reader; do
		run "CREATE ROLE $role LOGIN IN ROLE pg_read_all_data"
	done
	run "ALTER ROLE regress_hv_dumper BYPASSRLS"
	run "REVOKE EXECUTE ON FUNCTION vault.list_secrets(text) FROM PUBLIC"

	"$BINDIR/pg_dump" -Fd -j 2 -f "$dump/super" "$db" 2>"$dump/error" || fail "pg_dump: $(cat "$dump/error")"
	[ ! -s "$dump/error" ] || fail "pg_dump warns: $(cat "$dump/error")"
	"$BINDIR/pg_dump" -Fc -U regress_hv_dumper -f "$dump/bypass" "$db"
	if "$BINDIR/pg_dump" -Fc -U regress_hv_reader -f "$dump/reader" "$db" 2>"$dump/error"; then
		fail "pg_read_all_data alone dumped the vault"
	fi
	grep -q 'row-level security' "$dump/error" || fail "$(cat "$dump/error")"
	before=$(contents "$db")
	[[ $before != *ERROR* ]] || fail "$before"
	for source in super bypass; do
		run "CREATE DATABASE restored" postgres
		"$BINDIR/pg_restore" -e -j 8 -d restored "$dump/$source" || fail "pg_restore of $source"
		diff <(echo "$before") <(contents restored) || fail "restored from $source differs"
		expect f "SELECT has_function_privilege('regress_hv_app', 'vault.list_secrets(text)', 'EXECUTE')" restored
		run "UPDATE vault.grants SET role_oid = (role_oid::int8 + 1000000)::oid" restored
		expect t "SELECT vault.adopt_grants() = (SELECT count(*) FROM vault.grants)" restored
		run "DROP DATABASE restored" postgres
	done
	expect "" "DROP ROLE regress_hv_dumper, regress_hv_reader"
}

start_standby() {
	"${as_user[@]}" "$BINDIR/pg_basebackup" -D "$standby" -R -c fast -h "$SCRATCH" -U postgres
	"${as_user[@]}" tee -a "$standby/postgresql.conf" >/dev/null <<EOF
port = 5433
hyperion_vault.database = '$db'
EOF
	"${as_user[@]}" "$BINDIR/pg_ctl" -D "$standby" -l "$SCRATCH/standby.log" -w start >/dev/null
}

on_standby() {
	PGPORT=5433 "$@"
}

# As far as the server's own word for it, and no further while replay stands still.
replayed_on_standby() {
	local at
	on_standby run "SELECT pg_wal_replay_pause()"
	on_standby wait_for paused "SELECT pg_get_wal_replay_pause_state()"
	at=$(on_standby q "SELECT lsn FROM vault.replayed()")
	on_standby expect "$at|1" "SELECT pg_last_wal_replay_lsn(), timeline FROM vault.replayed()"
	run "SELECT t.put('stand/more', 'x')"
	on_standby wait_for t "SELECT pg_last_wal_receive_lsn() > lsn FROM vault.replayed()"
	on_standby expect "$at|1" "SET ROLE regress_hv_bob; SELECT lsn, timeline FROM vault.replayed()"
	on_standby run "SELECT pg_wal_replay_resume()"
	on_standby wait_for t "SELECT lsn > '$at' FROM vault.replayed()"
}

hot_standby() {
	run "SELECT t.put('stand/by', 'x'); SELECT vault.grant_access('regress_hv_bob', 'stand/by')"
	start_standby
	on_standby wait_for 'stand/by v1 f1 x' "SET ROLE regress_hv_bob; SELECT t.read('stand/by')"
	on_standby expect 25006 "SELECT vault.next_version('stand/by', 1, 'put')"
	on_standby expect 25006 "SELECT vault.tick()"
	on_standby expect 25006 "SELECT count(*) FROM vault.claim_rotation('n', 1)"
	on_standby expect 25006 "SELECT vault.delete_secret('stand/by')"
	on_standby expect 40 "SELECT seq FROM vault.audit_position(t.node(7))"
	on_standby expect "25006:" "SELECT split_part(t.ship(7, 41, 41), ' ', 1)"
	on_standby expect 0A000 "SELECT vault.put_secret('stand/by', 'hunter2')"
	on_standby expect true "SELECT vault.status()->>'in_recovery'"
	on_standby expect 0 "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'hyperion_vault%'"

	# The same session there is the same text.
	local state="SET my.custom = 1; SET work_mem = 12345; PREPARE p (int) AS SELECT \$1; SET ROLE regress_hv_bob;
		SELECT * FROM vault.session_state()"
	[ "$(q "$state" | wc -l)" = 4 ] || fail "session_state: $(q "$state")"
	diff <(q "$state") <(on_standby q "$state") >&2 || fail "session_state on the standby"
	on_standby expect t "SELECT count(*) > 0 FROM vault.hba_rules()"
	replayed_on_standby

	# A session that has cached the grant loses it when the revoke is replayed.
	coproc BOB { on_standby "$BINDIR/psql" -XAtqn -d "$db" 2>&1; }
	local bob=$BOB_PID line
	echo "SET ROLE regress_hv_bob; SELECT vault.allowed('read', 'stand/by');" >&"${BOB[1]}"
	read -r line <&"${BOB[0]}"
	[ "$line" = t ] || fail "standby session: $line"
	run "SELECT vault.revoke_access('regress_hv_bob', 'stand/by'); SELECT t.put('stand/mark', 'x')"
	on_standby wait_for 't' "SELECT vault.read_secret('stand/mark', missing_ok => true) IS NOT NULL"
	echo "SELECT vault.allowed('read', 'stand/by');" >&"${BOB[1]}"
	read -r line <&"${BOB[0]}"
	[ "$line" = f ] || fail "revoked right on the standby: $line"
	echo '\q' >&"${BOB[1]}"
	wait "$bob" || true

	# Promotion starts the worker there, and what it writes is of a new timeline,
	# whatever the control file says.
	on_standby run "SELECT pg_promote()"
	on_standby expect "2|t" "SELECT timeline, lsn >= pg_last_wal_replay_lsn() FROM vault.replayed()"
	local at
	at=$(on_standby q "SELECT now()")
	on_standby wait_for t "SELECT coalesce(last_tick_at > '$at', false) FROM vault.meta"

	# Where nothing is preloaded, client_addr is still what the connection came with.
	"${as_user[@]}" "$BINDIR/pg_ctl" -D "$standby" -m immediate -w -l "$SCRATCH/standby.log" \
		-o "-c shared_preload_libraries=''" restart >/dev/null
	local claim="SET hyperion_vault.client_addr = '10.0.0.9'; SET client_min_messages = error;
		SELECT coalesce(host(vault.client_addr()), 'none'), current_setting('hyperion_vault.client_addr')"
	on_standby expect false "SELECT vault.status()->>'preloaded'"
	on_standby expect 'none|' "$claim"
	PGOPTIONS='-c hyperion_vault.client_addr=10.0.0.7' on_standby expect '10.0.0.7|10.0.0.7' "$claim"
	"${as_user[@]}" "$BINDIR/pg_ctl" -D "$standby" -m immediate -w stop >/dev/null
	if grep -n hunter2 "$SCRATCH/standby.log" >&2; then
		fail "a refused value is in the standby's log"
	fi
}

# pg_upgrade's servers have no worker, which would write, and hold a connection.
binary_upgrade() {
	"${as_user[@]}" "$BINDIR/pg_ctl" -D "$standby" -l "$SCRATCH/binary.log" -w \
		-o "-b -c log_min_messages=debug1" start >/dev/null
	on_standby expect hyperion_vault "SHOW shared_preload_libraries"
	"${as_user[@]}" "$BINDIR/pg_ctl" -D "$standby" -m immediate -w stop >/dev/null
	grep -q DEBUG "$SCRATCH/binary.log" || fail "the log does not tell of workers"
	if grep 'background worker "hyperion_vault' "$SCRATCH/binary.log" >&2; then
		fail "a worker in a server for pg_upgrade"
	fi
}

worker() {
	# In hyperion_vault.database alone, and never in the way of DROP DATABASE.
	run "CREATE DATABASE ticking" postgres
	run "CREATE EXTENSION hyperion_vault; INSERT INTO vault.meta (vault_id) VALUES (gen_random_uuid())" ticking
	run "ALTER SYSTEM SET hyperion_vault.database = 'ticking'" postgres
	run "SELECT pg_reload_conf()" postgres
	wait_for t "SELECT last_tick_at IS NOT NULL FROM vault.meta" ticking
	expect ticking "SELECT vault.status()->>'worker_database'"
	run "DROP EXTENSION hyperion_vault" ticking
	local deadline=$((SECONDS + 30))
	until [ -z "$(q "DROP DATABASE ticking" postgres)" ]; do
		[ $SECONDS -lt $deadline ] || fail "the worker blocks DROP DATABASE"
	done
	run "ALTER SYSTEM RESET hyperion_vault.database" postgres
	run "SELECT pg_reload_conf()" postgres
}

for check in log_holds_no_value two_phase notifications rotation_off prepared_by_protocol locks_of_others hba_rules upgrade_and_restore dump_and_restore worker hot_standby binary_upgrade; do
	"$check"
	echo "ok $check"
done
