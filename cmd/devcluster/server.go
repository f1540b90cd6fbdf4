// SPDX-License-Identifier: GPL-3.0-or-later

package devcluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// confFile is included by postgresql.conf; it is written anew before each start
// because a base backup brings the primary's along.
const confFile = "devcluster.conf"

func (c *Cluster) startServers(ctx context.Context) error {
	primary := c.Nodes[0]
	for _, n := range c.Nodes {
		n.Role = RoleStandby
	}
	if kept := c.keptPrimary(); kept != nil {
		primary = kept
	}
	primary.Role = RolePrimary
	fresh := !primary.hasData()
	if fresh {
		if err := primary.initdb(ctx); err != nil {
			return err
		}
	}
	if err := primary.StartServer(ctx); err != nil {
		return err
	}
	if fresh {
		if err := c.provision(ctx, primary); err != nil {
			return err
		}
	}
	for _, n := range c.Nodes {
		if n == primary {
			continue
		}
		if !n.hasData() {
			if err := n.basebackup(ctx, primary); err != nil {
				return err
			}
		}
		if err := n.StartServer(ctx); err != nil {
			return err
		}
	}
	return nil
}

// keptPrimary is the server of a kept directory that is not a standby.
func (c *Cluster) keptPrimary() *Node {
	for _, n := range c.Nodes {
		if !n.hasData() {
			continue
		}
		if _, err := os.Stat(filepath.Join(n.DataDir, "standby.signal")); errors.Is(err, os.ErrNotExist) {
			return n
		}
	}
	return nil
}

func (n *Node) hasData() bool {
	_, err := os.Stat(filepath.Join(n.DataDir, "PG_VERSION"))
	return err == nil
}

// makeDataDir makes the directory that PostgreSQL wants to own.
func (n *Node) makeDataDir() error {
	if err := os.Mkdir(n.DataDir, 0o700); err != nil {
		return err
	}
	return n.cluster.account.own(n.DataDir)
}

func (n *Node) initdb(ctx context.Context) error {
	c := n.cluster
	if err := n.makeDataDir(); err != nil {
		return err
	}
	passwordFile := filepath.Join(n.dir, "superuser.pass")
	if err := writeFile(passwordFile, []byte(c.secrets.SuperuserPassword+"\n"), c.account); err != nil {
		return err
	}
	defer func() { _ = os.Remove(passwordFile) }() // goes with the directory at the latest
	_, err := n.tool(ctx, "initdb", nil, "--pgdata", n.DataDir, "--username", superuser, "--pwfile", passwordFile,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions")
	if err != nil {
		return fmt.Errorf("%w%s", err, c.hintReach())
	}
	err = appendFile(filepath.Join(n.DataDir, "postgresql.conf"), fmt.Sprintf("\ninclude = '%s'\n", confFile))
	if err != nil || !c.beyondLoopback() {
		return err
	}
	return n.admitEverybody()
}

// admitEverybody lets the node's clients come from anywhere: a node applies its
// server's pg_hba.conf to their addresses. The server itself is on loopback.
func (n *Node) admitEverybody() error {
	return appendFile(filepath.Join(n.DataDir, "pg_hba.conf"), "host all all all scram-sha-256\nhost replication all all scram-sha-256\n")
}

// hintReach names the usual reason why a tool fails in a directory of ours.
func (c *Cluster) hintReach() string {
	if c.account.credential == nil || c.config.Dir == "" {
		return ""
	}
	return fmt.Sprintf(" (every directory above %s must let the user %s through)", c.dir, c.account.name)
}

func (n *Node) basebackup(ctx context.Context, primary *Node) error {
	c := n.cluster
	if err := n.makeDataDir(); err != nil {
		return err
	}
	if err := n.writePassFile(); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(primary.Postgres)
	if err != nil {
		return err
	}
	_, err = n.tool(ctx, "pg_basebackup", []string{"PGPASSFILE=" + n.passFile()}, "--pgdata", n.DataDir, "--host", host, "--port", port,
		"--username", replicator, "--no-password", "--wal-method", "stream", "--checkpoint", "fast", "--no-sync")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(n.DataDir, "standby.signal"), nil, c.account)
}

func (n *Node) passFile() string { return filepath.Join(n.dir, "replication.pass") }

// tool runs one of PostgreSQL's programs as the server's user.
func (n *Node) tool(ctx context.Context, program string, env []string, args ...string) (string, error) {
	c := n.cluster
	return run(ctx, c.spawner, c.account, n.dir, environment(c.bindir, n.dir, env...), filepath.Join(c.bindir, program), args...)
}

