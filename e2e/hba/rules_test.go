// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package hba

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// Cases are shared with the unit test of the evaluator, whose README describes
// them.
const cases = "../../proxy/hba/testdata"

// ownLines are those by which the node itself reaches the server; the clients
// come from elsewhere.
var ownLines = []string{"host all all 127.0.0.1/32 scram-sha-256", "host replication all 127.0.0.1/32 scram-sha-256"}

// A world is what the cases suppose: roles, databases, networks, and a node
// that listens on all of them.
type world struct {
	node             *cluster.Loose
	admin            *pgx.Conn
	nodePort, direct uint16
}

func newWorld(t *testing.T, settings map[string]string) *world {
	t.Helper()
	network(t)
	w := &world{admin: shared.Connect(t, shared.SuperDSN(0)), direct: portOf(t, shared.Nodes[0].Postgres)}
	for _, name := range []string{"alice", "bob", "carol", "sue", "rep"} {
		if cluster.Text(t, w.admin, "SELECT count(*)::text FROM pg_roles WHERE rolname = $1", name) == "0" {
			shared.AddUser(t, name)
		}
	}
	if cluster.Text(t, w.admin, "SELECT count(*)::text FROM pg_roles WHERE rolname = 'staff'") == "0" {
		for _, sql := range []string{
			"CREATE ROLE staff", "CREATE ROLE crew IN ROLE staff", "GRANT staff TO alice", "GRANT crew TO bob",
			"ALTER ROLE sue SUPERUSER", "ALTER ROLE rep REPLICATION", "CREATE DATABASE alice", "CREATE DATABASE staff",
		} {
			cluster.Exec(t, w.admin, sql)
		}
	}
	w.serveTLS(t)
	port := portOf(t, cluster.FreeAddress(t))
	all := map[string]string{"VAULT_PROXY_LISTEN": fmt.Sprintf("[::]:%d,%s", port, sockets.node)}
	for name, value := range settings {
		all[name] = value
	}
	w.node, w.nodePort = shared.Nodes[0].StartLoose(t, all), port
	return w
}

func portOf(t *testing.T, address string) uint16 {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(port)
}

// serveTLS gives the server the node's certificate.
func (w *world) serveTLS(t *testing.T) {
	t.Helper()
	if cluster.Text(t, w.admin, "SHOW ssl") == "on" {
		return
	}
	dir := shared.Nodes[0].DataDir
	for from, to := range map[string]string{shared.Certificate(): "hba.crt", strings.TrimSuffix(shared.Certificate(), ".crt") + ".key": "hba.key"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, to), text)
	}
	for _, sql := range []string{"ALTER SYSTEM SET ssl_cert_file = 'hba.crt'", "ALTER SYSTEM SET ssl_key_file = 'hba.key'", "ALTER SYSTEM SET ssl = on"} {
		cluster.Exec(t, w.admin, sql)
	}
	w.reload(t)
}

// write makes a file of the server's owner.
func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	uid, gid := ownerOf(t, filepath.Dir(path))
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
}

// rules puts lines behind ownLines until the test ends.
func (w *world) rules(t *testing.T, lines string) {
	t.Helper()
	path := filepath.Join(shared.Nodes[0].DataDir, "pg_hba.conf")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, []byte(strings.Join(ownLines, "\n")+"\n"+lines+"\n"))
	w.reload(t)
	t.Cleanup(func() { write(t, path, before) }) // whoever comes next reloads
}

// reload returns when new server processes have the new configuration.
func (w *world) reload(t *testing.T) {
	t.Helper()
	before := cluster.Text(t, w.admin, "SELECT pg_conf_load_time()::text")
	cluster.Exec(t, w.admin, "SELECT pg_reload_conf()")
	cluster.Eventually(t, "the new configuration", func() bool {
		fresh, err := pgx.Connect(t.Context(), shared.SuperDSN(0))
		if err != nil {
			return false
		}
		defer func() { _ = fresh.Close(context.WithoutCancel(t.Context())) }() // it was read
		return cluster.Text(t, fresh, "SELECT pg_conf_load_time()::text") != before
	})
}

