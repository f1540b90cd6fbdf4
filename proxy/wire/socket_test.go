// SPDX-License-Identifier: GPL-3.0-or-later

package wire

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

// accepted returns both ends of a connection to a listener of Sockets.
func accepted(t *testing.T) (near net.Conn, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if near, err = Sockets(l).Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	return near, client.(*net.TCPConn)
}

// A Socket behaves as the connection that it stands for, whose Read and Write it
// replaces.
func TestSocket(t *testing.T) {
	near, far := accepted(t)
	if _, ok := near.(*Socket); !ok {
		t.Fatalf("accepted a %T", near)
	}
	var buf [8]byte
	if err := near.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := near.Read(buf[:]); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("behind a deadline: %v", err)
	}
	if err := near.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Write([]byte("there")); err != nil {
		t.Fatal(err)
	}
	if n, err := near.Read(buf[:]); err != nil || string(buf[:n]) != "there" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if _, err := near.Write([]byte("back")); err != nil {
		t.Fatal(err)
	}
	if err := near.(*Socket).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(far); err != nil || string(all) != "back" {
		t.Errorf("its end of the stream: %q, %v", all, err)
	}
	if err := far.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := far.Close(); err != nil { // a reset
		t.Fatal(err)
	}
	var op *net.OpError
	if _, err := near.Read(buf[:]); !errors.As(err, &op) || op.Op != "read" || op.Addr == nil || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read behind a reset: %v", err)
	}
	if _, err := near.Write(buf[:]); !errors.As(err, &op) || op.Op != "write" || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write behind a reset: %v", err)
	}
}

// TestSocketOfMany: as with any net.Conn, one goroutine may read while another does, and
// write.
func TestSocketOfMany(t *testing.T) {
	const goroutines, each = 8, 500
	near, far := accepted(t)
	go func() {
		back := make([]byte, 1)
		for range goroutines * each {
			if _, err := io.ReadFull(far, back); err != nil {
				return
			}
			if _, err := far.Write(back); err != nil {
				return
			}
		}
	}()
	var readers, writers sync.WaitGroup
	for range goroutines {
		writers.Go(func() {
			for range each {
				if n, err := near.Write([]byte{'x'}); n != 1 || err != nil {
					t.Errorf("wrote %d, %v", n, err)
					near.Close() // nobody would read what is missing
					return
				}
			}
		})
		readers.Go(func() {
			var buf [1]byte
			for range each {
				if n, err := near.Read(buf[:]); n != 1 || err != nil || buf[0] != 'x' {
					t.Errorf("read %d, %v, %q", n, err, buf)
					return
				}
			}
		})
	}
	writers.Wait()
	readers.Wait()

	// Whoever waits behind another hears of the end as that does.
	for range 2 {
		readers.Go(func() {
			if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read: %v", err)
			}
		})
	}
	near.Close()
	readers.Wait()
}
