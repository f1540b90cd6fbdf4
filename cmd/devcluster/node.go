// SPDX-License-Identifier: GPL-3.0-or-later

package devcluster

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Role is what a server was made or promoted to.
type Role string

// The roles of a node's server.
const (
	RolePrimary Role = "primary"
	RoleStandby Role = "standby"
)

// A Node is a PostgreSQL server and, unless there are only servers, the
// hyperion-vault process beside it. All addresses are for dialling.
type Node struct {
	Name        string `json:"name"`
	Role        Role   `json:"role"`
	Proxy       string `json:"proxy"`
	REST        string `json:"rest"`
	Metrics     string `json:"metrics"`
	Postgres    string `json:"postgres"`
	DataDir     string `json:"data_dir"`
	AuditDir    string `json:"audit_dir"`
	PID         int    `json:"pid"`
	PostgresPID int    `json:"postgres_pid"`
	Config      string `json:"config"`

	cluster *Cluster
	dir     string
	ports   ports
	// detached: as a standby, it streams from nobody.
	detached bool
	server   *process
	node     *process
}

type ports struct{ proxy, rest, metrics, server *reservation }

// layout reserves the ports of the i-th node and names its files.
func (n *Node) layout(ctx context.Context, i int) error {
	c := n.cluster
	next := func(port int) int {
		if port == 0 {
			return 0
		}
		return port + i
	}
	var err error
	hold := func(what, host string, want int) *reservation {
		if err != nil {
			return nil
		}
		var r *reservation
		r, err = c.port(ctx, n.Name+" "+what, host, want)
		return r
	}
	n.ports.server = hold("server", loopback, next(c.config.ServerPort))
	if err == nil {
		n.Postgres = address(loopback, n.ports.server)
	}
	if c.config.Binary == "" || c.config.ServersOnly {
		return err
	}
	n.ports.proxy = hold("proxy", c.config.Listen, next(c.config.ProxyPort))
	n.ports.rest = hold("REST", c.config.Listen, next(c.config.RESTPort))
	n.ports.metrics = hold("metrics", loopback, next(c.config.MetricsPort))
	if err != nil {
		return err
	}
	scheme := "http://"
	if c.beyondLoopback() {
		scheme = "https://"
	}
	n.Proxy = address(dialable(c.config.Listen), n.ports.proxy)
	n.REST = scheme + address(dialable(c.config.Listen), n.ports.rest)
	n.Metrics = "http://" + address(loopback, n.ports.metrics) + "/metrics"
	n.AuditDir = filepath.Join(n.dir, "audit")
	n.Config = filepath.Join(n.dir, "node.conf")
	return nil
}

func address(host string, r *reservation) string {
	return net.JoinHostPort(host, strconv.Itoa(r.Port))
}

// dialable replaces "every address" by one that can be dialled.
func dialable(host string) string {
	if addr, err := netip.ParseAddr(host); err == nil && addr.IsUnspecified() {
		if addr.Is6() {
			return "::1"
		}
		return loopback
	}
	return host
}

// beyondLoopback tells whether nodes can be reached from other machines.
func (c *Cluster) beyondLoopback() bool {
	if c.config.Listen == "localhost" {
		return false
	}
	addr, err := netip.ParseAddr(c.config.Listen)
	return err != nil || !addr.IsLoopback()
}

func (n *Node) releasePorts() {
	for _, r := range []*reservation{n.ports.proxy, n.ports.rest, n.ports.metrics, n.ports.server} {
		if r != nil {
			r.release()
		}
	}
}

func (c *Cluster) startNodes(ctx context.Context) error {
	if c.beyondLoopback() {
		if err := c.makeCertificate(); err != nil {
			return err
		}
		c.say("nodes listen on %s with a throw-away certificate; TLS is not required, and secrets open for this host and the private address ranges (VAULT_REQUIRE_TLS=off, VAULT_ALLOWED_IPS=%s)",
			c.config.Listen, privateRanges)
	}
	for _, n := range c.Nodes {
		if err := n.writeConfig(); err != nil {
			return err
		}
		if err := n.StartNode(ctx); err != nil {
			return err
		}
	}
	return nil
}

const privateRanges = "loopback,samehost,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"

