// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestListenOnSocket(t *testing.T) {
	e := endpoint{network: "unix", address: filepath.Join(t.TempDir(), ".s.PGSQL.6432")}
	l, err := listenOn(t.Context(), "VAULT_PROXY_LISTEN", e)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(e.address); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("mode: got %v, error %v, want 0777", info.Mode().Perm(), err)
	}
	if _, err := listenOn(t.Context(), "VAULT_PROXY_LISTEN", e); err == nil || !strings.Contains(err.Error(), "another process does") {
		t.Errorf("a socket in use: got %v", err)
	}

	// As after a crash: the socket is there, nobody listens.
	unix, ok := l.(*net.UnixListener)
	if !ok {
		t.Fatalf("got a %T", l)
	}
	unix.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := listenOn(t.Context(), "VAULT_PROXY_LISTEN", e)
	if err != nil {
		t.Fatalf("a socket that a crash left: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestListenOnFileOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".s.PGSQL.6432")
	if err := os.WriteFile(path, []byte("not a socket"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := listenOn(t.Context(), "VAULT_PROXY_LISTEN", endpoint{network: "unix", address: path}); err == nil {
		t.Error("a file that is no socket was taken", l.Close())
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "not a socket" {
		t.Errorf("the file: got %q, %v", text, err)
	}
}

func TestListenOnPortInUse(t *testing.T) {
	l, err := listenOn(t.Context(), "VAULT_API_LISTEN", endpoint{network: "tcp", address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // nothing was accepted
	_, err = listenOn(t.Context(), "VAULT_API_LISTEN", endpoint{network: "tcp", address: l.Addr().String()})
	if want := "VAULT_API_LISTEN: cannot listen on " + l.Addr().String() + ": address already in use"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Error("the error does not wrap EADDRINUSE")
	}
}
