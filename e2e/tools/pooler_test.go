// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tools

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// A bouncer is a PgBouncer in front of target.
type bouncer struct {
	target   string
	mode     string            // session, transaction
	users    map[string]string // name to password, or to SCRAM verifier
	settings string            // more lines of its [pgbouncer]
}

// start starts it and returns its address. It ends with the test.
func (b bouncer) start(t *testing.T) string {
	t.Helper()
	host, port, err := net.SplitHostPort(b.target)
	if err != nil {
		t.Fatal(err)
	}
	var users strings.Builder
	for name, password := range b.users {
		fmt.Fprintf(&users, "%q %q\n", name, password)
	}
	address := cluster.FreeAddress(t)
	_, own, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	dir := ownDir(t)
	files := map[string]string{
		"users": users.String(),
		"pgbouncer.ini": fmt.Sprintf(`[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
pool_mode = %s
max_client_conn = 200
server_tls_sslmode = disable
ignore_startup_parameters = extra_float_digits
%s
`, host, port, own, filepath.Join(dir, "users"), b.mode, b.settings),
	}
	for name, text := range files {
		ownFile(t, filepath.Join(dir, name), text)
	}
	startDaemon(t, address, "pgbouncer", filepath.Join(dir, "pgbouncer.ini"))
	return address
}

// pooler is the account that a pooler runs as: PgBouncer will not be root.
func pooler(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// ownDir is a directory of that account's.
func ownDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pooler") //nolint:usetesting // t.TempDir lies below a directory of root's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // scratch
	own(t, dir)
	return dir
}

func ownFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	own(t, path)
}

func own(t *testing.T, path string) {
	t.Helper()
	if c := pooler(t); c != nil {
		if err := os.Chown(path, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// startDaemon starts a program that stays in the foreground, and returns when
// address answers.
func startDaemon(t *testing.T, address, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name
	}
	log := filepath.Join(t.TempDir(), filepath.Base(name)+".log")
	file, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // the child has its own copy
	cmd := exec.Command(path, args...)  // ended below
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin", "LC_ALL=C.UTF-8"}
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pooler(t), Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has nothing to lose
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, read(t, log))
		}
	})
	cluster.Eventually(t, name, func() bool { return cluster.Listens(t, address) })
}