// A client is one of a case file.
type client struct {
	address, user, database string
	words                   []string // tls, physical, logical
}

func parseClient(text string) client {
	words := strings.Fields(text)
	return client{words[0], words[1], words[2], words[3:]}
}

// connect logs in from where the client is, to the node or to the server itself.
func (w *world) connect(t *testing.T, c client, toNode bool, params map[string]string) (*pgconn.PgConn, error) {
	t.Helper()
	config, err := pgconn.ParseConfig(shared.DSN(0, c.user))
	if err != nil {
		t.Fatal("a DSN that does not parse") // its error would show the password
	}
	config.Database, config.Fallbacks, config.ConnectTimeout = c.database, nil, 10*time.Second
	config.Port = w.direct
	if toNode {
		config.Port = w.nodePort
	}
	if c.address == "local" {
		config.Host = sockets.server
		if toNode {
			config.Host = sockets.node
		}
	} else {
		config.Host = places[c.address].server
		config.DialFunc = dialFrom(c.address, places[c.address].space)
	}
	if slices.Contains(c.words, "tls") {
		config.TLSConfig = &tls.Config{InsecureSkipVerify: true}
	}
	if slices.Contains(c.words, "physical") {
		config.RuntimeParams["replication"] = "true"
	}
	if slices.Contains(c.words, "logical") {
		config.RuntimeParams["replication"] = "database"
	}
	for name, value := range params {
		config.RuntimeParams[name] = value
	}
	return pgconn.ConnectConfig(t.Context(), config)
}

// verdict is "in", or the refusal as the client hears it.
func (w *world) verdict(t *testing.T, c client, toNode bool) string {
	t.Helper()
	conn, err := w.connect(t, c, toNode, nil)
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		return refused.Severity + " " + refused.Code + " " + refused.Message
	case err != nil:
		return err.Error()
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return "in"
}

// TestServerAndNodeAgree: what a client hears from the node is what it would
// hear from the server itself; a line that only the server can apply is named.
func TestServerAndNodeAgree(t *testing.T) {
	w := newWorld(t, nil)
	paths, err := filepath.Glob(filepath.Join(cases, "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	version, err := strconv.Atoi(cluster.Text(t, w.admin, "SHOW server_version_num"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file, clients, _ := strings.Cut(string(text), "\n--\n")
		if strings.HasPrefix(file, "# from 16\n") && version < 160000 || strings.HasPrefix(file, "# before 16\n") && version >= 160000 {
			t.Logf("%s is not about this server", filepath.Base(path))
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			w.rules(t, file)
			for line := range strings.Lines(clients) {
				who, want, _ := strings.Cut(strings.TrimSpace(line), " => ")
				w.compare(t, parseClient(who), who, want)
			}
		})
	}
}

func (w *world) compare(t *testing.T, c client, who, want string) {
	t.Helper()
	node := w.verdict(t, c, true)
	if number, only := strings.CutPrefix(want, "line "); only {
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("FATAL 28000 line %d of pg_hba.conf decides about this connection, and a node cannot apply it", n+len(ownLines)); node != want {
			t.Errorf("%s: the node says %s, want %s", who, node, want)
		}
		return
	}
	server := w.verdict(t, c, false)
	if got := short(server); got != want {
		t.Errorf("%s: the server says %s, the case file %s", who, server, want)
	}
	if node != server {
		t.Errorf("%s: the node says %s, the server %s", who, node, server)
	}
}

// short is a refusal of the server's in the words of a case file.
func short(verdict string) string {
	switch {
	case strings.HasPrefix(verdict, "FATAL 28000 no pg_hba.conf entry for "):
		return "none"
	case strings.HasPrefix(verdict, "FATAL 28000 pg_hba.conf rejects "):
		return "reject"
	default:
		return verdict
	}
}
