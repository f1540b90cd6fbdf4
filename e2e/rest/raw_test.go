// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rest

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// dial connects to a node.
func dial(t *testing.T, node int) net.Conn {
	t.Helper()
	return dialAt(t, strings.TrimPrefix(shared.Nodes[node].REST, "http://"), 40*time.Second)
}

// dialAt connects to an address for so long.
func dialAt(t *testing.T, address string, patience time.Duration) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// exchange sends bytes and returns what comes back until the node closes.
func exchange(t *testing.T, node int, request string) string {
	t.Helper()
	return say(t, strings.TrimPrefix(shared.Nodes[node].REST, "http://"), request)
}

// say is exchange with whoever listens at an address.
func say(t *testing.T, address, request string) string {
	t.Helper()
	conn := dialAt(t, address, 40*time.Second)
	defer conn.Close()
	_, _ = io.WriteString(conn, request) // it may close before it has read all
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // the same
	}
	text, _ := io.ReadAll(conn) // what came counts
	return string(text)
}
