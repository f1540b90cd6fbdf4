// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pumping starts a Pump; its error comes out of the channel.
func pumping(c *Conn) (r *Reader, ended chan error) {
	r = NewClientReader(c)
	ended = make(chan error, 1)
	go func() {
		ended <- r.Pump(func() bool {
			r.Discard(len(r.Buffered()))
			return true
		})
	}()
	return r, ended
}

func TestParkStopsAPump(t *testing.T) {
	c, far := pair(t)
	for range 100 { // the nudge meets the Pump at different places
		_, ended := pumping(c)
		c.Park()
		if err := <-ended; !errors.Is(err, ErrParked) {
			t.Fatalf("got %v, want ErrParked", err)
		}
	}
	// Nothing of it is left: what comes is read.
	r := NewClientReader(c)
	if _, err := far.Write(AppendEmpty(nil, Sync)); err != nil {
		t.Fatal(err)
	}
	if err := r.Fill(); err != nil {
		t.Fatal(err)
	}
}

// In the middle of a message nothing is parked; the next Pump is.
func TestParkWaitsForTheWholeMessage(t *testing.T) {
	c, far := pair(t)
	r := NewClientReader(c)
	msg := AppendQuery(nil, "select 1")
	if _, err := far.Write(msg[:HeaderSize]); err != nil {
		t.Fatal(err)
	}
	if err := r.Fill(); err != nil {
		t.Fatal(err)
	}
	held := make(chan error, 1)
	go func() { held <- r.Hold(len(msg), 1000) }()
	c.Park()
	runtime.Gosched()
	if _, err := far.Write(msg[HeaderSize:]); err != nil {
		t.Fatal(err)
	}
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	r.Discard(len(msg))
	if err := r.Pump(func() bool { return true }); !errors.Is(err, ErrParked) {
		t.Fatalf("got %v, want ErrParked", err)
	}
}

// A bound on reading is not taken for a nudge, even if both come.
func TestParkLeavesADeadline(t *testing.T) {
	for range 100 {
		c, _ := pair(t)
		_, ended := pumping(c)
		go c.nudge()
		if err := c.SetDeadline(longAgo); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v, want the deadline's error", err)
		}
	}
}

func TestParker(t *testing.T) {
	p, err := NewParker()
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan struct{})
	go func() { defer close(ran); p.Run() }()
	woken := make(chan string, 10)
	park := func(name string) (id uint64, far [2]net.Conn) {
		var near [2]*Conn
		for i := range near {
			near[i], far[i] = pair(t)
		}
		if id, err = p.Park(near[0], near[1], func() { woken <- name }); err != nil {
			t.Fatal(err)
		}
		return id, far
	}
	want := func(name string) {
		t.Helper()
		select {
		case got := <-woken:
			if got != name {
				t.Fatalf("%s woke, want %s", got, name)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s does not wake", name)
		}
	}
	idle, quiet := park("idle")
	_, a := park("data of the first")
	_, b := park("end of the second")
	c, _ := park("by hand")
	for i, act := range []func() error{
		func() error { _, err := a[0].Write([]byte{1}); return err },
		func() error { return b[1].Close() },
		func() error { p.Wake(c); return nil },
	} {
		if err := act(); err != nil {
			t.Fatal(err)
		}
		want([]string{"data of the first", "end of the second", "by hand"}[i])
	}
	// Each only once, and nobody else.
	for _, far := range []net.Conn{a[0], a[1], b[0]} {
		if _, err := far.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	p.Wake(c)
	p.Wake(idle)
	want("idle")
	if _, err := quiet[0].Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	_, last := park("last")
	if _, err := last[0].Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	want("last")
	if n := len(p.parked); n != 0 {
		t.Errorf("%d are still parked", n)
	}
	// Who is parked when the Parker ends is woken, and nobody is parked after it.
	park("left over")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	<-ran
	want("left over")
	a1, _ := pair(t)
	if _, err := p.Park(a1, a1, func() {}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// A connection that cannot be watched leaves nothing behind.
func TestParkerRefuses(t *testing.T) {
	p, err := NewParker()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	a, _ := pair(t)
	gone, _ := pair(t)
	gone.fd = -1
	for range 2 { // the second time a would be there already
		if _, err := p.Park(a, gone, func() {}); !errors.Is(err, unix.EBADF) {
			t.Fatalf("got %v, want EBADF", err)
		}
	}
}
