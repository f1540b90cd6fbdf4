// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// A choppy connection gives what it holds in pieces of the sizes given, then
// its end.
type choppy struct {
	net.Conn
	rest  []byte
	sizes []byte
	n     int
}

func (c *choppy) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	size := 1
	if len(c.sizes) > 0 {
		size += int(c.sizes[c.n%len(c.sizes)])
		c.n++
	}
	n := copy(p, c.rest[:min(size, len(c.rest))])
	c.rest = c.rest[n:]
	return n, nil
}

func (c *choppy) SetDeadline(time.Time) error { return nil }

// walked is what a Reader makes of a stream: whole messages, by hold or by
// stream, and why it ended.
func walked(r *Reader, max int) (messages [][]byte, err error) {
	for {
		typ, size, ok, err := r.Header(0)
		switch {
		case err != nil:
			return messages, err
		case !ok:
			if err := r.Fill(); err != nil {
				return messages, err
			}
			continue
		}
		if size > max {
			var whole bytes.Buffer
			if err := r.Stream(&whole, size); err != nil {
				return messages, err
			}
			messages = append(messages, whole.Bytes())
			continue
		}
		if typ == Parse || typ == Query {
			r.MarkSecret()
		}
		if err := r.Hold(size, max); err != nil {
			return messages, err
		}
		messages = append(messages, bytes.Clone(r.Buffered()[:size]))
		r.Discard(size)
	}
}

// FuzzReader walks a stream that comes in pieces of any size: the messages are
// those that the bytes alone tell, whatever the pieces.
func FuzzReader(f *testing.F) {
	f.Add(AppendQuery(AppendEmpty(nil, Sync), "select 1"), []byte{0, 3}, uint16(100), true)
	f.Add(AppendBind(nil, "", "s", bytes.Repeat([]byte{'v'}, 300)), []byte{255}, uint16(20), true)
	f.Add([]byte{'D', 0x7f, 0xff, 0xff, 0xff, 1, 2}, []byte{}, uint16(5), false)
	f.Add([]byte{'Q', 0, 0, 0, 3}, []byte{1}, uint16(5), true)
	f.Fuzz(func(t *testing.T, stream, sizes []byte, max uint16, client bool) {
		check, reader := checkServer, NewServerReader
		if client {
			check, reader = checkClient, NewClientReader
		}
		r := reader(NewConn(&choppy{rest: stream, sizes: sizes}))
		got, err := walked(r, int(max))
		r.Release()
		if r.buf != nil || len(r.Buffered()) != 0 {
			t.Fatal("a released reader holds bytes")
		}
		var want [][]byte
		for rest := stream; ; {
			if len(rest) < HeaderSize {
				break
			}
			body := int(int32(binary.BigEndian.Uint32(rest[1:]))) - 4
			if bad := check(rest[0], body); bad != nil {
				var frame *FrameError
				var unknown *UnknownTypeError
				if !errors.As(err, &frame) && !errors.As(err, &unknown) {
					t.Fatalf("ended with %v, want %v", err, bad)
				}
				break
			}
			if len(rest) < HeaderSize+body {
				break
			}
			want, rest = append(want, rest[:HeaderSize+body]), rest[HeaderSize+body:]
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("got %q, want %q (%v)", got, want, err)
		}
	})
}

// FuzzCancel reads what a cancel request says and writes it again.
func FuzzCancel(f *testing.F) {
	f.Add(AppendCancel(nil, 7, []byte("abcd")))
	f.Add(AppendCancel(nil, 0xffffffff, bytes.Repeat([]byte{1}, 32)))
	f.Add(AppendCancel(nil, 1, bytes.Repeat([]byte{1}, 300)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		s, err := ReadStartup(r, MaxStartup)
		if err != nil || s.Code != CodeCancel {
			return
		}
		if len(s.Secret) < 4 || len(s.Secret) > 256 || len(s.Params) != 0 {
			t.Fatalf("got %+v", s)
		}
		used := b[:len(b)-r.Len()]
		if again := AppendCancel(nil, s.PID, s.Secret); !bytes.Equal(again, used) {
			t.Fatalf("got %x, was %x", again, used)
		}
	})
}
