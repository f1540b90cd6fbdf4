// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// A run is one command of the program as a user gives it.
type run struct {
	env   []string
	stdin string
	args  []string
}

// user runs commands for a node, with a token.
func user(node int, token string, args ...string) run {
	env := []string{"HYPERION_VAULT_ADDR=" + shared.Nodes[node].REST}
	if token != "" {
		env = append(env, "HYPERION_VAULT_TOKEN="+token)
	}
	return run{env: env, args: args}
}

// do runs it and returns what it printed and its exit code.
func (r run) do(t *testing.T) (out, errs string, code int) {
	t.Helper()
	binary, err := cluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := cluster.Command(t, r.env, binary, r.args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(r.stdin), &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// prints runs it: it must work and print just that.
func (r run) prints(t *testing.T, want string) {
	t.Helper()
	if out, errs, code := r.do(t); code != 0 || out != want {
		t.Errorf("%v: got %q, exit code %d, %s, want %q", r.args, out, code, errs, want)
	}
}

// fails runs it: it must fail so, and say all of that and no stack.
func (r run) fails(t *testing.T, want int, says ...string) {
	t.Helper()
	out, errs, code := r.do(t)
	if code != want || out != "" || !strings.HasPrefix(errs, "hyperion-vault: ") || strings.Contains(errs, "goroutine") {
		t.Errorf("%v: got %q, exit code %d, %s, want exit code %d", r.args, out, code, errs, want)
	}
	for _, s := range says {
		if !strings.Contains(errs, s) {
			t.Errorf("%v: it does not say %q but: %s", r.args, s, errs)
		}
	}
}

// TestCommands is a user's day: a token, values in and out, lists, and errors that say
// what to do.
func TestCommands(t *testing.T) {
	both(t, func(t *testing.T, node int, prefix string) {
		admin, name := shared.AdminToken, prefix+"cli/key"
		with := func(r run, stdin string) run { r.stdin = stdin; return r }

		with(user(node, admin, "put", name), "cli canary 1").prints(t, name+": version 1\n")
		with(user(node, admin, "put", name), "cli canary\n2 \"\\\u00e9\U0001F600\t\n").prints(t, name+": version 2\n")
		user(node, admin, "get", name).prints(t, "cli canary\n2 \"\\\u00e9\U0001F600\t\n")
		with(user(node, admin, "put", prefix+"cli/bin"), "cli\x00canary\xff").prints(t, prefix+"cli/bin: version 1\n")
		user(node, admin, "get", prefix+"cli/bin").prints(t, "cli\x00canary\xff")
		want(t, 201, node, admin, "POST", "/v1/secrets", fmt.Sprintf(`{"name":"%scli/pair","kind":"manual","username":"u","password":"cli \"canary\""}`, prefix))
		user(node, admin, "get", prefix+"cli/pair").prints(t, `{"username":"u","password":"cli \"canary\""}`)
		user(node, admin, "ls", prefix+"cli/").prints(t, prefix+"cli/bin\n"+name+"\n"+prefix+"cli/pair\n")
		user(node, admin, "ls", prefix+"none").prints(t, "")

		// A version in grace.
		want(t, 200, node, admin, "PUT", "/v1/secrets/"+name, `{"grace_period_secs":3600}`)
		with(user(node, admin, "put", name), "cli canary 3").prints(t, name+": version 3\n")
		user(node, admin, "get", "--version", "2", name).prints(t, "cli canary\n2 \"\\\u00e9\U0001F600\t\n")
		user(node, admin, "get", name, "--version=9").fails(t, 1, "there is no such secret", "404 missing")

		// One line break is most likely echo's.
		if _, errs, code := with(user(node, admin, "put", name), "cli canary 4\n").do(t); code != 0 || !strings.Contains(errs, "line break") {
			t.Errorf("exit code %d: %s", code, errs)
		}
		for _, r := range []run{with(user(node, admin, "put", name), ""), with(user(node, admin, "put", name), strings.Repeat("x", 512<<10+1)), user(node, admin, "get", "../x"), user(node, admin, "get", "a/rotate"), user(node, admin, "put"), user(node, admin, "put", name, "value")} {
			r.fails(t, 2)
		}

		// Tokens.
		label := label(prefix) + "cli"
		out, errs, code := user(node, admin, "token", "create", label).do(t)
		made := strings.TrimSuffix(out, "\n")
		if code != 0 || !strings.HasPrefix(made, "hvt_") || len(made) != 47 || !strings.Contains(errs, "not shown again") || strings.Contains(errs, made) {
			t.Fatalf("exit code %d: %q %s", code, out, errs)
		}
		shared.WaitReplayed(t, 1)
		user(node, made, "get", prefix+"cli/bin").prints(t, "cli\x00canary\xff")
		out, _, _ = user(node, admin, "token", "list").do(t)
		if !strings.Contains(out, label+"  ") || strings.Contains(out, "hvt_") || !strings.HasPrefix(out, "NAME") {
			t.Errorf("listed: %s", out)
		}
		user(node, admin, "token", "create", label).fails(t, 1, "409 exists")
		user(node, admin, "token", "create", label+"2", "--role", "none").fails(t, 1, "no such role", "400 invalid")
		user(node, admin, "token", "revoke", label).prints(t, "token "+label+" is revoked\n")
		user(node, admin, "token", "revoke", label).fails(t, 1, "404 missing", "revoked already")
		shared.WaitReplayed(t, 1)
		user(node, made, "ls").fails(t, 1, "401 unknown", "HYPERION_VAULT_TOKEN")
		user(node, "", "ls").fails(t, 1, "401 unknown", "HYPERION_VAULT_TOKEN")
		shared.NeverSent(t, made)
	})
	shared.NeverSent(t, "cli canary")
	for _, n := range shared.Nodes {
		if log, err := os.ReadFile(n.Log); err != nil || strings.Contains(string(log), "cli canary") {
			t.Errorf("the log of %s: %v, or it has a value", n.Name, err)
		}
	}
}

// TestTokenFile: others may not read it, nor a group write it.
func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(shared.AdminToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := user(0, "", "ls", "none/")
	r.env = append(r.env, "HYPERION_VAULT_TOKEN_FILE="+path)
	r.prints(t, "")
	for _, mode := range []os.FileMode{0o604, 0o660} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		r.fails(t, 2, "HYPERION_VAULT_TOKEN_FILE", "chmod 600")
	}
	both := user(0, "x", "ls")
	both.env = append(both.env, "HYPERION_VAULT_TOKEN_FILE="+path)
	both.fails(t, 2, "both set")
	user(0, "a b", "ls").fails(t, 2, "not shown")
}

// TestNobodyThere: an error names the address and what to look at.
func TestNobodyThere(t *testing.T) {
	address := "http://" + cluster.FreeAddress(t)
	user(0, "hvt_x", "get", "a", "--addr", address).fails(t, 1, address, "connection refused", "--addr")
	user(0, "hvt_x", "get", "a", "--addr", "ftp://x").fails(t, 2, "--addr")
	user(0, "hvt_x", "get", "a", "--addr", "127.0.0.1:8200").fails(t, 2, "http://HOST:PORT")
	user(0, "hvt_x", "get", "a", "--addr", "http://u:p@127.0.0.1").fails(t, 2, "--addr")
	user(0, "hvt_x", "get", "a", "--cacert", "/none").fails(t, 2, "--cacert")
	metrics := strings.TrimSuffix(shared.Nodes[0].Metrics, "/metrics")
	user(0, "hvt_x", "get", "a", "--addr", metrics).fails(t, 1, "no node's answer")
}

// TestCommandTLS: the node's certificate is asked for.
func TestCommandTLS(t *testing.T) {
	node := startTLS(t)
	r := run{env: []string{"HYPERION_VAULT_ADDR=" + node.REST, "HYPERION_VAULT_TOKEN=" + shared.AdminToken}, args: []string{"ls", "none/", "--cacert", node.cert}}
	r.prints(t, "")
	r.args = []string{"ls"}
	r.fails(t, 1, "--cacert")
	r.args = []string{"ls", "--addr", "http" + strings.TrimPrefix(node.REST, "https")}
	r.fails(t, 1, "http or https")
}

// TestPrompt: at a terminal the value is asked for and not shown, and the terminal is
// left as it was.
func TestPrompt(t *testing.T) {
	binary, err := cluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	env := append(user(0, shared.AdminToken).env, "SHELL=/bin/sh")
	shell := binary + " put prompt/a; stty -a | grep -o '[-]*echo '; " + binary + " get prompt/a"
	cmd := cluster.Command(t, env, "script", "-qec", shell, "/dev/null")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	screen := &watched{until: "(not shown): ", seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = screen, screen
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-screen.seen:
	case <-t.Context().Done():
	}
	if _, err := stdin.Write([]byte("typed canary\n")); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	got := strings.ReplaceAll(screen.text.String(), "\r", "")
	if want := "value of prompt/a (not shown): \nprompt/a: version 1\necho \ntyped canary\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestGetAtATerminal: no value acts on the terminal, unless that is asked for.
func TestGetAtATerminal(t *testing.T) {
	binary, err := cluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	env := append(user(0, shared.AdminToken).env, "SHELL=/bin/sh")
	at := func(command string) (screen string, ok bool) {
		t.Helper()
		out, err := cluster.Command(t, env, "script", "-qec", "stty -onlcr; "+binary+" get terminal/a"+command, "/dev/null").CombinedOutput()
		return string(out), err == nil
	}
	for value, acts := range map[string]bool{
		"two\n\tlines": false, "\u00e9 \u00a0 \U0001F600 \u05d0": false,
		"\x1b]0;title\a": true, "\x1b[2J": true, "over\rwritten": true, "bell\a": true, "back\b": true, "del\x7f": true, "C1 \u009b31m": true, "bidi \u202e": true, "hidden \u200b": true,
		"\xff\x1b[2J": true,
	} {
		put := user(0, shared.AdminToken, "put", "terminal/a")
		put.stdin = value
		if _, errs, code := put.do(t); code != 0 {
			t.Fatalf("%q: %s", value, errs)
		}
		want := value + "\n"
		if screen, ok := at(""); ok == acts || !acts && screen != want || acts && (strings.Contains(screen, value) || !strings.Contains(screen, "--raw")) {
			t.Errorf("%q: the terminal is sent %q, %v", value, screen, ok)
		}
		if screen, ok := at(" --raw"); !ok || screen != value {
			t.Errorf("%q, as it is: the terminal is sent %q, %v", value, screen, ok)
		}
		user(0, shared.AdminToken, "get", "terminal/a").prints(t, value)
	}
	want(t, 201, 0, shared.AdminToken, "POST", "/v1/secrets", `{"name":"terminal/pair","kind":"manual","username":"u","password":"\u009b31m"}`)
	if out, err := cluster.Command(t, env, "script", "-qec", binary+" get terminal/pair", "/dev/null").CombinedOutput(); err == nil || strings.Contains(string(out), "\u009b") {
		t.Errorf("a pair: the terminal is sent %q, %v", out, err)
	}
}

// watched closes seen when a text was written.
type watched struct {
	mu    sync.Mutex
	text  strings.Builder
	until string
	seen  chan struct{}
	once  sync.Once
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	if strings.Contains(w.text.String(), w.until) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(p), nil
}

// TestInit: the first token is printed once, and is what the database has the hash of.
func TestInit(t *testing.T) {
	t.Parallel() // it mostly waits
	c := cluster.Start(t, cluster.Spec{Plain: true})
	r := run{env: c.Libpq(t, c.Nodes[0].Postgres, c.Superuser), args: []string{"init", "--database", c.Database, "--service-password-file", filepath.Join(t.TempDir(), "password")}}
	out, errs, code := r.do(t)
	_, made, found := strings.Cut(out, "admin token, shown only now: ")
	made, _, _ = strings.Cut(made, "\n")
	if code != 0 || !found || !strings.HasPrefix(made, "hvt_") || len(made) != 47 {
		t.Fatalf("exit code %d: %s %s", code, out, errs)
	}
	super := c.Connect(t, c.SuperDSN(0))
	const names = "SELECT string_agg(name, ',') FROM vault.admin_tokens WHERE token_sha256 = sha256($1::text::bytea) AND role_id IS NULL"
	if got := cluster.Text(t, super, names, made); got != "init" {
		t.Errorf("the token is %q", got)
	}
	for range 2 { // also if it was revoked
		if out, errs, code = r.do(t); code != 0 || strings.Contains(out, "token") || !strings.Contains(out, "everything was there already") {
			t.Errorf("once more: exit code %d: %s %s", code, out, errs)
		}
		cluster.Exec(t, super, "UPDATE vault.admin_tokens SET revoked_at = now()")
	}
}
