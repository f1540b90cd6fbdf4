// SPDX-License-Identifier: GPL-3.0-or-later

// Package pgbouncer writes the configuration of a PgBouncer, and gives files
// to the account that it runs as: it refuses to be root.
package pgbouncer

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Config says which connections a PgBouncer takes, and where they go.
type Config struct {
	Listen   string            // its address
	Target   string            // the server's address, or a node's
	Database string            // the one that it serves; empty: all
	Mode     string            // session, transaction
	Users    map[string]string // name to password, or to SCRAM verifier
	Settings string            // more lines of its [pgbouncer]; the last of a name counts
}

// Write writes the files into dir, which is of Dir's making, and returns the path
// of the one to start PgBouncer with.
func (c Config) Write(dir string) (ini string, err error) {
	host, port, err := net.SplitHostPort(c.Target)
	if err != nil {
		return "", err
	}
	ownHost, ownPort, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return "", err
	}
	database := c.Database
	if database == "" {
		database = "*"
	}
	var users strings.Builder
	for name, password := range c.Users {
		fmt.Fprintf(&users, "%q %q\n", name, password)
	}
	auth := filepath.Join(dir, "users.txt")
	if err := WriteFile(auth, users.String()); err != nil {
		return "", err
	}
	ini = filepath.Join(dir, "pgbouncer.ini")
	return ini, WriteFile(ini, fmt.Sprintf(`[databases]
%s = host=%s port=%s
[pgbouncer]
listen_addr = %s
listen_port = %s
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
pool_mode = %s
%s
`, database, host, port, ownHost, ownPort, auth, c.Mode, c.Settings))
}

// Account is whose process a PgBouncer has to be; nil: our own.
func Account() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // as SysProcAttr has it
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PgBouncer refuses to run as root, and there is no other account: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// Dir makes a temporary directory of that account's.
func Dir() (string, error) {
	dir, err := os.MkdirTemp("", "hyperion-vault-pooler-")
	if err != nil {
		return "", err
	}
	return dir, Own(dir)
}

// WriteFile writes a file of that account's, which nobody else reads.
func WriteFile(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	return Own(path)
}

// Own gives a file to that account.
func Own(path string) error {
	c, err := Account()
	if c == nil || err != nil {
		return err
	}
	return os.Chown(path, int(c.Uid), int(c.Gid))
}
