// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"net"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// TestNotify: each change is a datagram of its own, in the manager's words.
func TestNotify(t *testing.T) {
	for _, socket := range []string{filepath.Join(t.TempDir(), "notify"), "@hyperion-vault-" + filepath.Base(t.TempDir()) + t.Name()} {
		manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer manager.Close()
		n := newNotifier([]string{"A=b", "NOTIFY_SOCKET=" + socket})
		n.ready()
		n.reloading()
		n.ready()
		n.stopping(35 * time.Second)
		if err := manager.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			`^READY=1$`, `^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*$`, `^READY=1$`, `^STOPPING=1\nEXTEND_TIMEOUT_USEC=35000000$`,
		} {
			got := make([]byte, 1000)
			length, err := manager.Read(got)
			if err != nil {
				t.Fatalf("%s: want %s: %v", socket, want, err)
			}
			if !regexp.MustCompile(want).Match(got[:length]) {
				t.Errorf("%s: got %q, want %s", socket, got[:length], want)
			}
		}
	}
}

// TestNotifyNobody: a node runs without a manager, and with one that is gone. It
// must not panic, or wait.
func TestNotifyNobody(t *testing.T) {
	for _, environ := range [][]string{nil, {"NOTIFY_SOCKET=" + filepath.Join(t.TempDir(), "gone")}, {"NOTIFY_SOCKET=vsock:2:1234"}} {
		n := newNotifier(environ)
		n.ready()
		n.stopping(time.Second)
	}
}
