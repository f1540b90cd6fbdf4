// SPDX-License-Identifier: GPL-3.0-or-later

// Package rawpg is a client of PostgreSQL's wire protocol that sends what no
// driver sends. A [Conn] writes messages exactly as it is told, in one write, and
// reads answers one at a time; [Message.String] gives each a short spelling, so
// that a test compares whole conversations:
//
//	1 2 T(pw:25) D(s3cr3t) C(SELECT_1) Z(I)
package rawpg

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Patience is how long Receive waits for an answer. It is far longer than any
// answer takes: reaching it means that none comes.
const Patience = 30 * time.Second

// maxMessage bounds what Receive accepts.
const maxMessage = 64 << 20

// A Conn is a logged-in connection. It is for one goroutine.
type Conn struct {
	// Net is the connection itself.
	Net net.Conn
	// PID and Secret are those of BackendKeyData.
	PID    uint32
	Secret []byte
	// Params are the parameters reported during the log-in.
	Params map[string]string
	// Err is the last ErrorResponse received, nil before the first.
	Err *pgproto3.ErrorResponse

	r *bufio.Reader
}

// errTLS: what asks for TLS would be in clear, and show nothing of it.
var errTLS = errors.New("rawpg.Dial speaks no TLS, which the connection string demands")

// Dial logs in, in clear, or not at all where the connection string demands TLS (see
// Over). That is one as libpq's; a server's refusal is a *pgconn.PgError. It is not a driver's own log-in: after a
// slow write pgx reads in the background, and what it takes then is gone.
func Dial(ctx context.Context, dsn string) (*Conn, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if demandsTLS(config) {
		return nil, errTLS
	}
	if config.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, config.ConnectTimeout)
		defer cancel()
	}
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	nc, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := Over(nc)
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() }) // its time is over
	if err := c.begin(config); err != nil {
		_ = nc.Close() // it was refused
		return nil, errors.Join(err, ctx.Err())
	}
	if !stop() {
		return nil, ctx.Err()
	}
	return c, nil
}

// demandsTLS says whether nothing that the connection string allows is in clear.
func demandsTLS(config *pgconn.Config) bool {
	return config.TLSConfig != nil &&
		!slices.ContainsFunc(config.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.TLSConfig == nil })
}

func (c *Conn) begin(config *pgconn.Config) error {
	params := []string{"user", config.User, "database", config.Database}
	for name, value := range config.RuntimeParams {
		params = append(params, name, value)
	}
	if err := c.Write(Startup(3<<16, params...)); err != nil {
		return err
	}
	_, err := c.LogIn(&Scram{Password: config.Password})
	if err != nil && c.Err != nil {
		return pgconn.ErrorResponseToPgError(c.Err)
	}
	return err
}

// Close closes the connection without a Terminate.
func (c *Conn) Close() error { return c.Net.Close() }

// Encode is the bytes of messages.
func Encode(msgs ...pgproto3.FrontendMessage) ([]byte, error) {
	var b []byte
	for _, m := range msgs {
		var err error
		if b, err = m.Encode(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Send writes messages in one write.
func (c *Conn) Send(msgs ...pgproto3.FrontendMessage) error {
	b, err := Encode(msgs...)
	if err != nil {
		return err
	}
	return c.Write(b)
}

// Write writes raw bytes.
func (c *Conn) Write(b []byte) error {
	if err := c.Net.SetWriteDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	_, err := c.Net.Write(b)
	return err
}

// A Message is one answer of the server's.
type Message struct {
	Type byte
	Body []byte
}

// Receive reads the next message. io.EOF means that the connection was closed
// between messages.
func (c *Conn) Receive() (Message, error) {
	if err := c.Net.SetReadDeadline(time.Now().Add(Patience)); err != nil {
		return Message{}, err
	}
	var head [5]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return Message{}, err
	}
	size := int64(binary.BigEndian.Uint32(head[1:])) - 4
	if size < 0 || size > maxMessage {
		return Message{}, fmt.Errorf("message %q claims %d bytes", head[0], size)
	}
	m := Message{Type: head[0], Body: make([]byte, size)}
	if _, err := io.ReadFull(c.r, m.Body); err != nil {
		return Message{}, err
	}
	if m.Type == 'E' {
		c.Err = &pgproto3.ErrorResponse{}
		if err := c.Err.Decode(m.Body); err != nil {
			return Message{}, err
		}
	}
	return m, nil
}

// Cancel sends a cancel request for a connection on a connection of its own and
// waits until that is closed.
func (c *Conn) Cancel(ctx context.Context) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, c.Net.RemoteAddr().Network(), c.Net.RemoteAddr().String())
	if err != nil {
		return err
	}
	defer nc.Close() //nolint:errcheck // nothing more is said
	if err := nc.SetDeadline(time.Now().Add(Patience)); err != nil {
		return err
	}
	b, err := (&pgproto3.CancelRequest{ProcessID: c.PID, SecretKey: c.Secret}).Encode(nil)
	if err != nil {
		return err
	}
	if _, err := nc.Write(b); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, nc)
	return err
}
