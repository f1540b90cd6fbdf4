// SPDX-License-Identifier: GPL-3.0-or-later

// Package devcluster makes scratch clusters: a PostgreSQL primary, streaming
// standbys, and a hyperion-vault node beside each, every one of them a process
// of its own in one temporary directory. `hyperion-vault dev` and the e2e tests
// start their clusters through it.
//
// Nothing stays behind: Stop ends every process and removes the directory, and
// if the calling process itself is killed, the kernel ends its children.
package devcluster

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Config says what to start. Its zero value is one PostgreSQL server on a free
// port with a database and a user `app`, without the vault.
type Config struct {
	// Binary is the hyperion-vault program. Empty: plain PostgreSQL servers,
	// without the extension.
	Binary string
	// ServersOnly prepares the vault (`init`) but starts no node.
	ServersOnly bool
	// Standbys is the number of streaming standbys.
	Standbys int

	// Dir keeps the data there, and goes on with what is there already.
	// Empty: a temporary directory, removed by Stop.
	Dir string

	// Listen is the address on which nodes listen; empty: 127.0.0.1. Servers
	// and metrics stay on 127.0.0.1.
	Listen string
	// ProxyPort, RESTPort, MetricsPort and ServerPort are wanted by the first
	// node, each next node wants the next number; 0 or taken: a free one.
	ProxyPort, RESTPort, MetricsPort, ServerPort int

	// Database and User are made in the server; empty: app.
	Database, User string
	// Password is the user's, SuperuserPassword is that of the role postgres;
	// empty: random.
	Password, SuperuserPassword string

	// ServerSettings are lines of postgresql.conf.
	ServerSettings map[string]string
	// NodeSettings are VAULT_* settings of every node; addresses, directories
	// and credentials that the cluster makes itself go before them.
	NodeSettings map[string]string
	// AWS has nodes use the AWS KMS: variables of the environment for the AWS SDK,
	// NAME=value. NodeSettings must name the key. Empty: a local key.
	AWS []string
	// Reach gives the address at which one reaches another's server; nil: the
	// server's own. Whoever wants to break a leg has it lead through what breaks.
	Reach func(leg Leg, from, to *Node) string

	// Log gets one line for each thing a person should know (a taken port, the
	// death of a child); nil: nowhere.
	Log io.Writer
}

// A Cluster is what Start made. Its JSON is the ready line of `dev --json`.
type Cluster struct {
	Nodes             []*Node `json:"nodes"`
	Database          string  `json:"database"`
	Superuser         string  `json:"superuser"`
	SuperuserPassword string  `json:"superuser_password"`
	User              string  `json:"user"`
	Password          string  `json:"password"`
	AdminToken        string  `json:"admin_token"`
	VaultID           string  `json:"vault_id"`

	config  Config
	dir     string
	bindir  string
	account account
	spawner *spawner
	secrets secrets
	// children are what NewChild made.
	children []*Child
	lock     *os.File // held while we live
	logMu    sync.Mutex
}

const (
	loopback     = "127.0.0.1"
	superuser    = "postgres"
	replicator   = "replicator"
	serviceRole  = "vault_service"
	readyTimeout = 30 * time.Second
)

// How long each part may take to end: together under the 10 s that a
// supervisor usually waits between SIGTERM and SIGKILL.
var (
	nodeStop   = []step{{syscall.SIGTERM, 3 * time.Second}, {syscall.SIGKILL, time.Second}}
	serverStop = []step{{syscall.SIGINT, 3 * time.Second}, {syscall.SIGQUIT, time.Second}, {syscall.SIGKILL, time.Second}}
)

