// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

// TestMain makes the test binary a hyperion-vault when it is called as one:
// dev runs itself for init and serve, with an environment of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"dev", "serve", "init", "audit", "version"}, os.Args[1]) {
		main()
	}
	os.Exit(m.Run())
}

// output collects what a process wrote, also while it writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// program is one run of hyperion-vault.
type program struct {
	cmd *exec.Cmd
	out io.Reader
	err output
}

func startProgram(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.CommandContext(t.Context(), os.Args[0], args...)}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	p.cmd.Stderr = &p.err
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill() // a test that failed on its way
			_ = p.cmd.Wait()
		}
	})
	return p
}

// terminate ends the process in order and returns its exit code and the rest of
// its output.
func (p *program) terminate(t *testing.T) (code int, rest string) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(p.out)
	if err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode(), string(text)
}

// finish runs a command to its end.
func finish(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := startProgram(t, env, args...)
	text, err := io.ReadAll(p.out)
	if err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode(), string(text), p.err.String()
}

func connectTo(ctx context.Context, address, user, password, database string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("postgresql://%s:%s@%s/%s?sslmode=disable", user, password, address, database))
}

func ask(t *testing.T, address, user, password, database, sql string, args ...any) string {
	t.Helper()
	conn, err := connectTo(t.Context(), address, user, password, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) // its results were read
	var text string
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close() // read to its end
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func processGone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestDev(t *testing.T) {
	sql := filepath.Join(t.TempDir(), "load.sql")
	if err := os.WriteFile(sql, []byte("CREATE TABLE loaded (n int);\nINSERT INTO loaded VALUES (7);\nSELECT vault.put_secret('loaded/secret', 'from a file');\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProgram(t, []string{"VAULT_ROTATION_POLL_SECS=2", "VAULT_PG_DBNAME=elsewhere", "VAULT_ADDR=http://other"},
		"dev", "--json", "--standbys", "1", "--sql", sql, "--pg-setting", "log_statement=all")
	line, err := bufio.NewReader(p.out).ReadString('\n')
	if err != nil {
		t.Fatalf("no ready line: %v: %s", err, p.err.String())
	}
	var c devcluster.Cluster
	if err := json.Unmarshal([]byte(line), &c); err != nil {
		t.Fatal(err)
	}
	first, second := c.Nodes[0], c.Nodes[1]
	if got, want := [2]devcluster.Role{first.Role, second.Role}, [2]devcluster.Role{devcluster.RolePrimary, devcluster.RoleStandby}; got != want {
		t.Errorf("roles: got %v, want %v", got, want)
	}

	t.Run("SQL", func(t *testing.T) {
		if got := ask(t, first.Proxy, c.User, c.Password, c.Database, "SELECT n::text FROM loaded"); got != "7" {
			t.Errorf("the loaded table: got %s, want 7", got)
		}
		if got := ask(t, first.Proxy, c.User, c.Password, c.Database, "SELECT vault.read_secret('loaded/secret')"); got != "from a file" {
			t.Errorf("through the primary's node: got %q", got)
		}
		eventually(t, "the secret on the standby", func() bool {
			return ask(t, second.Postgres, c.Superuser, c.SuperuserPassword, c.Database, "SELECT count(*)::text FROM vault.secrets") == "1"
		})
		if got := ask(t, second.Proxy, c.User, c.Password, c.Database, "SELECT vault.read_secret('loaded/secret')"); got != "from a file" {
			t.Errorf("through the standby's node: got %q", got)
		}
	})
	t.Run("HTTP", func(t *testing.T) {
		for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/readyz?require=primary,kms": 200, "/v1/secrets": 401, "/v1/roles": 401} {
			if got, body := get(t, second.REST+path); got != want {
				t.Errorf("%s: got %d, want %d: %s", path, got, want, body)
			}
		}
		if status, body := get(t, first.Metrics); status != 200 || !strings.Contains(body, `hyperion_vault_part_usable{part="kms"} 1`) {
			t.Errorf("metrics: got %d: %s", status, body)
		}
	})
	t.Run("token", func(t *testing.T) {
		hash := sha256.Sum256([]byte(c.AdminToken))
		got := ask(t, first.Postgres, c.Superuser, c.SuperuserPassword, c.Database, "SELECT count(*)::text FROM vault.admin_tokens WHERE token_sha256 = $1", hash[:])
		if got != "1" {
			t.Errorf("tokens with that hash: got %s, want 1", got)
		}
	})
	t.Run("settings", func(t *testing.T) {
		text, err := os.ReadFile(first.Config)
		if err != nil {
			t.Fatal(err)
		}
		for part, want := range map[string]bool{"VAULT_ROTATION_POLL_SECS=2\n": true, "VAULT_PG_DBNAME=app\n": true, "elsewhere": false, "VAULT_ADDR": false} {
			if got := strings.Contains(string(text), part); got != want {
				t.Errorf("%q in the node's file: got %v, want %v", part, got, want)
			}
		}
		if info, err := os.Stat(first.Config); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the node's file: got mode %v, error %v, want 0600", info.Mode().Perm(), err)
		}
	})
	t.Run("a node dies and is started again", func(t *testing.T) {
		if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a line about the death", func() bool { return strings.Contains(p.err.String(), "node1: hyperion-vault ended") })
		again := startProgram(t, nil, "serve", "--config", first.Config)
		eventually(t, "the node's return", func() bool { status, _ := get(t, first.REST+"/readyz"); return status == 200 })
		if got := ask(t, first.Proxy, c.User, c.Password, c.Database, "SELECT vault.read_secret('loaded/secret')"); got != "from a file" {
			t.Errorf("after the restart: got %q", got)
		}
		if code, _ := again.terminate(t); code != 0 {
			t.Errorf("its exit code: got %d, want 0: %s", code, again.err.String())
		}
	})

	began := time.Now()
	code, rest := p.terminate(t)
	if took := time.Since(began); code != 0 || rest != "" || took > 10*time.Second {
		t.Errorf("the end: got code %d, more output %q, after %s; want 0, none, at most 10s", code, rest, took)
	}
	for _, pid := range []int{first.PostgresPID, second.PostgresPID, second.PID} {
		if !processGone(pid) {
			t.Errorf("process %d is still there", pid)
		}
	}
	if dir := filepath.Dir(filepath.Dir(first.Config)); dir == "/" || !errors.Is(func() error { _, err := os.Stat(dir); return err }(), os.ErrNotExist) {
		t.Errorf("%s is still there", dir)
	}
}

