// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

// Patroni is the Manager of many: a program beside each server, and etcd, in which
// they agree. Packages patroni, etcd-server and python3-etcd.
type Patroni struct {
	// Stores are the ways from each node's Patroni to etcd.
	Stores map[*Node]*Link

	c           *Cluster
	synchronous bool
	agents      map[*Node]*agent
}

// An agent is the Patroni beside one server.
type agent struct {
	child *devcluster.Child
	rest  string // address
}

const (
	patroniPath = "/usr/bin/patroni"
	etcdPath    = "/usr/bin/etcd"

	// patience with a failover: a lease must end, and the machine may be slow.
	patroniPatience = 80 * time.Second
)

// dynamic is the configuration that all agents share. A lease of 8 s makes a test
// short; loop_wait and retry_timeout go with it.
//
// max_connections is Patroni's to set, whatever postgresql.conf says.
func dynamic(synchronous bool) map[string]any {
	return map[string]any{
		"ttl": 8, "loop_wait": 1, "retry_timeout": 3, "maximum_lag_on_failover": 64 << 20, "synchronous_mode": synchronous,
		"postgresql": map[string]any{
			"use_pg_rewind": true, "use_slots": false,
			"parameters": map[string]string{"wal_log_hints": "on", "wal_keep_size": "256MB", "max_connections": "500"},
		},
	}
}

// StartPatroni hands the cluster's servers over: they are stopped, and Patroni
// starts each again as what it was. Its end stops them.
func StartPatroni(tb testing.TB, c *Cluster, synchronous bool) *Patroni {
	tb.Helper()
	p := &Patroni{c: c, synchronous: synchronous, Stores: map[*Node]*Link{}, agents: map[*Node]*agent{}}
	tb.Cleanup(func() { p.stop(tb) })
	etcd := p.startEtcd(tb, synchronous)
	primary := c.PrimaryNode()
	order := append([]*Node{primary}, c.Others(primary)...)
	for i := range order {
		n := order[len(order)-1-i] // standbys first, so that none misses the end
		if err := n.StopServer(tb.Context()); err != nil {
			tb.Fatalf("stop %s: %v", n.Name, err)
		}
	}
	for _, n := range order {
		link, err := NewLink(tb.Context(), etcd)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = link.Close(context.WithoutCancel(tb.Context())) }) // etcd is gone by then
		p.Stores[n] = link
		p.agents[n] = p.newAgent(tb, n)
		if err := p.agents[n].child.Start(); err != nil {
			tb.Fatal(err)
		}
		if n == primary { // it is the first to come, and so stays what it was
			p.until(tb, n.Name+" is primary under Patroni", func() bool { return p.writable(tb.Context(), n) })
		}
	}
	p.Whole(tb)
	return p
}

// Whole implements Manager. With synchronous replication, Patroni has agreed on
// who may take over; before, nobody may.
func (p *Patroni) Whole(tb testing.TB) {
	tb.Helper()
	p.c.WaitStreaming(tb)
	if !p.synchronous {
		return
	}
	p.SynchronousStandby(tb)
}

// REST is the address of the interface of a node's Patroni.
func (p *Patroni) REST(n *Node) string { return p.agents[n].rest }

// SynchronousStandby waits until there is one: it is who takes over.
func (p *Patroni) SynchronousStandby(tb testing.TB) (standby *Node) {
	tb.Helper()
	p.until(tb, "a synchronous standby", func() bool {
		var all struct {
			Members []struct{ Name, Role string }
		}
		text, err := get(tb.Context(), "http://"+p.REST(p.c.PrimaryNode())+"/cluster")
		if err != nil || json.Unmarshal([]byte(text), &all) != nil {
			return false
		}
		for _, m := range all.Members {
			if m.Role == "sync_standby" {
				standby = p.c.find(m.Name)
			}
		}
		return standby != nil
	})
	return standby
}

// startEtcd starts one, with the agents' configuration in it.
func (p *Patroni) startEtcd(tb testing.TB, synchronous bool) string {
	tb.Helper()
	clients, peers := FreeAddress(tb), FreeAddress(tb)
	child, err := p.c.NewChild("etcd", etcdPath, "--data-dir", "data", "--listen-client-urls", "http://"+clients, "--advertise-client-urls", "http://"+clients,
		"--listen-peer-urls", "http://"+peers, "--initial-advertise-peer-urls", "http://"+peers, "--initial-cluster", "default=http://"+peers)
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		tb.Fatalf("etcd (package etcd-server): %v", err)
	}
	config, err := json.Marshal(dynamic(synchronous))
	if err != nil {
		tb.Fatal(err)
	}
	put := map[string]string{
		"key":   base64.StdEncoding.EncodeToString([]byte("/service/faults/config")),
		"value": base64.StdEncoding.EncodeToString(config),
	}
	p.until(tb, "etcd answers", func() bool {
		return post(tb.Context(), "http://"+clients+"/v3/kv/put", put) == nil
	})
	return clients
}