// Start builds the cluster and returns when every node answers as ready. On an
// error, or when ctx ends first, nothing is left but a directory that config names:
// it may be half made.
func Start(ctx context.Context, config Config) (_ *Cluster, err error) {
	c := &Cluster{config: config, spawner: newSpawner(), Superuser: superuser}
	defer func() { //nolint:contextcheck // ctx may have ended: it must be undone all the same
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	c.defaults()
	if c.bindir, err = FindServer(ctx); err != nil {
		return nil, err
	}
	if config.Binary != "" {
		if err = checkExtension(ctx, c.bindir); err != nil {
			return nil, err
		}
	}
	if c.account, err = serverAccount(); err != nil {
		return nil, err
	}
	if err = c.openDir(); err != nil {
		return nil, err
	}
	if err = c.plan(ctx); err != nil {
		return nil, err
	}
	if err = c.startServers(ctx); err != nil {
		return nil, err
	}
	if config.Binary != "" && !config.ServersOnly {
		if err = c.startNodes(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Cluster) defaults() {
	set := func(p *string, value string) {
		if *p == "" {
			*p = value
		}
	}
	set(&c.config.Listen, loopback)
	set(&c.config.Database, "app")
	set(&c.config.User, "app")
	c.config.ServerSettings = maps.Clone(c.config.ServerSettings)
	c.config.NodeSettings = maps.Clone(c.config.NodeSettings)
	if c.config.Log == nil {
		c.config.Log = io.Discard
	}
}

// plan lays out the nodes and holds their ports.
func (c *Cluster) plan(ctx context.Context) error {
	for i := range c.config.Standbys + 1 {
		n := &Node{Name: "node" + strconv.Itoa(i+1), cluster: c}
		n.dir = filepath.Join(c.dir, n.Name)
		n.DataDir = filepath.Join(n.dir, "data")
		if err := c.account.mkdir(n.dir); err != nil {
			return err
		}
		if err := n.layout(ctx, i); err != nil {
			return err
		}
		c.Nodes = append(c.Nodes, n)
	}
	return nil
}

// port reserves one, and says so if it is not the one that was asked for.
func (c *Cluster) port(ctx context.Context, what, host string, want int) (*reservation, error) {
	r, err := reserve(ctx, host, want)
	if err == nil && want != 0 && r.Port != want {
		c.say("%s: port %d is taken, using %d", what, want, r.Port)
	}
	return r, err
}

// Primary is the node whose server was made, or last promoted, as primary.
func (c *Cluster) Primary() *Node {
	for _, n := range c.Nodes {
		if n.Role == RolePrimary {
			return n
		}
	}
	return c.Nodes[0]
}

// Dir is the cluster's directory.
func (c *Cluster) Dir() string { return c.dir }

// Stop ends all processes, nodes first, and removes the directory unless it was
// named in the Config. It takes less than 10 s whatever state they are in.
func (c *Cluster) Stop() error {
	ctx := context.Background() //nolint:forbidigo // the caller's context has usually ended by now
	each := func(stop func(*Node) error) error {
		errs := make([]error, len(c.Nodes))
		var wg sync.WaitGroup
		for i, n := range c.Nodes {
			wg.Go(func() { errs[i] = stop(n) })
		}
		wg.Wait()
		return errors.Join(errs...)
	}
	err := each(func(n *Node) error { return n.stopNode(ctx, nodeStop...) })
	for _, child := range slices.Backward(c.children) {
		err = errors.Join(err, child.Kill(ctx))
	}
	err = errors.Join(err, each(func(n *Node) error { return n.stopServer(ctx, serverStop...) }))
	for _, n := range c.Nodes {
		n.releasePorts()
	}
	c.spawner.close()
	if c.dir != "" && c.config.Dir == "" {
		err = errors.Join(err, os.RemoveAll(c.dir))
	}
	if c.lock != nil {
		_ = c.lock.Close() // nothing was written
	}
	return err
}

// say writes one line for a person.
func (c *Cluster) say(format string, args ...any) {
	c.logMu.Lock()
	defer c.logMu.Unlock()
	_, _ = fmt.Fprintf(c.config.Log, format+"\n", args...) // nobody to tell
}

func (c *Cluster) died(label, state string) {
	c.say("%s ended (%s); the rest goes on", label, state)
}

// randomText is n random bytes that need no quoting anywhere.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, by its documentation
	return base64.RawURLEncoding.EncodeToString(b)
}
