// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package devcluster

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// lines is a log that a test can read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// eventually tries until ok or the test's patience ends.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func start(t *testing.T, config Config) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return c
}

func query(t *testing.T, n *Node, sql string) string {
	t.Helper()
	conn, err := n.ConnectServer(t.Context(), n.cluster.Superuser, n.cluster.SuperuserPassword, n.cluster.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) // its results were read
	var text string
	if err := conn.QueryRow(t.Context(), sql).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestServers(t *testing.T) {
	var log lines
	c := start(t, Config{Standbys: 1, ServerSettings: map[string]string{"log_statement": "all", "hv_test.odd": `it's a \ value`}, Log: &log})
	primary, standby := c.Nodes[0], c.Nodes[1]

	if got, want := query(t, primary, "SELECT current_setting('hv_test.odd')"), `it's a \ value`; got != want {
		t.Errorf("setting: got %q, want %q", got, want)
	}
	if got := query(t, primary, "SELECT count(*)::text FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'"); got != "0" {
		t.Errorf("pg_hba lines with another method: got %s, want 0", got)
	}
	if got := query(t, standby, "SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Errorf("standby in recovery: got %s, want true", got)
	}
	if os.Geteuid() == 0 {
		info, err := os.Stat(fmt.Sprintf("/proc/%d", primary.PostgresPID))
		if err != nil {
			t.Fatal(err)
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Uid == 0 {
			t.Error("PostgreSQL runs as root")
		}
	}

	if err := primary.KillServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, standby, "SELECT pg_is_in_recovery()::text"); got != "false" {
		t.Errorf("promoted, in recovery: got %s, want false", got)
	}
	if got := c.Primary(); got != standby {
		t.Errorf("primary: got %s, want %s", got.Name, standby.Name)
	}
	if got := log.String(); got != "" {
		t.Errorf("log: got %q, want nothing: the death was asked for", got)
	}
}

func TestEnvironmentStaysOurs(t *testing.T) {
	t.Setenv("VAULT_LOCAL_MASTER_KEY", "canary-of-the-environment")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "another-canary")
	c := start(t, Config{})
	conn, err := c.Nodes[0].ConnectServer(t.Context(), c.Superuser, c.SuperuserPassword, c.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) // its results were read
	if _, err := conn.Exec(t.Context(), "CREATE TABLE env (line text); COPY env FROM PROGRAM 'env'"); err != nil {
		t.Fatal(err)
	}
	var all, found int
	if err := conn.QueryRow(t.Context(), "SELECT count(*), count(*) FILTER (WHERE line LIKE '%canary%' OR line ~ '^(AWS|VAULT)') FROM env").Scan(&all, &found); err != nil {
		t.Fatal(err)
	}
	if all == 0 || found != 0 {
		t.Errorf("lines of our environment that the server sees: got %d of %d, want 0 of some", found, all)
	}
}

func TestDeathIsOneLine(t *testing.T) {
	var log lines
	c := start(t, Config{Log: &log})
	n := c.Nodes[0]
	if err := syscall.Kill(n.PostgresPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a line about the death", func() bool { return log.String() != "" })
	if got, want := log.String(), "node1: PostgreSQL ended (signal: killed); the rest goes on\n"; got != want {
		t.Errorf("log: got %q, want %q", got, want)
	}
	if err := n.StartServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, n, "SELECT 'back'"); got != "back" {
		t.Errorf("after the restart: got %q", got)
	}
}

func TestStopRemovesAll(t *testing.T) {
	c, err := Start(t.Context(), Config{Standbys: 1})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Stop took %s, want at most 10s", took)
	}
	for _, n := range c.Nodes {
		if !gone(n.PostgresPID) {
			t.Errorf("%s: process %d is still there", n.Name, n.PostgresPID)
		}
	}
	if _, err := os.Stat(c.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there", c.Dir())
	}
}

func TestStopOfStoppedProcess(t *testing.T) {
	c, err := Start(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	pid := c.Nodes[0].PostgresPID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Stop took %s, want at most 10s", took)
	}
	if !gone(pid) {
		t.Errorf("process %d is still there", pid)
	}
}

func TestKeptDirectory(t *testing.T) {
	dir := filepath.Join("/var/tmp", "hyperion-vault-test-"+strconv.Itoa(os.Getpid()))
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	first, err := Start(t.Context(), Config{Dir: dir, Standbys: 1})
	if err != nil {
		t.Fatal(err)
	}
	password := first.Password
	query(t, first.Nodes[0], "WITH made AS (SELECT set_config('application_name', 'kept', false)) SELECT * FROM made")
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second := start(t, Config{Dir: dir, Standbys: 1})
	if second.Password != password {
		t.Error("the password changed between the starts")
	}
	if got := query(t, second.Nodes[1], "SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Errorf("standby in recovery: got %s, want true", got)
	}
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("years"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Config{Dir: dir}); err == nil {
		t.Fatal("a directory of somebody else's was taken")
	}
	if _, err := os.Stat(filepath.Join(dir, "thesis.txt")); err != nil {
		t.Error(err)
	}
}

// TestNothingOutlivesUs kills a process that has a cluster, as a supervisor
// that lost its patience would.
func TestNothingOutlivesUs(t *testing.T) {
	if os.Getenv("DEVCLUSTER_TEST_VICTIM") != "" {
		c, err := Start(t.Context(), Config{})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("ready %d %s\n", c.Nodes[0].PostgresPID, c.Dir()) // read by the test below
		select {}
	}
	victim := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestNothingOutlivesUs$")
	victim.Env = append(os.Environ(), "DEVCLUSTER_TEST_VICTIM=1")
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var dir string
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		if _, err := fmt.Sscanf(scanner.Text(), "ready %d %s", &pid, &dir); err == nil {
			break
		}
	}
	if pid == 0 || !strings.HasPrefix(filepath.Base(dir), "hyperion-vault-") {
		t.Fatal("the cluster was not ready")
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait() // "signal: killed" is what we want
	eventually(t, "PostgreSQL's end", func() bool { return gone(pid) })
	eventually(t, "the next cluster sweeps the directory", func() bool {
		sweep()
		_, err := os.Stat(dir)
		return errors.Is(err, os.ErrNotExist)
	})
}