// TestServeWithoutServer: a node starts before its server and says so; --check
// turns the same into an exit code.
func TestServeWithoutServer(t *testing.T) {
	c, err := devcluster.Start(t.Context(), devcluster.Config{Binary: os.Args[0], Standbys: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	n := c.Nodes[0]
	code, out, _ := finish(t, nil, "serve", "--check", "--config", n.Config)
	if code != 0 || strings.Contains(out, "FAULT") || strings.Contains(out, "ALTER EXTENSION") {
		t.Errorf("--check of a healthy node: got %d:\n%s", code, out)
	}
	conn, err := n.ConnectServer(t.Context(), c.Superuser, c.SuperuserPassword, c.Database)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "UPDATE pg_extension SET extversion = '1.1' WHERE extname = 'hyperion_vault'"); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context()) // its result was read
	if code, out, _ = finish(t, nil, "serve", "--check", "--config", n.Config); code != 0 || !strings.Contains(out, "ALTER EXTENSION hyperion_vault UPDATE") {
		t.Errorf("--check with an older extension: got %d:\n%s", code, out)
	}

	if err := errors.Join(n.StopNode(t.Context()), n.StopServer(t.Context())); err != nil {
		t.Fatal(err)
	}
	code, out, _ = finish(t, nil, "serve", "--check", "--config", n.Config)
	if code != exitFault || !strings.Contains(out, "FAULT server") || !strings.Contains(out, "FAULT primary") {
		t.Errorf("--check without a server: got %d:\n%s", code, out)
	}

	// A new audit directory: the node does not even know its vault.
	node := startProgram(t, []string{"VAULT_AUDIT_DIR=" + filepath.Join(t.TempDir(), "new")}, "serve", "--config", n.Config)
	eventually(t, "healthz", func() bool { status, _ := get(t, n.REST+"/healthz"); return status == 200 })
	if status, body := get(t, n.REST+"/readyz"); status != 503 || !strings.Contains(body, `"unavailable"`) {
		t.Errorf("readyz without a server: got %d, %s", status, body)
	}
	_, err = connectTo(t.Context(), n.Proxy, c.User, c.Password, c.Database)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "57P03" {
		t.Errorf("log-in without a server: got %v, want 57P03", err)
	}
	if err := n.StartServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "readyz", func() bool {
		status, body := get(t, n.REST+"/readyz")
		return status == 200 && !strings.Contains(body, "degraded")
	})
	if got := ask(t, n.Proxy, c.User, c.Password, c.Database, "SELECT vault.put_secret('a', 'b')::text"); got != "1" {
		t.Errorf("put: got %s, want 1", got)
	}

	t.Run("reload", func(t *testing.T) { checkReload(t, c, n, node) })

	other := startProgram(t, []string{"VAULT_AUDIT_DIR=" + t.TempDir()}, "serve", "--config", n.Config)
	if err := other.cmd.Wait(); err == nil || !strings.Contains(other.err.String(), "cannot listen on") {
		t.Errorf("a second node on the same ports: got %v: %s", err, other.err.String())
	}
	if code, _ := node.terminate(t); code != 0 {
		t.Errorf("exit code: got %d: %s", code, node.err.String())
	}
}

