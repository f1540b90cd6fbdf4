// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// echo answers with what it is sent.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wg.Wait()
	})
	return listener.Addr().String()
}

func newTestLink(t *testing.T) *Link {
	t.Helper()
	l, err := NewLink(t.Context(), echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func dial(t *testing.T, l *Link) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", l.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

func TestLinkCut(t *testing.T) {
	l := newTestLink(t)
	conn := dial(t, l)
	say(t, conn, "before")
	hear(t, conn, "before")
	l.Cut()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Errorf("a connection that was cut: %v", err)
	}
	if _, err := net.Dial("tcp", l.Address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v, want it refused", err)
	}
	if err := l.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn = dial(t, l)
	say(t, conn, "after")
	hear(t, conn, "after")
}

func TestLinkStall(t *testing.T) {
	l := newTestLink(t)
	old := dial(t, l)
	say(t, old, "before")
	hear(t, old, "before")
	l.Stall()
	young := dial(t, l)
	for _, conn := range []net.Conn{old, young} {
		say(t, conn, "held")
		if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a stalled link: %d bytes, %v", n, err)
		}
		if err := conn.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	hear(t, old, "held")
	hear(t, young, "held")
}

func TestLinkSlow(t *testing.T) {
	l := newTestLink(t)
	conn := dial(t, l)
	const each = 30 * time.Millisecond
	l.Slow(each, 0)
	began := time.Now()
	say(t, conn, "slow")
	hear(t, conn, "slow")
	if took := time.Since(began); took < 2*each {
		t.Errorf("there and back in %v, want %v at least", took, 2*each)
	}
	l.Slow(0, 1000)
	began = time.Now()
	const text = "each byte takes a millisecond, and there are a few"
	say(t, conn, text)
	hear(t, conn, text)
	if took, least := time.Since(began), 2*time.Duration(len(text))*time.Millisecond; took < least {
		t.Errorf("%d bytes there and back in %v, want %v at least", len(text), took, least)
	}
}

// TestLinkEnds: what one end says before it closes reaches the other, and then
// that it has closed.
func TestLinkEnds(t *testing.T) {
	l := newTestLink(t)
	conn := dial(t, l)
	say(t, conn, "last words")
	if tcp, ok := conn.(*net.TCPConn); !ok || tcp.CloseWrite() != nil {
		t.Fatal("no half close")
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "last words" {
		t.Errorf("got %q, %v", got, err)
	}
}
