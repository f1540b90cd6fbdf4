// SPDX-License-Identifier: GPL-3.0-or-later

// Package cluster gives end-to-end tests a scratch cluster: a PostgreSQL
// primary, streaming standbys and a node of the built binary beside each. It is
// cmd/devcluster with what only tests ask for: one shared cluster a package,
// users, metrics, frozen processes.
//
// A package shares one cluster through TestMain:
//
//	var shared *cluster.Cluster
//
//	func TestMain(m *testing.M) { cluster.Main(m, cluster.Spec{Standbys: 1}, &shared) }
//
// A test that breaks things starts one of its own with Start.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

// Spec says what to start. Its zero value is a primary with a node on it.
type Spec struct {
	// Standbys is the number of streaming standbys, each with a node.
	Standbys int
	// Database is the vault's, empty: app.
	Database string
	// Settings are lines of postgresql.conf of every server; see LogAll.
	Settings map[string]string
	// NodeEnv are VAULT_* settings of every node.
	NodeEnv map[string]string
	// AWS are variables of the environment for nodes that use the AWS KMS; NodeEnv
	// names the key. See KMS.
	AWS []string
	// Listen is the address that nodes listen on, empty: 127.0.0.1. Beyond
	// loopback the nodes have a certificate (Cluster.Certificate).
	Listen string
	// ServersOnly starts no node; the vault is initialised.
	ServersOnly bool
	// Plain starts servers that know nothing of the vault; its library is
	// loaded only if Settings preload it.
	Plain bool
	// Breakable has nodes reach other nodes' servers, and standbys their primary,
	// through links (Cluster.Link).
	Breakable bool
}

// LogAll are the settings with which a server writes down all that it sees:
// every statement, its parameters, its plan, and statistics of each.
func LogAll() map[string]string {
	return map[string]string{
		"shared_preload_libraries":           "pg_stat_statements,auto_explain,hyperion_vault",
		"log_statement":                      "all",
		"log_min_duration_statement":         "0",
		"log_duration":                       "on",
		"log_parameter_max_length":           "-1",
		"log_parameter_max_length_on_error":  "-1",
		"log_error_verbosity":                "verbose",
		"log_min_error_statement":            "debug5",
		"log_replication_commands":           "on",
		"log_connections":                    "on",
		"auto_explain.log_min_duration":      "0",
		"auto_explain.log_analyze":           "on",
		"auto_explain.log_verbose":           "on",
		"auto_explain.log_nested_statements": "on",
		"auto_explain.log_triggers":          "on",
		"pg_stat_statements.track":           "all",
		"pg_stat_statements.track_utility":   "on",
		"pg_stat_statements.save":            "on",
		"track_activity_query_size":          "1MB",
		"track_functions":                    "all",
		"max_connections":                    "90",
		"log_temp_files":                     "0",
		"log_lock_waits":                     "on",
		"log_checkpoints":                    "on",
		"hyperion_vault.scan_interval_secs":  "2",
	}
}

// A Cluster is what Start made. Everything of devcluster's is there: Database,
// Superuser, SuperuserPassword, User, Password, AdminToken, VaultID, Dir.
type Cluster struct {
	*devcluster.Cluster
	// Nodes are the primary (first) and the standbys; they hide those of
	// devcluster, which they embed.
	Nodes []*Node

	mu        sync.Mutex
	passwords map[string]string
	remarks   *remarks
	links     *links
}

// A Node is a server and the hyperion-vault process beside it. Embedded are
// Name, Role, Proxy, REST, Metrics, Postgres (addresses), DataDir, AuditDir,
// PID, PostgresPID, Config, and Start/Stop/Kill of Node and Server.
type Node struct {
	*devcluster.Node
	// Log is the path of the hyperion-vault process's output.
	Log string
	// ServerLogPath is the path of the PostgreSQL server's log.
	ServerLogPath string

	aws []string
}

// remarks collects what devcluster says (a child died).
type remarks struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *remarks) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *remarks) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

const startTimeout = 2 * time.Minute

// New starts a cluster that the caller stops with Stop. Tests use Start or Main.
func New(ctx context.Context, spec Spec) (*Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	binary, err := Binary()
	if err != nil {
		return nil, err
	}
	if spec.Plain {
		binary = ""
	}
	c := &Cluster{passwords: map[string]string{}, remarks: &remarks{}}
	config := devcluster.Config{
		Binary: binary, ServersOnly: spec.ServersOnly, Standbys: spec.Standbys, Listen: spec.Listen, Database: spec.Database,
		ServerSettings: maps.Clone(spec.Settings), NodeSettings: maps.Clone(spec.NodeEnv), AWS: spec.AWS, Log: c.remarks,
	}
	if spec.Breakable {
		c.links = newLinks(ctx)
		config.Reach = c.links.reach
	}
	c.Cluster, err = devcluster.Start(ctx, config)
	if err != nil {
		return nil, err
	}
	for _, n := range c.Cluster.Nodes {
		c.Nodes = append(c.Nodes, &Node{Node: n, Log: n.NodeLog(), ServerLogPath: n.ServerLog(), aws: spec.AWS})
	}
	c.passwords[c.User] = c.Password
	c.passwords[c.Superuser] = c.SuperuserPassword
	return c, nil
}

// Start starts a cluster that ends with the test.
func Start(tb testing.TB, spec Spec) *Cluster {
	tb.Helper()
	c, err := New(tb.Context(), spec)
	if err != nil {
		tb.Fatalf("cluster: %v", err)
	}
	tb.Cleanup(func() {
		if err := c.Stop(); err != nil {
			tb.Errorf("stop the cluster: %v", err)
		}
		if tb.Failed() {
			tb.Logf("what the cluster said: %s", c.Remarks())
		}
	})
	return c
}