// checkReload changes the node's file and sends SIGHUP.
func checkReload(t *testing.T, c *devcluster.Cluster, n *devcluster.Node, node *program) {
	t.Helper()
	original, err := os.ReadFile(n.Config)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(old, changed, wantLog string) {
		t.Helper()
		text := strings.Replace(string(original), old, changed, 1)
		if err := os.WriteFile(n.Config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		before := strings.Count(node.err.String(), wantLog)
		if err := node.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, wantLog, func() bool { return strings.Count(node.err.String(), wantLog) > before })
	}
	read := func() error {
		conn, err := connectTo(t.Context(), n.Proxy, c.User, c.Password, c.Database)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context()) // its result was read
		var value string
		return conn.QueryRow(t.Context(), "SELECT vault.read_secret('a')").Scan(&value)
	}
	const again = "the settings were read again"
	reload("VAULT_ALLOWED_IPS=loopback", "VAULT_ALLOWED_IPS=192.0.2.0/24", again)
	var pg *pgconn.PgError
	if err := read(); !errors.As(err, &pg) || pg.Code != "42501" {
		t.Errorf("a read from an address that is no longer allowed: got %v, want 42501", err)
	}
	reload("VAULT_ALLOWED_IPS=loopback", "VAULT_ALLOWED_IPS=everywhere", "nothing was changed")
	if err := read(); !errors.As(err, &pg) {
		t.Errorf("a wrong file changed something: got %v, want 42501", err)
	}
	reload("VAULT_DRAIN_SECS=1", "VAULT_DRAIN_SECS=2", `"settings":"VAULT_DRAIN_SECS"`)
	if err := read(); err != nil {
		t.Errorf("a read from an address that is allowed again: %v", err)
	}
	reload("", "", again)
}

func TestInit(t *testing.T) {
	c, err := devcluster.Start(t.Context(), devcluster.Config{Binary: os.Args[0], ServersOnly: true, Standbys: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	primary, standby := c.Nodes[0], c.Nodes[1]
	host, port, err := net.SplitHostPort(primary.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + c.Superuser, "PGPASSWORD=" + c.SuperuserPassword}
	super := func(n *devcluster.Node, database, sql string) string {
		return ask(t, n.Postgres, c.Superuser, c.SuperuserPassword, database, sql)
	}

	t.Run("again", func(t *testing.T) { // the cluster was initialised by its start
		code, out, errOut := finish(t, env, "init", "--database", c.Database, "--json", "--hosts", primary.Postgres+","+standby.Postgres)
		var r initResult
		if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil {
			t.Fatalf("got %d, %v: %s", code, err, errOut)
		}
		if r.VaultID != c.VaultID || r.AdminToken != "" || len(r.Done) != 0 {
			t.Errorf("got %+v; want the same vault %s, no token, nothing done", r, c.VaultID)
		}
	})
	t.Run("standby alone", func(t *testing.T) {
		code, _, errOut := finish(t, env, "init", "--database", c.Database, "--hosts", standby.Postgres)
		if code != exitFault || !strings.Contains(errOut, "every server named is a standby") {
			t.Errorf("got %d: %s", code, errOut)
		}
	})
	t.Run("a host that is away", func(t *testing.T) {
		code, _, errOut := finish(t, env, "init", "--database", "postgres", "--hosts", primary.Postgres+",127.0.0.1:1")
		if code != exitFault || !strings.Contains(errOut, "127.0.0.1:1") {
			t.Errorf("got %d: %s", code, errOut)
		}
		if got := super(primary, "postgres", "SELECT count(*)::text FROM pg_extension WHERE extname = 'hyperion_vault'"); got != "0" {
			t.Error("something was changed although one host could not be asked")
		}
	})
	t.Run("not a superuser", func(t *testing.T) {
		code, _, errOut := finish(t, append(slices.Clone(env), "PGUSER="+c.User, "PGPASSWORD="+c.Password), "init", "--database", c.Database)
		if code != exitFault || !strings.Contains(errOut, "is not a superuser") {
			t.Errorf("got %d: %s", code, errOut)
		}
	})
	t.Run("new password", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "made.password")
		code, _, errOut := finish(t, env, "init", "--database", c.Database, "--reset-service-password", "--service-password-file", file)
		if code != 0 {
			t.Fatalf("got %d: %s", code, errOut)
		}
		password, err := readSecretFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, primary.Postgres, "vault_service", password, c.Database, "SELECT current_user::text"); got != "vault_service" {
			t.Errorf("log-in with the new password: got %s", got)
		}
		log, err := os.ReadFile(primary.ServerLog())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(log, []byte(password)) {
			t.Error("the password is in the server's log")
		}
	})
	t.Run("settings", func(t *testing.T) {
		if got := super(primary, c.Database, "SELECT array_to_string(setconfig, ';') FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database() AND setrole = 0"); got != "session_preload_libraries=hyperion_vault" {
			t.Errorf("database settings: got %q", got)
		}
		// Another database than the servers' files name: ALTER SYSTEM on both.
		code, _, errOut := finish(t, env, "init", "--database", "postgres", "--hosts", primary.Postgres+","+standby.Postgres)
		if code != 0 {
			t.Fatalf("got %d: %s", code, errOut)
		}
		for _, n := range []*devcluster.Node{primary, standby} {
			eventually(t, n.Name+" knows the database", func() bool {
				return super(n, "postgres", "SELECT current_setting('hyperion_vault.database')") == "postgres"
			})
		}
	})
}