// settings of a node; what the caller named goes over the defaults, what the
// cluster itself decided goes over that.
func (n *Node) settings() map[string]string {
	c := n.cluster
	local := len(c.config.AWS) == 0
	values := map[string]string{
		"VAULT_ALLOWED_IPS": "loopback",
		"VAULT_DRAIN_SECS":  "1",
	}
	_, inFile := c.config.NodeSettings["VAULT_LOCAL_MASTER_KEY_FILE"]
	if local && !inFile {
		values["VAULT_LOCAL_MASTER_KEY"] = c.secrets.MasterKey
	}
	if c.beyondLoopback() {
		values["VAULT_ALLOWED_IPS"] = privateRanges
		values["VAULT_REQUIRE_TLS"] = "off"
		values["VAULT_TLS_CERT"], values["VAULT_TLS_KEY"] = c.certificatePaths()
	}
	maps.Copy(values, c.config.NodeSettings)
	hosts := make([]string, len(c.Nodes))
	for i, other := range c.Nodes {
		hosts[i] = n.reach(LegNode, other)
	}
	maps.Copy(values, map[string]string{
		"VAULT_PROXY_LISTEN":   address(c.config.Listen, n.ports.proxy),
		"VAULT_API_LISTEN":     address(c.config.Listen, n.ports.rest),
		"VAULT_METRICS_LISTEN": address(loopback, n.ports.metrics),
		"VAULT_LOCAL_PG":       n.Postgres,
		"VAULT_PG_HOSTS":       strings.Join(hosts, ","),
		"VAULT_PG_USER":        serviceRole,
		"VAULT_PG_PASSWORD":    c.secrets.ServicePassword,
		"VAULT_PG_DBNAME":      c.secrets.Database,
		"VAULT_KMS_MODE":       "aws",
		"VAULT_AUDIT_DIR":      n.AuditDir,
	})
	if local {
		values["VAULT_KMS_MODE"], values["VAULT_ALLOW_LOCAL_KMS"] = "local", "true"
	}
	return values
}

// writeConfig writes the file with which `serve --config` starts the node.
func (n *Node) writeConfig() error {
	values := n.settings()
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if strings.ContainsAny(values[name], "\r\n") {
			return fmt.Errorf("%s holds a line break", name)
		}
		fmt.Fprintf(&text, "%s=%s\n", name, values[name])
	}
	if err := os.MkdirAll(n.AuditDir, 0o700); err != nil {
		return err
	}
	return writeFile(n.Config, []byte(text.String()), account{})
}

// StartNode starts the node's process, again after StopNode or KillNode, and
// returns when it says that it is ready.
func (n *Node) StartNode(ctx context.Context) error {
	c := n.cluster
	if n.node == nil {
		n.node = &process{
			label: n.Name + ": hyperion-vault", path: c.config.Binary, args: []string{"serve", "--config", n.Config},
			env: environment(c.bindir, n.dir, c.config.AWS...), dir: n.dir, logPath: n.NodeLog(),
			death:   syscall.SIGKILL, // it has nothing to lose: what must survive is written before it is answered
			spawner: c.spawner, reserved: []*reservation{n.ports.proxy, n.ports.rest, n.ports.metrics}, onDeath: c.died,
		}
	}
	if err := n.node.start(); err != nil {
		return err
	}
	n.PID = n.node.pid()
	if err := waitFor(ctx, n.node, n.ready); err != nil {
		return fmt.Errorf("%s: hyperion-vault is not ready: %w; its log ends: %s", n.Name, err, tail(n.NodeLog()))
	}
	n.node.up()
	return nil
}

// ready asks the node itself.
func (n *Node) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, n.REST+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := n.cluster.httpClient().Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // read to its end below, or dropped
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || strings.Contains(string(body), `"degraded"`) {
		return fmt.Errorf("readyz: %s: %s", response.Status, strings.TrimSpace(string(body)))
	}
	return nil
}

// StopNode ends the node's process in order; its server runs on.
func (n *Node) StopNode(ctx context.Context) error { return n.stopNode(ctx, nodeStop...) }

// KillNode ends the node's process at once, as a crash would.
func (n *Node) KillNode(ctx context.Context) error {
	return n.stopNode(ctx, step{syscall.SIGKILL, 5 * time.Second})
}

func (n *Node) stopNode(ctx context.Context, steps ...step) error {
	if n.node == nil || !n.node.alive() {
		return nil
	}
	return n.node.stop(ctx, steps...)
}

// NodeLog is the path of the hyperion-vault process's log.
func (n *Node) NodeLog() string { return filepath.Join(n.dir, "node.log") }
