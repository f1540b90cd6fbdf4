// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tools

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/pgbouncer"
	"github.com/hyperiondb/hyperion-vault/e2e/report"
)

// TestWalsender lets the clients of the replication protocol in through the
// node, as a role that has REPLICATION and no more.
func TestWalsender(t *testing.T) {
	user := shared.AddUser(t, "walker")
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, super, "ALTER ROLE "+user+" REPLICATION")
	cluster.Exec(t, super, "CREATE TABLE walked (t text)")
	conn := shared.Connect(t, shared.DSN(0, shared.User))
	cluster.Exec(t, conn, "SELECT vault.put_secret('wal/before', 'wal canary')")
	env := shared.Libpq(t, shared.Nodes[0].Proxy, user)
	row := report.Open(t, report.Tools, "walsender clients", word(version(t, cluster.Bin(t, "pg_basebackup"), "--version"), 2))

	row.Run(t, "`pg_basebackup -X fetch`, compressed tar", func(t *testing.T) {
		dir := t.TempDir()
		cluster.Output(t, env, cluster.Bin(t, "pg_basebackup"), "-D", dir, "-X", "fetch", "-c", "fast", "-Ft", "-z")
		if _, err := os.Stat(filepath.Join(dir, "base.tar.gz")); err != nil {
			t.Error(err)
		}
	})
	row.Run(t, "`pg_basebackup -X stream`, started as a standby that streams through the node", func(t *testing.T) { standby(t, env) })
	row.Run(t, "`pg_receivewal` with a slot", func(t *testing.T) {
		dir := t.TempDir()
		cluster.Output(t, env, cluster.Bin(t, "pg_receivewal"), "-D", dir, "-S", "walker", "--create-slot")
		cluster.Exec(t, super, "INSERT INTO walked SELECT repeat('received by the walker', 10) FROM generate_series(1, 1000)")
		cluster.Exec(t, conn, "SELECT vault.put_secret('wal/received', 'wal canary')")
		cluster.Output(t, env, cluster.Bin(t, "pg_receivewal"), "-D", dir, "-S", "walker", "--no-loop", "--synchronous", "--endpos", insertPosition(t))
		cluster.Output(t, env, cluster.Bin(t, "pg_receivewal"), "-S", "walker", "--drop-slot")
		neverIn(t, dir, "wal canary")
		if !anywhere(t, dir, "received by the walker") {
			t.Error("the WAL that was received does not have what was written")
		}
	})
	row.Run(t, "`pg_recvlogical` with test_decoding", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "decoded")
		cluster.Output(t, env, cluster.Bin(t, "pg_recvlogical"), "-d", shared.Database, "-S", "decoded", "-P", "test_decoding", "--create-slot")
		cluster.Exec(t, super, "INSERT INTO walked SELECT 'decoded ' || g FROM generate_series(1, 1000) g")
		cluster.Exec(t, conn, "SELECT vault.put_secret('wal/decoded', 'wal canary')")
		for _, sql := range []string{ // one that got into a table must not stop the slot
			"ALTER EVENT TRIGGER hyperion_vault_no_sealed_columns DISABLE",
			"CREATE TABLE carried_off AS SELECT vault.read_secret('wal/decoded') AS s",
			"DROP TABLE carried_off",
			"ALTER EVENT TRIGGER hyperion_vault_no_sealed_columns ENABLE",
		} {
			cluster.Exec(t, super, sql)
		}
		cluster.Output(t, env, cluster.Bin(t, "pg_recvlogical"), "-d", shared.Database, "-S", "decoded", "-f", out, "--start", "--no-loop", "--endpos", insertPosition(t))
		cluster.Output(t, env, cluster.Bin(t, "pg_recvlogical"), "-d", shared.Database, "-S", "decoded", "--drop-slot")
		text := read(t, out)
		if !strings.Contains(text, "'decoded 1000'") || !strings.Contains(text, "table vault.secret_versions: INSERT") ||
			!strings.Contains(text, "table public.carried_off: INSERT: s[vault.sealed]:'vault.sealed'") || strings.Contains(text, "wal canary") {
			t.Errorf("decoded: %.2000s", text)
		}
	})
	row.Run(t, "`replication=database` runs SQL; a text that calls the vault is refused", func(t *testing.T) {
		database := "dbname=" + shared.Database + " replication=database"
		if got := cluster.Output(t, env, cluster.Bin(t, "psql"), "-X", "-A", "-t", "-d", database, "-c", "IDENTIFY_SYSTEM", "-c", "SELECT 40 + 2"); !strings.Contains(got, "\n42\n") {
			t.Errorf("got %s", got)
		}
		for _, sql := range []string{"SELECT vault.read_secret('wal/before')", "SELECT vault.put_secret('wal/refused', 'wal canary')"} {
			out, err := cluster.Command(t, env, cluster.Bin(t, "psql"), "-X", "-d", database, "-c", sql).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "a replication connection cannot carry the vault's calls") {
				t.Errorf("%s: got %v, %s", sql, err, out)
			}
		}
	})
	shared.NeverSent(t, "wal canary")
}

