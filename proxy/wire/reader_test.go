// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// pair is a connected socket pair: the raw system calls need a real one.
func pair(t testing.TB) (*Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	c := NewConn(near)
	if err := c.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	return c, far
}

func TestReaderWalksMessagesByteByByte(t *testing.T) {
	c, far := pair(t)
	r := NewClientReader(c)
	want := AppendQuery(AppendEmpty(nil, Sync), "select 1")
	go func() {
		for i := range want {
			far.Write(want[i : i+1]) //nolint:errcheck // the reader reports what is missing
		}
		far.Close()
	}()
	var got []byte
	for {
		typ, size, ok, err := r.Header(0)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			if err := r.Hold(size, MaxLarge); err != nil {
				t.Fatal(err)
			}
			if typ != r.Buffered()[0] {
				t.Fatalf("type %q, buffered %q", typ, r.Buffered()[0])
			}
			got = append(got, r.Buffered()[:size]...)
			r.Discard(size)
			continue
		}
		if err := r.Fill(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReaderRefusesLengthsBeforeAllocating(t *testing.T) {
	for name, c := range map[string]struct {
		typ  byte
		size uint32
		want any
	}{
		"2 GiB query":        {Query, 0x7fffffff, &FrameError{}},
		"length below four":  {Query, 3, &FrameError{}},
		"negative":           {Bind, 0xffffffff, &FrameError{}},
		"64 KB sync":         {Sync, 65536, &FrameError{}},
		"unknown type":       {'~', 4, &UnknownTypeError{}},
		"a server's message": {'Z', 5, &UnknownTypeError{}},
	} {
		t.Run(name, func(t *testing.T) {
			conn, far := pair(t)
			r := NewClientReader(conn)
			if _, err := far.Write(binary.BigEndian.AppendUint32([]byte{c.typ}, c.size)); err != nil {
				t.Fatal(err)
			}
			for r.w-r.r < HeaderSize {
				if err := r.Fill(); err != nil {
					t.Fatal(err)
				}
			}
			_, _, _, err := r.Header(0)
			var frame *FrameError
			var unknown *UnknownTypeError
			switch c.want.(type) {
			case *FrameError:
				if !errors.As(err, &frame) {
					t.Errorf("got %v, want a FrameError", err)
				}
			case *UnknownTypeError:
				if !errors.As(err, &unknown) {
					t.Errorf("got %v, want an UnknownTypeError", err)
				}
			}
			if cap(r.buf) > BufferSize {
				t.Errorf("%d bytes allocated", cap(r.buf))
			}
		})
	}
}

func TestHoldBoundsAndGrowsWithWhatArrived(t *testing.T) {
	c, far := pair(t)
	r := NewClientReader(c)
	announced := binary.BigEndian.AppendUint32([]byte{Query}, 900<<20)
	if _, err := far.Write(append(announced, make([]byte, 1000)...)); err != nil {
		t.Fatal(err)
	}
	if err := r.Fill(); err != nil {
		t.Fatal(err)
	}
	if err := r.Hold(900<<20, 64<<20); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	far.Close()
	if err := r.Hold(900<<20, MaxLarge); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want an unexpected end", err)
	}
	if cap(r.buf) > 2*BufferSize {
		t.Errorf("%d bytes allocated for an announcement", cap(r.buf))
	}
}

func TestReaderZeroesSecrets(t *testing.T) {
	c, far := pair(t)
	r := NewClientReader(c)
	if _, err := far.Write(AppendQuery(nil, "canary")); err != nil {
		t.Fatal(err)
	}
	if err := r.Fill(); err != nil {
		t.Fatal(err)
	}
	kept := r.buf
	r.MarkSecret()
	r.Discard(r.w)
	r.Release()
	if bytes.Contains(kept, []byte("canary")) {
		t.Error("a released buffer holds what it was marked for")
	}
}

// Nobody has looked at a message that never became whole.
func TestReaderZeroesWhatIsUnread(t *testing.T) {
	c, far := pair(t)
	r := NewClientReader(c)
	if _, err := far.Write(AppendQuery(nil, "canary")[:12]); err != nil {
		t.Fatal(err)
	}
	if err := r.Fill(); err != nil {
		t.Fatal(err)
	}
	kept := r.buf
	r.Release()
	if bytes.Contains(kept, []byte("canary")) {
		t.Error("a released buffer holds the beginning of a message")
	}
}

// records is a connection that gives one record a read, as TLS does, and notes
// that it would have to wait for another.
type records struct {
	net.Conn
	left   [][]byte
	waited bool
}

func (c *records) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		c.waited = true
		return 0, io.EOF
	}
	n := copy(p, c.left[0])
	if c.left[0] = c.left[0][n:]; len(c.left[0]) == 0 {
		c.left = c.left[1:]
	}
	return n, nil
}

// A message whose last bytes are a record of their own goes out without waiting
// for another: of 5 bytes, as long as a header, in particular.
func TestStreamWaitsForNothingBehindTheMessage(t *testing.T) {
	for last := 1; last <= 2*HeaderSize; last++ {
		msg := AppendMessage(nil, FunctionCall, make([]byte, 20_000))
		nc := &records{left: [][]byte{msg[:len(msg)-last], msg[len(msg)-last:]}}
		r := NewClientReader(NewConn(nc))
		if err := r.Fill(); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := r.Stream(&out, len(msg)); err != nil {
			t.Fatalf("a last record of %d bytes: %v", last, err)
		}
		if !bytes.Equal(out.Bytes(), msg) {
			t.Errorf("a last record of %d bytes: %d bytes came, want %d", last, out.Len(), len(msg))
		}
		if nc.waited {
			t.Errorf("a last record of %d bytes: it waited", last)
		}
	}
}

// What a Stream could not give on is no part of the next message.
func TestSkipAfterStream(t *testing.T) {
	c, far := pair(t)
	r := NewServerReader(c)
	long := AppendMessage(nil, 'D', make([]byte, 3*BufferSize))
	go far.Write(append(long, AppendReady(nil, Idle)...)) //nolint:errcheck // the reader reports what is missing
	if err := r.Fill(); err != nil {
		t.Fatal(err)
	}
	closed, end := io.Pipe()
	closed.Close()
	if err := r.Stream(end, len(long)); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("got %v", err)
	}
	if err := r.Skip(); err != nil {
		t.Fatal(err)
	}
	for range HeaderSize {
		if typ, size, ok, err := r.Header(0); ok {
			if typ != ReadyForQuery || size != HeaderSize+1 || err != nil {
				t.Errorf("got %c of %d bytes, %v", typ, size, err)
			}
			return
		}
		if err := r.Fill(); err != nil {
			t.Fatal(err)
		}
	}
}
