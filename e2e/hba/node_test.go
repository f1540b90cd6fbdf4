// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package hba

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

func ownerOf(t *testing.T, path string) (uid, gid int) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no owner")
	}
	return int(owner.Uid), int(owner.Gid)
}

func logOf(t *testing.T, node *cluster.Loose) string {
	t.Helper()
	text, err := os.ReadFile(node.Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const everybody = "host all all all scram-sha-256"

var alice = client{address: "198.51.100.2", user: "alice", database: "app"}

// TestUnreadableFile: a server that cannot load its file goes on with the lines
// that it has, and so does the node; the next good file counts at once.
func TestUnreadableFile(t *testing.T) {
	w := newWorld(t, nil)
	w.rules(t, "host all alice 198.51.100.130/32 reject\n"+everybody)
	rejected := client{address: "198.51.100.130", user: "alice", database: "app"}
	both := func(when string, c client, want string) {
		t.Helper()
		for _, toNode := range []bool{false, true} {
			if got := short(w.verdict(t, c, toNode)); got != want {
				t.Errorf("%s, %s, node %v: got %s, want %s", when, c.address, toNode, got, want)
			}
		}
	}
	both("before", alice, "in")
	both("before", rejected, "reject")
	w.rules(t, "hots all all all trust\n"+everybody)
	both("unreadable", alice, "in")
	both("unreadable", rejected, "reject")
	if log := logOf(t, w.node); strings.Count(log, "the lines of before are kept") != 1 || !strings.Contains(log, "line 3 of pg_hba.conf cannot be read: invalid connection type") {
		t.Errorf("the node's log does not say once what is wrong: %s", log)
	}
	w.rules(t, "host all alice 198.51.100.2/32 reject\n"+everybody)
	both("after", alice, "reject")
	both("after", rejected, "in")
}

// TestNothingBeforeTheProof: who does not know the password learns nothing of
// the rules.
func TestNothingBeforeTheProof(t *testing.T) {
	w := newWorld(t, nil)
	w.rules(t, "host all alice all reject\nhost all bob all ident\n"+everybody)
	for _, user := range []string{"alice", "bob", "carol"} {
		config, err := pgconn.ParseConfig(shared.DSN(0, user))
		if err != nil {
			t.Fatal("a DSN that does not parse") // its error would show the password
		}
		config.Host, config.Port, config.Password, config.Fallbacks = "198.51.100.1", w.nodePort, "wrong", nil
		config.DialFunc = dialFrom(alice.address, places[alice.address].space)
		_, err = pgconn.ConnectConfig(t.Context(), config)
		if want := `password authentication failed for user "` + user + `"`; err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pg_hba") {
			t.Errorf("%s: got %v, want %s", user, err, want)
		}
	}
	if got := short(w.verdict(t, alice, true)); got != "reject" {
		t.Errorf("with the password: got %s", got)
	}
	if log := logOf(t, w.node); !strings.Contains(log, "log-in refused") || !strings.Contains(log, "pg_hba.conf rejects connection for host") {
		t.Error("the node's log does not say why")
	}
}

// TestOff: a node that is told so leaves pg_hba.conf to the server.
func TestOff(t *testing.T) {
	w := newWorld(t, map[string]string{"VAULT_PROXY_HBA": "off"})
	w.rules(t, "host all all all reject")
	if got := w.verdict(t, alice, true); got != "in" {
		t.Errorf("got %s", got)
	}
}

// ask runs one query as a client and returns its one value; NULL is "NULL".
func (w *world) ask(t *testing.T, c client, params map[string]string, sql string) string {
	t.Helper()
	conn, err := w.connect(t, c, true, params)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }() // its answer was read
	results, err := conn.Exec(t.Context(), sql).ReadAll()
	if err != nil {
		return err.Error()
	}
	last := results[len(results)-1]
	if len(last.Rows) != 1 || len(last.Rows[0]) != 1 {
		t.Fatalf("%s: %d rows", sql, len(last.Rows))
	}
	if last.Rows[0][0] == nil {
		return "NULL"
	}
	return string(last.Rows[0][0])
}

