// SPDX-License-Identifier: GPL-3.0-or-later

package rawpg

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// The codes that a first packet may have in place of a protocol version.
const (
	CodeCancel = 80877102
	CodeSSL    = 80877103
	CodeGSS    = 80877104
)

// Open connects without a word.
func Open(ctx context.Context, address string) (*Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return Over(nc), nil
}

// Over speaks on a connection that exists, TLS perhaps.
func Over(nc net.Conn) *Conn {
	return &Conn{Net: nc, Params: map[string]string{}, r: bufio.NewReader(nc)}
}

// Packet is a first packet: a length, a code, and a body as it is.
func Packet(code uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body))) //nolint:gosec // what a test writes down
	return append(binary.BigEndian.AppendUint32(b, code), body...)
}

// Startup is a startup packet with names and values in turn.
func Startup(version uint32, params ...string) []byte {
	var body []byte
	for _, p := range params {
		body = append(append(body, p...), 0)
	}
	return Packet(version, string(append(body, 0)))
}

// ReadByte reads one byte, which is all that answers a request for encryption.
func (c *Conn) ReadByte() (byte, error) { return c.r.ReadByte() }

// ReadRest reads all bytes up to the end.
func (c *Conn) ReadRest() ([]byte, error) {
	if err := c.Net.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return nil, err
	}
	return io.ReadAll(c.r)
}

// LogIn answers what the server asks until ReadyForQuery or the end, and returns
// all that the server said. A nil Scram answers nothing.
func (c *Conn) LogIn(s *Scram) ([]Message, error) {
	var got []Message
	for {
		m, err := c.Receive()
		if err != nil {
			return got, err
		}
		got = append(got, m)
		switch m.Type {
		case 'Z':
			return got, nil
		case 'K':
			if len(m.Body) < 8 {
				return got, errors.New("a cancel key that is too short")
			}
			c.PID, c.Secret = binary.BigEndian.Uint32(m.Body), m.Body[4:]
		case 'S':
			var p pgproto3.ParameterStatus
			if err := p.Decode(m.Body); err != nil {
				return got, err
			}
			c.Params[p.Name] = p.Value
		case 'R':
			answer, err := s.step(m.Body)
			if err != nil {
				return got, err
			}
			if answer == nil {
				continue
			}
			if err := c.Send(answer); err != nil {
				return got, err
			}
		}
	}
}

// CancelRequest asks to cancel what the backend of this process id runs.
func CancelRequest(pid uint32, key []byte) []byte {
	return Packet(CodeCancel, string(append(binary.BigEndian.AppendUint32(nil, pid), key...)))
}
