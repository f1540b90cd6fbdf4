// SPDX-License-Identifier: GPL-3.0-or-later

package devcluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// A Leg is a kind of connection between the machines that nodes stand for.
type Leg string

// The legs. A node's own server is on its machine: that is none.
const (
	LegNode        Leg = "node"        // from a node to another's server
	LegReplication Leg = "replication" // from a standby to its primary
)

// reach is the address at which n finds the server of another node.
func (n *Node) reach(leg Leg, to *Node) string {
	if n == to || n.cluster.config.Reach == nil {
		return to.Postgres
	}
	return n.cluster.config.Reach(leg, n, to)
}

// primaryConninfo says how the node's standby reaches the present primary.
func (n *Node) primaryConninfo() (string, error) {
	host, port, err := net.SplitHostPort(n.reach(LegReplication, n.cluster.Primary()))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("host=%s port=%s user=%s passfile=%s application_name=%s", host, port, replicator, quote(n.passFile()), n.Name), nil
}

// Follow makes a running standby stream from the primary as it is now.
func (n *Node) Follow(ctx context.Context) error { return n.stream(ctx, false) }

// Detach makes a running standby stream from nobody, until Follow: what it has
// received stays as it is.
func (n *Node) Detach(ctx context.Context) error { return n.stream(ctx, true) }

func (n *Node) stream(ctx context.Context, detached bool) error {
	n.detached = detached
	if err := n.writeConf(); err != nil {
		return err
	}
	return n.command(ctx, "SELECT pg_catalog.pg_reload_conf()")
}

// command runs one as the superuser.
func (n *Node) command(ctx context.Context, sql string) error {
	conn, err := n.ConnectServer(ctx, superuser, n.cluster.SuperuserPassword, superuser)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // its result was read
	_, err = conn.Exec(ctx, sql)
	return err
}

// Rejoin makes a server that has ended somehow, and has what the present primary has
// not, a standby of that, and starts it: pg_rewind takes back what only it has. The
// servers need wal_log_hints.
func (n *Node) Rejoin(ctx context.Context) error {
	c := n.cluster
	host, port, err := net.SplitHostPort(c.Primary().Postgres)
	if err != nil {
		return err
	}
	// Until its first checkpoint a new primary's control file says the old timeline,
	// and pg_rewind, which believes it, that there is nothing to do.
	if err := c.Primary().command(ctx, "CHECKPOINT"); err != nil {
		return err
	}
	// One that was killed is first recovered by itself, which no standby can be.
	if err := os.Remove(filepath.Join(n.DataDir, "standby.signal")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	source := fmt.Sprintf("host=%s port=%s user=%s dbname=postgres sslmode=disable", host, port, superuser)
	_, err = n.tool(ctx, "pg_rewind", []string{"PGPASSWORD=" + c.SuperuserPassword},
		"--target-pgdata", n.DataDir, "--source-server", source, "--no-sync")
	if err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	n.Role, n.detached = RoleStandby, false
	if err := writeFile(filepath.Join(n.DataDir, "standby.signal"), nil, c.account); err != nil {
		return err
	}
	return n.StartServer(ctx)
}

// ServerAlive tells whether the server that StartServer started is there.
func (n *Node) ServerAlive() bool { return n.server != nil && n.server.alive() }

// writePassFile keeps the replication user's password where primary_conninfo
// points to: a server that was made as primary comes to need it.
func (n *Node) writePassFile() error {
	return writeFile(n.passFile(), []byte("*:*:*:"+replicator+":"+n.cluster.secrets.ReplicationPassword+"\n"), n.cluster.account)
}

// MoveData calls move with the data directory's path while the server is down,
// and starts it again: move may put the directory on another file system.
func (n *Node) MoveData(ctx context.Context, move func(path string) error) error {
	if err := n.StopServer(ctx); err != nil {
		return err
	}
	if err := move(n.DataDir); err != nil {
		return err
	}
	if err := os.Chmod(n.DataDir, 0o700); err != nil { //nolint:gosec // a directory
		return err
	}
	if err := n.cluster.account.own(n.DataDir); err != nil {
		return err
	}
	return n.StartServer(ctx)
}

// Replicator is the role that standbys log in as.
func (c *Cluster) Replicator() (user, password string) {
	return replicator, c.secrets.ReplicationPassword
}

// Bindir is where PostgreSQL's programs are.
func (c *Cluster) Bindir() string { return c.bindir }
