// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package switchover

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// A fault takes the primary away; it returns when there is one again. mend makes
// the cluster whole behind it.
type fault struct {
	name         string
	strike, mend func(*testing.T, *cluster.Patroni, *cluster.Node)
}

var faults = []fault{
	{
		name:   "switchover",
		strike: func(t *testing.T, p *cluster.Patroni, _ *cluster.Node) { t.Helper(); p.Switchover(t) },
	},
	{
		name: "kill -9 of the primary",
		strike: func(t *testing.T, p *cluster.Patroni, primary *cluster.Node) {
			t.Helper()
			p.KillServer(t, primary)
			p.Settle(t)
		},
	},
	{
		name: "kill -9 of the primary and its Patroni",
		strike: func(t *testing.T, p *cluster.Patroni, primary *cluster.Node) {
			t.Helper()
			p.Lose(t, primary)
			p.Failover(t)
		},
		mend: func(t *testing.T, p *cluster.Patroni, primary *cluster.Node) { t.Helper(); p.Rejoin(t, primary) },
	},
}

// A world is the cluster, and HAProxy in front of it where it is measured.
type world struct {
	c       *cluster.Cluster
	p       *cluster.Patroni
	haproxy string // its address
	figures figures
}

// TestSwitchover does each fault some times; or one switchover, without HAProxy.
func TestSwitchover(t *testing.T) {
	cluster.NeedAlone(t)
	begun := time.Now()
	w := newWorld(t)
	w.figures.describe(t, w)
	todo, times := faults, *rounds
	if times == 0 {
		todo, times = faults[:1], 1
	}
	for i, f := range todo {
		for n := range times {
			t.Run(fmt.Sprintf("%s %d", strings.ReplaceAll(f.name, " ", "-"), n+1), func(t *testing.T) {
				w.round(t, f, fmt.Sprintf("%d.%d", i, n))
			})
			if t.Failed() {
				return
			}
		}
	}
	w.figures.Took = time.Since(begun).Round(time.Second).String()
	t.Log(w.figures.markdown())
	if *write {
		w.figures.write(t)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	c := cluster.Start(t, cluster.Spec{Standbys: 2})
	w := &world{c: c, p: cluster.StartPatroni(t, c, true)}
	cluster.Output(t, c.Libpq(t, c.Primary().Postgres, c.User), cluster.Bin(t, "pgbench"), "-i", "-q", "-s", fmt.Sprint(scale))
	if *rounds > 0 {
		w.startHAProxy(t)
	}
	return w
}

// haproxyConfig is that of Patroni's documentation.
const haproxyConfig = `global
  maxconn 100
defaults
  mode tcp
  retries 2
  timeout client 30m
  timeout connect 4s
  timeout server 30m
  timeout check 5s
listen primary
  bind %s
  option httpchk OPTIONS /primary
  http-check expect status 200
  default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
`

// startHAProxy returns when it has seen who is primary: at first it takes all
// servers for up.
func (w *world) startHAProxy(t *testing.T) {
	t.Helper()
	w.haproxy = cluster.FreeAddress(t)
	var config strings.Builder
	fmt.Fprintf(&config, haproxyConfig, w.haproxy)
	for _, n := range w.c.Nodes {
		_, port, err := net.SplitHostPort(w.p.REST(n))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&config, "  server %s %s maxconn 100 check port %s\n", n.Name, n.Postgres, port)
	}
	child, err := w.c.NewChild("haproxy", haproxyPath, "-db", "-f", "haproxy.cfg")
	if err == nil {
		_, err = child.Write("haproxy.cfg", config.String())
	}
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatalf("HAProxy (package haproxy): %v", err)
	}
	cluster.Eventually(t, "HAProxy has one server", func() bool {
		for range len(w.c.Nodes) {
			conn, err := connect(t.Context(), w.dsn(w.haproxy)+" target_session_attrs=read-write")
			if err != nil {
				return false
			}
			_ = conn.Close(t.Context()) // it was the primary's
		}
		return true
	})
}

const haproxyPath = "/usr/sbin/haproxy"

// dsn is the ordinary user's for some addresses.
func (w *world) dsn(addresses ...string) string {
	var hosts, ports []string
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			panic(fmt.Sprintf("internal error: address %q", address))
		}
		hosts, ports = append(hosts, host), append(ports, port)
	}
	return fmt.Sprintf("%s host=%s port=%s", w.c.DSN(0, w.c.User), strings.Join(hosts, ","), strings.Join(ports, ","))
}

// Names of the ways.
const (
	throughNode    = "node beside a standby"
	throughHAProxy = "HAProxy"
	direct         = "direct, all hosts"
)

// ways are all; the node is that of the standby which will not be primary next.
func (w *world) ways(standby *cluster.Node) []way {
	var servers []string
	for _, n := range w.c.Nodes {
		servers = append(servers, n.Postgres)
	}
	ways := []way{{throughNode, w.dsn(standby.Proxy)}, {direct, w.dsn(servers...) + " target_session_attrs=read-write"}}
	if w.haproxy != "" {
		ways = slices.Insert(ways, 1, way{throughHAProxy, w.dsn(w.haproxy)})
	}
	return ways
}

// round does a fault once.
func (w *world) round(t *testing.T, f fault, name string) {
	t.Helper()
	w.p.Whole(t)
	primary, next := w.c.PrimaryNode(), w.p.SynchronousStandby(t)
	standby := w.c.Others(primary)[0]
	if standby == next {
		standby = w.c.Others(primary)[1]
	}
	work := begin(t, name, w.ways(standby))
	from := time.Now()
	f.strike(t, w.p, primary)
	work.committed(t, time.Now())
	work.end()
	if w.c.PrimaryNode() == standby {
		t.Errorf("%s, whose node the clients used, is primary", standby.Name)
	}
	for _, c := range work.clients {
		for class := range c.errors {
			if c.way == throughNode && !retried(class) {
				t.Errorf("%s: an error that no driver tries again: %s", c.way, class)
			}
		}
	}
	index := slices.Index(w.c.Nodes, w.c.PrimaryNode())
	gone := lost(t, w.c.Connect(t, w.c.SuperDSN(index)), work)
	for way, n := range gone {
		t.Errorf("%s: %d acknowledged transactions are lost", way, n)
	}
	w.figures.add(f.name, from, work, gone)
	if f.mend != nil {
		f.mend(t, w.p, primary)
	}
}
