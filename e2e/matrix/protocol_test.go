// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e && matrix

package matrix

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestServer says which one it is.
func TestServer(t *testing.T) {
	check(t, "server")
	seen(t, "%s", cluster.Text(t, shared.Connect(t, shared.SuperDSN(0)), "SHOW server_version"))
}

// TestExtension says which one a database gets.
func TestExtension(t *testing.T) {
	check(t, "extension")
	seen(t, "%s", cluster.Text(t, shared.Connect(t, shared.SuperDSN(0)), "SELECT extversion FROM pg_extension WHERE extname = 'hyperion_vault'"))
}

// TestProtocol32 has raw clients of protocol 3.2 and of one that nobody knows: the
// node gives each the longest key that its version has room for, whatever the
// server does, and that key cancels.
func TestProtocol32(t *testing.T) {
	check(t, "protocol 3.2 and a cancel key of 32 bytes at the server itself; at the node always")
	modern := major(t) >= 18
	for _, c := range []struct {
		version         uint32
		key             int    // how many bytes
		negotiated, old string // by nodes and 18, and by servers before it
	}{
		{3 << 16, 4, "", ""},
		{3<<16 | 2, 32, "", "v(3.0:0:)"},
		{3<<16 | 9999, 32, "v(3.2:0:)", "v(3.0:0:)"},
	} {
		for i, address := range []string{shared.Nodes[0].Postgres, shared.Nodes[0].Proxy, shared.Nodes[1].Proxy} {
			conn, said := open(t, address, c.version)
			length, negotiated := c.key, c.negotiated
			if i == 0 && !modern {
				length, negotiated = 4, c.old
			}
			if got := slices.IndexFunc(said, func(m string) bool { return strings.HasPrefix(m, "v(") }); (got >= 0) != (negotiated != "") || got >= 0 && said[got] != negotiated {
				t.Errorf("%s, version %x: got %v, want %q", address, c.version, said, negotiated)
			}
			if len(conn.Secret) != length {
				t.Errorf("%s, version %x: got a key of %d bytes, want %d", address, c.version, len(conn.Secret), length)
			}
			if i < 2 {
				cancels(t, conn)
			}
		}
	}
	if modern {
		seen(t, "yes")
	} else {
		seen(t, "not before 18: 4 bytes")
	}
}

// open logs in with a protocol version, and returns what the server said.
func open(t *testing.T, address string, version uint32) (*rawpg.Conn, []string) {
	t.Helper()
	c, err := rawpg.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the test is over
	if err := c.Write(rawpg.Startup(version, "user", shared.User, "database", shared.Database)); err != nil {
		t.Fatal(err)
	}
	var said []string
	messages, err := c.LogIn(&rawpg.Scram{Password: shared.Password})
	for _, m := range messages {
		said = append(said, m.String())
	}
	if err != nil {
		t.Fatalf("%s, version %x: %v after %v", address, version, err, said)
	}
	return c, said
}

// running says whether a backend of the primary is in the statement that cancels sends.
func running(t *testing.T, pid uint32) bool {
	t.Helper()
	super := shared.Connect(t, shared.SuperDSN(0))
	return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE pid = $1 AND state = 'active' AND query LIKE '%pg_sleep%'", pid) == "1"
}

// cancels has a connection's own key end its statement, and no shorter one.
func cancels(t *testing.T, c *rawpg.Conn) {
	t.Helper()
	if err := c.Send(rawpg.Query("SELECT pg_sleep(60)")); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, "the statement to run", func() bool { return running(t, c.PID) })
	whole := c.Secret
	if len(whole) > 4 {
		c.Secret = whole[:4]
		if err := c.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !running(t, c.PID) {
			t.Error("the first four bytes of a long key cancel")
		}
		c.Secret = whole
	}
	if err := c.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.Answers(t), " "); got != "T(pg_sleep:2278) E(57014) Z(I)" && got != "E(57014) Z(I)" {
		t.Errorf("cancelled: got %s", got)
	}
}

// TestPsqlCancels has this major's psql, by the newest protocol that it speaks,
// read a secret through a node, and cancels it as Ctrl-C does.
func TestPsqlCancels(t *testing.T) {
	check(t, "psql of that major through a node: protocol, a secret read, Ctrl-C")
	psql := cluster.Bin(t, "psql")
	version := regexp.MustCompile(`\d+`).FindString(cluster.Output(t, nil, psql, "--version"))
	env, protocol := shared.Libpq(t, shared.Nodes[0].Proxy, shared.User), "3.0"
	if version >= "18" {
		env = append(env, "PGMAXPROTOCOLVERSION=3.2")
		protocol = "3.2"
		if got := cluster.Output(t, env, psql, "-XAtc", `\conninfo`); !strings.Contains(got, "Protocol Version|3.2") {
			t.Errorf("conninfo: got %s", got)
		}
	}
	seen(t, "psql %s, %s", version, protocol)
	cluster.Output(t, env, psql, "-XAtc", "SELECT vault.put_secret('psql/32', 'of psql')")
	if got := cluster.Output(t, env, psql, "-XAtc", "SELECT vault.read_secret('psql/32')"); got != "of psql\n" {
		t.Errorf("read: got %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := cluster.Command(t, env, psql, "-XAtc", "SELECT 'interrupted', pg_sleep(60)")
	result := make(chan string, 1)
	go func() {
		out, _ := cmd.CombinedOutput() // it ends with an error
		result <- string(out)
	}()
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Eventually(t, "psql's statement", func() bool {
		return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE 'SELECT ''interrupted''%' AND state = 'active'") == "1"
	})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case out := <-result:
		if !strings.Contains(out, "canceling statement due to user request") {
			t.Errorf("Ctrl-C: got %q", out)
		}
	case <-ctx.Done():
		t.Error("Ctrl-C had no effect")
	}
}