// writeConf writes all settings of ours; the caller's come last and win.
func (n *Node) writeConf() error {
	c := n.cluster
	_, port, err := net.SplitHostPort(n.Postgres)
	if err != nil {
		return err
	}
	lines := [][2]string{
		{"listen_addresses", loopback},
		{"port", port},
		{"unix_socket_directories", ""}, // its path could be longer than a socket's may be
		{"cluster_name", n.Name},
		{"password_encryption", "scram-sha-256"},
		{"wal_level", "replica"},
		{"hot_standby", "on"},
		{"wal_keep_size", "256MB"}, // a standby that was down a while still finds its place
		{"logging_collector", "off"},
		{"log_destination", "stderr"}, // our log file
		{"log_line_prefix", "%m [%p] %q%u@%d "},
	}
	if c.config.Binary != "" {
		lines = append(lines,
			[2]string{"shared_preload_libraries", "hyperion_vault"},
			[2]string{"hyperion_vault.database", c.secrets.Database},
			[2]string{"hyperion_vault.proxy_login", "all"}, // so that a look around as postgres works through a node
		)
	}
	if n.Role == RoleStandby && !n.detached {
		conninfo, err := n.primaryConninfo()
		if err != nil {
			return err
		}
		lines = append(lines, [2]string{"primary_conninfo", conninfo})
		if err := n.writePassFile(); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.config.ServerSettings)) {
		lines = append(lines, [2]string{name, c.config.ServerSettings[name]})
	}
	var text strings.Builder
	for _, line := range lines {
		fmt.Fprintf(&text, "%s = %s\n", line[0], quoteConf(line[1]))
	}
	return writeFile(filepath.Join(n.DataDir, confFile), []byte(text.String()), c.account)
}

// quote writes a value of a connection string.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// quoteConf writes a value of postgresql.conf.
func quoteConf(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}

// StartServer starts the node's PostgreSQL, again after StopServer or
// KillServer, and returns when it answers.
func (n *Node) StartServer(ctx context.Context) error {
	c := n.cluster
	if err := n.writeConf(); err != nil {
		return err
	}
	if n.server == nil {
		n.server = &process{
			label: n.Name + ": PostgreSQL", path: filepath.Join(c.bindir, "postgres"), args: []string{"-D", n.DataDir},
			env: environment(c.bindir, n.dir), dir: n.dir, account: c.account, logPath: n.ServerLog(),
			death:   syscall.SIGQUIT, // immediate shutdown: fast, and no shared memory stays
			spawner: c.spawner, reserved: []*reservation{n.ports.server}, onDeath: c.died,
		}
	}
	return n.launch(ctx)
}

// launch tries again while the processes of a killed server still go down:
// until then a new one refuses to start on their shared memory.
func (n *Node) launch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		if err := n.server.start(); err != nil {
			return err
		}
		n.PostgresPID = n.server.pid()
		err := waitFor(ctx, n.server, n.answers)
		if err == nil {
			n.server.up()
			return nil
		}
		log := tail(n.ServerLog())
		_, last, _ := strings.Cut(log, fmt.Sprintf("[%d] ", n.PostgresPID)) // what this start wrote
		if !errors.Is(err, errEnded) || ctx.Err() != nil || !strings.Contains(last, "pre-existing shared memory block") {
			return fmt.Errorf("%s: PostgreSQL is not ready: %w; its log ends: %s", n.Name, err, log)
		}
	}
}

// answers tells whether the server takes connections.
func (n *Node) answers(ctx context.Context) error {
	conn, err := n.ConnectServer(ctx, superuser, n.cluster.SuperuserPassword, superuser)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// ConnectServer opens a connection to the server itself, not through a node.
func (n *Node) ConnectServer(ctx context.Context, user, password, database string) (*pgx.Conn, error) {
	return connect(ctx, n.Postgres, user, password, database)
}

// connect uses nothing of libpq's environment: no PG* variable, no passfile.
func connect(ctx context.Context, address, user, password, database string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig("host=127.0.0.1 port=1 user=u password=p dbname=d sslmode=disable passfile=/dev/null servicefile=/dev/null")
	if err != nil {
		return nil, err
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, err
	}
	config.Host, config.Port, config.User, config.Password, config.Database = host, uint16(port), user, password, database
	config.ConnectTimeout = 5 * time.Second
	config.Fallbacks = nil
	config.RuntimeParams = map[string]string{"application_name": "devcluster"}
	config.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {}
	return pgx.ConnectConfig(ctx, config)
}

// StopServer shuts the node's PostgreSQL down in order ("fast").
func (n *Node) StopServer(ctx context.Context) error { return n.stopServer(ctx, serverStop...) }

// KillServer ends the node's PostgreSQL at once, as a crash would.
func (n *Node) KillServer(ctx context.Context) error {
	return n.stopServer(ctx, step{syscall.SIGKILL, 5 * time.Second})
}

func (n *Node) stopServer(ctx context.Context, steps ...step) error {
	if n.server == nil || !n.server.alive() {
		return nil
	}
	return n.server.stop(ctx, steps...)
}

// Promote makes the node's standby the primary and waits until it takes writes.
func (n *Node) Promote(ctx context.Context) error {
	c := n.cluster
	conn, err := n.ConnectServer(ctx, c.Superuser, c.SuperuserPassword, superuser)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // its result was read
	var promoted bool
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_promote(true, 30)").Scan(&promoted); err != nil {
		return err
	}
	if !promoted {
		return fmt.Errorf("%s: not promoted within 30 s", n.Name)
	}
	for _, other := range c.Nodes {
		other.Role = RoleStandby
	}
	n.Role = RolePrimary
	return nil
}

// ServerLog is the path of the PostgreSQL server's log.
func (n *Node) ServerLog() string { return filepath.Join(n.dir, "postgres.log") }

var errEnded = errors.New("the process ended")

// waitFor tries until it works, the process ends, or ctx does.
func waitFor(ctx context.Context, p *process, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	ended := p.ended()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return errEnded
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

// tail is the end of a log, for an error message.
func tail(path string) string {
	const most = 2 << 10
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return strings.TrimSpace(string(b))
}
