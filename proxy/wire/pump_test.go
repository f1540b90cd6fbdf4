// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pollerTurns makes the runtime's poller come round: whatever had happened to
// any descriptor before has been reported afterwards.
func pollerTurns(t *testing.T) {
	t.Helper()
	c, far := pair(t)
	go io.Copy(far, far) //nolint:errcheck // ends with the connection
	b := make([]byte, 1)
	for range 50 {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
	}
}

// hungUp waits until the kernel knows that the other end sends no more.
func hungUp(t *testing.T, c *Conn) {
	t.Helper()
	fds := []unix.PollFd{{Fd: c.fd, Events: unix.POLLRDHUP}}
	if n, err := unix.Poll(fds, 10_000); err != nil || n != 1 {
		t.Fatalf("poll: %d, %v", n, err)
	}
}

// The end of the stream came with the last data and was reported with it: only
// the Sweeper tells.
func TestSweeperFindsTheEndThatCameWithData(t *testing.T) {
	c, far := pair(t)
	r := NewClientReader(c)
	msg := AppendEmpty(nil, Sync)
	if _, err := far.Write(msg); err != nil {
		t.Fatal(err)
	}
	if err := far.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	hungUp(t, c)
	pollerTurns(t)
	stepped, ended := make(chan int, 1), make(chan error, 1)
	go func() {
		ended <- r.Pump(func() bool {
			n := len(r.Buffered())
			r.Discard(n)
			stepped <- n
			return true
		})
	}()
	if n := <-stepped; n != len(msg) {
		t.Fatalf("%d bytes, want %d", n, len(msg))
	}
	var s Sweeper
	patience := time.NewTimer(20 * time.Second)
	defer patience.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		select {
		case err := <-ended:
			if !errors.Is(err, io.EOF) {
				t.Fatalf("got %v, want the end of the stream", err)
			}
			return
		case <-patience.C:
			t.Fatal("the end was not seen")
		case <-again.C:
			s.Add(c)
			s.Sweep()
		}
	}
}

// A nudge that meets another read of the connection, or one that has nothing to
// find, disturbs nothing.
func TestSweeperDisturbsNobody(t *testing.T) {
	c, far := pair(t)
	r := NewClientReader(c)
	got := make(chan []byte)
	go func() {
		for {
			if err := r.Fill(); err != nil {
				close(got)
				return
			}
			b := append([]byte(nil), r.Buffered()...)
			r.Discard(len(b))
			got <- b
		}
	}()
	for i := range byte(100) {
		c.nudge()
		if _, err := far.Write([]byte{i}); err != nil {
			t.Fatal(err)
		}
		if b := <-got; len(b) != 1 || b[0] != i {
			t.Fatalf("got %v, want %d", b, i)
		}
	}
	far.Close()
	if b, open := <-got; open {
		t.Fatalf("got %v behind the end", b)
	}
}

// What follows a pause arrives.
func TestPumpGoesOnAfterAPause(t *testing.T) {
	c, far := pair(t)
	r := NewClientReader(c)
	got, ended := make(chan int), make(chan error, 1)
	go func() {
		ended <- r.Pump(func() bool {
			n := len(r.Buffered())
			r.Discard(n)
			got <- n
			return true
		})
	}()
	msg := AppendEmpty(nil, Sync)
	for range 100 {
		if _, err := far.Write(msg); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(msg); {
			n += <-got
		}
		pollerTurns(t)
	}
	far.Close()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, want the end of the stream", err)
	}
}
