// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/julienschmidt/httprouter"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// goalREST is for a secret by REST against a row by a handler that does nothing else.
var goalREST = &goal{must: 0.7, aim: 0.85}

const (
	bareName   = "bare httprouter handler, primary-key SELECT"
	bareSelect = "SELECT record FROM bare WHERE name = $1"
	barePool   = 8 // connections, as many as a node has for REST
)

// serveBare is what a node is compared with, in a process of its own: a handler that
// selects a row by its primary key. Its server's address comes on stdin.
func serveBare(ctx context.Context, address string) error {
	dsn, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(string(dsn))
	if err != nil {
		return err
	}
	config.MaxConns = barePool
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	router := httprouter.New()
	router.GET("/v1/secrets/:name", func(w http.ResponseWriter, r *http.Request, p httprouter.Params) {
		name, record := p.ByName("name"), ""
		if err := pool.QueryRow(r.Context(), bareSelect, name).Scan(&record); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		text, err := json.Marshal(map[string]string{"name": name, "value": record})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(text) // the client went away
	})
	s := &http.Server{Addr: address, Handler: router, ReadHeaderTimeout: time.Minute}
	go func() {
		<-ctx.Done()
		_ = s.Close() // it is the end
	}()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// restWorld is a node on loopback, whose REST is plain HTTP, and the bare handler
// beside the same server.
type restWorld struct {
	*world
	rest, bare target
	child      *exec.Cmd
}

func newRESTWorld(ctx context.Context) (_ *restWorld, err error) {
	w := &restWorld{world: &world{}}
	defer func() {
		if err != nil {
			w.stop()
		}
	}()
	if w.cluster, err = cluster.New(ctx, cluster.Spec{Settings: map[string]string{"max_connections": "100", "shared_buffers": "256MB", "fsync": "off"}}); err != nil {
		return nil, err
	}
	n := w.cluster.Nodes[0]
	w.rest = target{name: "hyperion-vault", host: strings.TrimPrefix(n.REST, "http://"), pid: n.PID}
	if w.node.host, w.node.port, err = net.SplitHostPort(n.Proxy); err != nil {
		return nil, err
	}
	if err := w.secrets(ctx, readSecrets); err != nil {
		return nil, err
	}
	// A row is as long as a record of the same value.
	if err := w.exec(ctx, "CREATE TABLE bare (name text PRIMARY KEY, record text)",
		fmt.Sprintf("INSERT INTO bare SELECT i::text, repeat('x', 400) FROM generate_series(1, %d) i", readSecrets), "VACUUM ANALYZE bare"); err != nil {
		return nil, err
	}
	return w, w.startBare(ctx)
}

func (w *restWorld) startBare(ctx context.Context) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	w.child = exec.CommandContext(ctx, self, "-bare", address) //nolint:gosec // this program
	w.child.Stdin, w.child.Stderr = strings.NewReader(w.cluster.SuperDSN(0)), os.Stderr
	w.child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := w.child.Start(); err != nil {
		return err
	}
	w.bare = target{name: bareName, host: address, pid: w.child.Process.Pid}
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := w.get(w.bare, 1, 0.01)
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
	}
}

func (w *restWorld) stop() {
	if w.child != nil && w.child.Process != nil {
		_ = w.child.Process.Kill() // it has nothing to lose
		_ = w.child.Wait()         // it was killed
	}
	w.world.stop()
}

// get reads secrets over connections that stay open, for a while.
func (w *restWorld) get(at target, clients int, seconds float64) (sample, error) {
	before, err := cpuTime(at.pid)
	if err != nil {
		return sample{}, err
	}
	took := make([][]time.Duration, clients)
	errs := make([]error, clients)
	var all sync.WaitGroup
	begun := time.Now()
	for i := range clients {
		all.Go(func() { took[i], errs[i] = reads(at.host, i, begun.Add(time.Duration(seconds*float64(time.Second)))) })
	}
	all.Wait()
	elapsed := time.Since(begun)
	if err := errors.Join(errs...); err != nil {
		return sample{}, err
	}
	after, err := cpuTime(at.pid)
	if err != nil {
		return sample{}, err
	}
	each := slices.Sorted(slices.Values(slices.Concat(took...)))
	n := len(each)
	return sample{TPS: float64(n) / elapsed.Seconds(), P50: each[n/2], P99: each[n*99/100], CPU: (after - before) / time.Duration(n)}, nil
}

// reads is one client.
func reads(address string, from int, until time.Time) (took []time.Duration, err error) {
	conn, err := net.Dial("tcp", address) //nolint:noctx // its deadline follows
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // nothing is owed
	if err := conn.SetDeadline(until.Add(10 * time.Second)); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(conn)
	for i := from * 101; len(took) == 0 || time.Now().Before(until); i++ {
		begun := time.Now()
		if err := read(conn, reader, 1+i%readSecrets); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begun))
	}
	return took, nil
}

// read is one request.
func read(conn net.Conn, reader *bufio.Reader, i int) error {
	if _, err := fmt.Fprintf(conn, "GET /v1/secrets/%d HTTP/1.1\r\nHost: localhost\r\n\r\n", i); err != nil {
		return err
	}
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(response.Body)
	if closed := response.Body.Close(); err != nil || closed != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: status %d: %.100s", errRows, response.StatusCode, text)
	}
	return nil
}

// measureREST compares a secret by REST with a row by the bare handler, and a secret
// whose data key is cached with one whose key is not.
func measureREST(ctx context.Context, _ *world, o *options) ([]line, error) {
	w, err := newRESTWorld(ctx)
	if err != nil {
		return nil, err
	}
	defer w.stop()
	if _, err := w.get(w.rest, 8, max(1, o.seconds)); err != nil { // fills the cache of data keys
		return nil, err
	}
	var lines []line
	for _, clients := range []int{1, 8} {
		run := func(at target) func() (sample, error) {
			return func() (sample, error) { return w.get(at, clients, o.seconds) }
		}
		peer, ours, err := pairs(o.pairs, run(w.bare), run(w.rest))
		if err != nil {
			return nil, err
		}
		what := fmt.Sprintf("REST GET, key cached, %d clients", clients)
		lines = append(lines, compare(what, "requests a second", bareName, ours, peer, tps, goalREST),
			compare(what, "p50, µs", bareName, ours, peer, p50, nil),
			compare(what, "node's CPU a request, µs", bareName, ours, peer, cpu, nil))
	}
	cold, err := w.cold(o)
	return append(lines, cold), err
}

// cold compares a secret whose data key is not cached with one whose key is.
func (w *restWorld) cold(o *options) (line, error) {
	return compareCold("REST GET, key not cached, 1 client", "requests a second, local key", w.rest.pid, o.pairs, func() error {
		conn, err := net.Dial("tcp", w.rest.host) //nolint:noctx // loopback
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // nothing is owed
		reader := bufio.NewReader(conn)
		for i := range readSecrets {
			if err := read(conn, reader, i+1); err != nil {
				return err
			}
		}
		return nil
	})
}