// insertPosition ends what a receiver waits for: a record of its own lies
// before it, and one behind it, so that the end is reached.
func insertPosition(t *testing.T) string {
	t.Helper()
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, super, "SELECT pg_logical_emit_message(false, 'walker', 'end')")
	position := cluster.Text(t, super, "SELECT pg_current_wal_insert_lsn()::text")
	cluster.Exec(t, super, "SELECT pg_logical_emit_message(true, 'walker', 'behind the end')")
	return position
}

func anywhere(t *testing.T, root, value string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found = found || strings.Contains(read(t, path), value)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return found
}

// standby makes a server of a backup, which follows its primary through the
// node, and reads there what was put since, with a node of its own.
func standby(t *testing.T, env []string) {
	t.Helper()
	dir := filepath.Join(ownDir(t), "data")
	cluster.Output(t, env, cluster.Bin(t, "pg_basebackup"), "-D", dir, "-X", "stream", "-c", "fast", "-R", "-C", "-S", "standby")
	super := shared.Connect(t, shared.SuperDSN(0))
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return pgbouncer.Own(path)
	})
	if err != nil {
		t.Fatal(err)
	}
	address := cluster.FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("run", func(t *testing.T) {
		startDaemon(t, address, cluster.Bin(t, "postgres"), "-D", dir, "-p", port, "-c", "unix_socket_directories=", "-c", "listen_addresses=127.0.0.1", "-c", "logging_collector=off", "-c", "log_destination=stderr", "-c", "fsync=off")
		cluster.Exec(t, shared.Connect(t, shared.DSN(0, shared.User)), "SELECT vault.put_secret('wal/streamed', 'wal canary 2')")
		target := insertPosition(t)
		follower := shared.Connect(t, shared.AddressDSN(address, shared.Superuser))
		cluster.Eventually(t, "the replay", func() bool {
			return cluster.Text(t, follower, "SELECT (pg_last_wal_replay_lsn() >= '"+target+"')::text") == "true"
		})
		_, node, err := net.SplitHostPort(shared.Nodes[0].Proxy)
		if err != nil {
			t.Fatal(err)
		}
		if got := cluster.Text(t, follower, "SELECT status || ' ' || sender_port FROM pg_stat_wal_receiver"); got != "streaming "+node {
			t.Errorf("walreceiver: got %q, want streaming %s", got, node)
		}
		loose := shared.Nodes[0].StartLoose(t, map[string]string{"VAULT_LOCAL_PG": address})
		reader := shared.Connect(t, shared.AddressDSN(loose.Proxy, shared.User))
		for name, want := range map[string]string{"wal/before": "wal canary", "wal/streamed": "wal canary 2"} {
			if got := cluster.Text(t, reader, "SELECT vault.read_secret($1)", name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
	})
	cluster.Eventually(t, "the walsender's end", func() bool {
		return cluster.Text(t, super, "SELECT active::text FROM pg_replication_slots WHERE slot_name = 'standby'") == "false"
	})
	cluster.Exec(t, super, "SELECT pg_drop_replication_slot('standby')")
}