// newAgent writes the configuration of one. JSON is YAML.
func (p *Patroni) newAgent(tb testing.TB, n *Node) *agent {
	tb.Helper()
	a := &agent{rest: FreeAddress(tb)}
	var err error
	if a.child, err = p.c.NewChild("patroni-"+n.Name, patroniPath, "patroni.yml"); err != nil {
		tb.Fatal(err)
	}
	replicator, password := p.c.Replicator()
	super := map[string]string{"username": p.c.Superuser, "password": p.c.SuperuserPassword}
	config := map[string]any{
		"scope": "faults", "name": n.Name,
		"restapi": map[string]string{"listen": a.rest, "connect_address": a.rest},
		// As proxies: else it would ask etcd for its address, and not use the link.
		"etcd3": map[string]any{"hosts": p.Stores[n].Address, "use_proxies": true},
		"postgresql": map[string]any{
			"listen": n.Postgres, "connect_address": n.Postgres, "data_dir": n.DataDir, "bin_dir": p.c.Bindir(), "pgpass": a.child.Dir + "/pgpass",
			"authentication": map[string]any{
				"superuser": super, "rewind": super, "replication": map[string]string{"username": replicator, "password": password},
			},
			// There is no socket, and a killed server is not waited for.
			"parameters": map[string]string{"unix_socket_directories": ""},
		},
	}
	text, err := json.Marshal(config)
	if err == nil {
		_, err = a.child.Write("patroni.yml", string(text))
	}
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// stop ends all agents in order, with their servers.
func (p *Patroni) stop(tb testing.TB) {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	var wg sync.WaitGroup
	for _, a := range p.agents {
		wg.Go(func() { _ = a.child.Stop(ctx) }) // the end of the namespaces ends the rest
	}
	wg.Wait()
}

// Lose implements Manager.
func (p *Patroni) Lose(tb testing.TB, n *Node) {
	tb.Helper()
	if err := p.agents[n].child.Kill(tb.Context()); err != nil {
		tb.Fatalf("kill %s's Patroni: %v", n.Name, err)
	}
	p.KillServer(tb, n)
}

// KillServer kills only the server; its Patroni sees to it.
func (p *Patroni) KillServer(tb testing.TB, n *Node) {
	tb.Helper()
	if err := syscall.Kill(n.postmaster(tb), syscall.SIGKILL); err != nil {
		tb.Fatalf("kill %s's server: %v", n.Name, err)
	}
}

// Failover implements Manager: it waits until it has happened.
func (p *Patroni) Failover(tb testing.TB) *Node {
	tb.Helper()
	return p.elected(tb, p.c.PrimaryNode())
}

// Settle waits until there is a primary, the same as before or another.
func (p *Patroni) Settle(tb testing.TB) *Node {
	tb.Helper()
	return p.elected(tb, nil)
}

// elected waits for another primary than the old one.
func (p *Patroni) elected(tb testing.TB, old *Node) *Node {
	tb.Helper()
	var next *Node
	p.until(tb, "a primary", func() bool {
		for _, n := range p.c.Others(old) {
			if p.writable(tb.Context(), n) {
				next = n
				return true
			}
		}
		return false
	})
	for _, n := range p.c.Nodes {
		n.Role = devcluster.RoleStandby
	}
	next.Role = devcluster.RolePrimary
	return next
}

// Switchover implements Manager.
func (p *Patroni) Switchover(tb testing.TB) *Node {
	tb.Helper()
	old := p.c.PrimaryNode()
	p.until(tb, "a switchover", func() bool { // refused while no standby is fit to take over
		return post(tb.Context(), "http://"+p.agents[old].rest+"/switchover", map[string]string{"leader": old.Name}) == nil
	})
	return p.elected(tb, old)
}

// Rejoin implements Manager.
func (p *Patroni) Rejoin(tb testing.TB, n *Node) {
	tb.Helper()
	a := p.agents[n]
	if err := a.child.Start(); err != nil {
		tb.Fatalf("rejoin %s: %v", n.Name, err)
	}
	p.Standby(tb, n)
}

// Standby waits until a server is a standby that answers.
func (p *Patroni) Standby(tb testing.TB, n *Node) {
	tb.Helper()
	p.until(tb, n.Name+" is a standby", func() bool {
		var standby bool
		return p.c.ask(tb.Context(), n, "SELECT pg_catalog.pg_is_in_recovery()", &standby) == nil && standby
	})
}

func (p *Patroni) writable(ctx context.Context, n *Node) bool {
	var primary bool
	return p.c.ask(ctx, n, "SELECT NOT pg_catalog.pg_is_in_recovery()", &primary) == nil && primary
}

// until tries for as long as Patroni may need.
func (p *Patroni) until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patroniPatience)
	defer deadline.Stop()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-tb.Context().Done():
			tb.Fatal("stopped")
		case <-deadline.C:
			for n, a := range p.agents {
				text, _ := os.ReadFile(a.child.Log) // as far as there is one
				tb.Logf("%s's Patroni: ... %s", n.Name, text[max(0, len(text)-2<<10):])
			}
			tb.Fatalf("%s: not within %v", what, patroniPatience)
		}
	}
}

// post sends JSON.
func post(ctx context.Context, url string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	_, err = ask(ctx, http.MethodPost, url, bytes.NewReader(text))
	return err
}

func get(ctx context.Context, url string) (string, error) { return ask(ctx, http.MethodGet, url, nil) }

func ask(ctx context.Context, method, url string, body io.Reader) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patroniPatience}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }() // read, or of no use
	answer, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return string(answer), err
}