// TestClientAddr: SQL learns the client's address from the node and from nobody
// else, of all kinds of connections.
func TestClientAddr(t *testing.T) {
	w := newWorld(t, nil)
	w.rules(t, everybody+"\nlocal all all scram-sha-256\nhost replication all all scram-sha-256")
	const addr = "SELECT vault.client_addr()"
	forged := []map[string]string{
		nil,
		{"hyperion_vault.client_addr": "10.9.9.9"},
		{"HYPERION_VAULT.Client_Addr": "10.9.9.9"},
		{"options": "-c hyperion_vault.client_addr=10.9.9.9"},
		{"options": "--hyperion-vault.client-addr=10.9.9.9"},
		{"options": `-c hyperion_vault.client_add\r=10.9.9.9`, "hyperion_vault.client_addr": "10.9.9.9"},
	}
	for _, address := range []string{"198.51.100.2", "198.51.100.130", "fd00:51::2", "203.0.113.2", "local"} {
		want := address
		if address == "local" {
			want = "NULL"
		}
		for _, params := range forged {
			if got := w.ask(t, client{address: address, user: "alice", database: "app"}, params, addr); got != want {
				t.Errorf("%s with %v: got %s, want %s", address, params, got, want)
			}
		}
	}
	if got := w.ask(t, alice, nil, "SET hyperion_vault.client_addr = '10.9.9.9'; "+addr); !strings.Contains(got, "cannot be set after connection start") {
		t.Errorf("SET: got %s", got)
	}
	tls := client{address: "198.51.100.2", user: "alice", database: "staff", words: []string{"tls"}}
	if got := w.ask(t, tls, nil, "SELECT current_setting('hyperion_vault.client_addr')"); got != "198.51.100.2" {
		t.Errorf("another database: got %s", got)
	}
	for _, mode := range []string{"physical", "logical"} { // which no vault call can show
		replica := client{address: "198.51.100.2", user: "rep", database: "app", words: []string{mode}}
		if got := w.ask(t, replica, forged[1], "SHOW wal_level"); got != "replica" {
			t.Errorf("%s replication: got %s", mode, got)
		}
	}
}

// TestAppname: the address is in application_name where a node is told so.
func TestAppname(t *testing.T) {
	w := newWorld(t, map[string]string{"VAULT_APPNAME_ADD_HOST": "true"})
	w.rules(t, everybody+"\nlocal all all scram-sha-256")
	const name = "SELECT current_setting('application_name')"
	for _, c := range []struct {
		address, sent, want string
	}{
		{"198.51.100.2", "psql", "psql - 198.51.100.2:"},
		{"fd00:51::2", "psql", "psql - [fd00:51::2]:"},
		{"198.51.100.2", "", "app - 198.51.100.2:"},
		{"local", "psql", "psql - unix"},
	} {
		var params map[string]string
		if c.sent != "" {
			params = map[string]string{"application_name": c.sent}
		}
		if got := w.ask(t, client{address: c.address, user: "alice", database: "app"}, params, name); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got %q, want %q…", c.address, got, c.want)
		}
	}
}

// TestOldExtension: with an extension that cannot tell its rules a node works as
// before, and says so once. Where the library is not preloaded, the setting
// that the node sends does no harm.
func TestOldExtension(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{Settings: map[string]string{"shared_preload_libraries": ""}})
	admin := c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, admin, "ALTER EXTENSION hyperion_vault DROP FUNCTION vault.hba_rules()")
	cluster.Exec(t, admin, "ALTER FUNCTION vault.hba_rules() RENAME TO not_yet")
	node := c.Nodes[0].StartLoose(t, nil)
	config, err := pgx.ParseConfig(c.DSN(0, c.User))
	if err != nil {
		t.Fatal("a DSN that does not parse") // its error would show the password
	}
	config.Port = portOf(t, node.Proxy)
	for range 3 {
		conn, err := pgx.ConnectConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		if got := cluster.Text(t, conn, "SELECT vault.client_addr()::text"); got != "127.0.0.1/32" && got != "127.0.0.1" {
			t.Errorf("client_addr: got %s", got)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	replica := config.Copy()
	replica.User, replica.Password, replica.RuntimeParams["replication"] = c.Superuser, c.SuperuserPassword, "true"
	conn, err := pgconn.ConnectConfig(t.Context(), &replica.Config)
	if err != nil {
		t.Fatalf("replication: %v", err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got := strings.Count(logOf(t, node), "pg_hba.conf is not applied to the addresses of clients"); got != 1 {
		t.Errorf("the node warns %d times, want once", got)
	}
	// Renamed back by an upgrade, the function is found without a restart, and
	// without the right to it nobody comes in.
	cluster.Exec(t, admin, "ALTER FUNCTION vault.not_yet() RENAME TO hba_rules")
	cluster.Exec(t, admin, "REVOKE EXECUTE ON FUNCTION vault.hba_rules() FROM vault_service")
	cluster.Eventually(t, "the function to be missed", func() bool {
		conn, err := pgx.ConnectConfig(t.Context(), config)
		if err == nil {
			_ = conn.Close(t.Context()) // let in
			return false
		}
		return strings.Contains(err.Error(), "57P03")
	})
	cluster.Exec(t, admin, "GRANT EXECUTE ON FUNCTION vault.hba_rules() TO vault_service")
	cluster.Eventually(t, "the right to count", func() bool {
		conn, err := pgx.ConnectConfig(t.Context(), config)
		return err == nil && conn.Close(t.Context()) == nil
	})
}
