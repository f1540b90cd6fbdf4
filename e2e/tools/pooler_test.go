// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tools

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/pgbouncer"
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
	address, dir := cluster.FreeAddress(t), ownDir(t)
	ini, err := pgbouncer.Config{Listen: address, Target: b.target, Mode: b.mode, Users: b.users, Settings: `max_client_conn = 200
server_tls_sslmode = disable
ignore_startup_parameters = extra_float_digits
` + b.settings}.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	startDaemon(t, address, "pgbouncer", ini)
	return address
}

// ownDir is a directory of the account's that a pooler runs as.
func ownDir(t *testing.T) string {
	t.Helper()
	dir, err := pgbouncer.Dir() // t.TempDir lies below a directory of root's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // scratch
	return dir
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
	account, err := pgbouncer.Account()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...) // ended below
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin", "LC_ALL=C.UTF-8"}
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account, Pdeathsig: syscall.SIGKILL}
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