// Main is a TestMain: it starts a cluster, puts it where into points, runs the
// tests and stops it. `go test -list` needs no cluster and gets none.
func Main(m *testing.M, spec Spec, into **Cluster) {
	if listing() {
		m.Run()
		return
	}
	c, err := New(context.Background(), spec) //nolint:forbidigo // a TestMain has none
	if err != nil {
		panic(fmt.Sprintf("cluster: %v", err))
	}
	*into = c
	defer func() {
		if err := c.Stop(); err != nil {
			panic(fmt.Sprintf("stop the cluster: %v", err))
		}
	}()
	m.Run()
}

func listing() bool {
	for _, arg := range os.Args[1:] {
		if strings.HasPrefix(arg, "-test.list") {
			return true
		}
	}
	return false
}

// Binary is the program under test: HYPERION_VAULT_BINARY, else what `make
// build` left in bin.
func Binary() (string, error) {
	if path := os.Getenv("HYPERION_VAULT_BINARY"); path != "" { //nolint:forbidigo // a choice of who runs the tests
		return path, nil
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", "hyperion-vault")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: run `make build`", err)
	}
	return path, nil
}

// Root is the repository's directory.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = parent
	}
}

// Remarks is what the cluster had to say, one line for each child that died.
func (c *Cluster) Remarks() string { return c.remarks.String() }

// DSN is for the i-th node's proxy: user is c.User, c.Superuser or one that
// AddUser made.
func (c *Cluster) DSN(i int, user string) string { return c.AddressDSN(c.Nodes[i].Proxy, user) }

// DirectDSN is for the i-th server's own port.
func (c *Cluster) DirectDSN(i int, user string) string {
	return c.AddressDSN(c.Nodes[i].Postgres, user)
}

// SuperDSN is the superuser's, for the i-th server's own port.
func (c *Cluster) SuperDSN(i int) string { return c.DirectDSN(i, c.Superuser) }

// AddressDSN is for whatever listens at an address: a loose node, say.
func (c *Cluster) AddressDSN(address, user string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		panic(fmt.Sprintf("internal error: address %q", address))
	}
	return fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=%s sslmode=disable connect_timeout=10", host, port, user, c.password(user), c.Database)
}

func (c *Cluster) password(user string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passwords[user]
}

// Certificate is the path of the nodes' certificate, its own root, where Listen
// is beyond loopback.
func (c *Cluster) Certificate() string { return filepath.Join(c.Dir(), "tls.crt") }

// AddUser makes a LOGIN role and returns its name, which is a plain identifier.
// grants are pairs of a pattern and comma-separated actions: AddUser(t, "bob",
// "app/*", "read,list").
func (c *Cluster) AddUser(tb testing.TB, name string, grants ...string) string {
	tb.Helper()
	password := "pw-" + name
	conn := c.Connect(tb, c.AddressDSN(c.Primary().Postgres, c.Superuser))
	Exec(tb, conn, "CREATE ROLE "+name+" LOGIN PASSWORD '"+password+"'")
	c.mu.Lock()
	c.passwords[name] = password
	c.mu.Unlock()
	for i := 0; i+1 < len(grants); i += 2 {
		Exec(tb, conn, "SELECT vault.grant_access($1::regrole, $2, VARIADIC $3::text[])", name, grants[i], strings.Split(grants[i+1], ","))
	}
	return name
}

// Connect opens a connection that ends with the test.
func (c *Cluster) Connect(tb testing.TB, dsn string, options ...func(*pgx.ConnConfig)) *pgx.Conn {
	tb.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		tb.Fatal("a DSN that does not parse") // its error would show the password
	}
	for _, option := range options {
		option(config)
	}
	conn, err := pgx.ConnectConfig(tb.Context(), config)
	if err != nil {
		tb.Fatalf("connect: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // what it did was looked at
	})
	return conn
}

// Exec runs a statement that must work.
func Exec(tb testing.TB, conn *pgx.Conn, sql string, args ...any) {
	tb.Helper()
	if _, err := conn.Exec(tb.Context(), sql, args...); err != nil {
		tb.Fatalf("%.200s: %v", sql, err)
	}
}

// Text is the one column of the one row that a query must give, as text.
func Text(tb testing.TB, conn *pgx.Conn, sql string, args ...any) string {
	tb.Helper()
	var text string
	if err := conn.QueryRow(tb.Context(), sql, args...).Scan(&text); err != nil {
		tb.Fatalf("%.200s: %v", sql, err)
	}
	return text
}

// Eventually tries until ok, at most a minute.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			tb.Fatalf("%s: not within a minute", what)
		}
	}
}

// WaitReplayed returns when the i-th server has replayed what the primary has
// written so far.
func (c *Cluster) WaitReplayed(tb testing.TB, i int) {
	tb.Helper()
	primary := c.Connect(tb, c.AddressDSN(c.Primary().Postgres, c.Superuser))
	standby := c.Connect(tb, c.SuperDSN(i))
	// An own record behind the last one: a position at a page's start is never replayed to.
	Exec(tb, primary, "SELECT pg_catalog.pg_logical_emit_message(false, 'cluster', 'replayed')")
	position := Text(tb, primary, "SELECT pg_catalog.pg_current_wal_insert_lsn()::text")
	Eventually(tb, "replay", func() bool {
		var done bool
		err := standby.QueryRow(tb.Context(), "SELECT coalesce(pg_catalog.pg_last_wal_replay_lsn() >= $1::pg_lsn, true)", position).Scan(&done)
		return err == nil && done
	})
}
