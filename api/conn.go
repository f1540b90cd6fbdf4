// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/lobby"
)

// conn is used by one goroutine of the HTTP server at a time, but for reads of one
// byte, by which that notices that a client leaves. It leaves no value in the server's
// buffers.
type conn struct {
	net.Conn
	crowd  *crowd
	guest  *lobby.Guest
	served bool   // a request is
	buffer []byte // the server's, for what it reads
	whole  bool   // the request's body was read to its end
	held   bool   // what is written waits for a value
	head   []byte
	room   []byte // for head and value; erased after each
}

type connKey struct{}

// ConnContext is for the HTTP server: handlers find their connection by it.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// connOf returns the connection of a request; nil: it is none of Listen's.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

// serverBuffer is the size of the HTTP server's buffer.
const serverBuffer = 4 << 10

// Read erases what it may overwrite (see [io.Reader]): in the server's buffer that is
// what was read before and has been used.
func (c *conn) Read(p []byte) (int, error) {
	if c.buffer == nil && len(p) > 1 {
		c.buffer = p // the first is the whole
	}
	if len(p) <= serverBuffer { // else it is a body's, and its reader erases it
		erase.Zero(p)
	}
	if len(p) > 1 {
		defer c.keepWaiting()()
	}
	n, err := c.Conn.Read(p)
	if timeout, ok := err.(net.Error); err != nil && !(ok && timeout.Timeout()) { //nolint:errorlint // as net/http does: one ends the wait behind each request
		answerPlain(err)
	}
	return n, err
}

// answerPlain tells who speaks HTTP where TLS is spoken.
func answerPlain(err error) {
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) && plain.Conn != nil {
		_, _ = io.WriteString(plain.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks TLS: write https.\n") // it is closed then
	}
}

// forget reads what nobody wanted of a body, and erases what was read for a request
// that is the connection's last.
func (c *conn) forget(w http.ResponseWriter, r *http.Request) {
	whole := c.whole || r.Body == http.NoBody
	switch {
	case whole:
	case r.Close:
		whole = refuse(w, r)
	case r.Header.Get("Expect") == "": // else the HTTP server closes
		drain(r.Body, maxBody) // or that would, into buffers that nobody erases
	}
	if r.Close && whole {
		erase.Zero(c.buffer)
	}
}

// maxRefused is how much of a body is read that nobody wants: what the HTTP server
// itself would read.
const maxRefused = 256 << 10

// refuse answers, and reads what is left of a body; false: it may still come.
func refuse(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Expect") != "" || http.NewResponseController(w).Flush() != nil {
		return false
	}
	whole := false
	erase.Do(func() { whole = drain(r.Body, maxRefused) })
	return whole
}

// Write keeps the head of an answer until its value comes.
func (c *conn) Write(p []byte) (int, error) {
	if c.held {
		c.head = append(c.head, p...)
		return len(p), nil
	}
	defer c.keepWaiting()()
	return c.Conn.Write(p)
}

// sendAlong is for how small a value it pays to send it in one piece with the head.
const sendAlong = 16 << 10

// ReadFrom writes a value past all buffers.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	value, ok := r.(*answer)
	if !ok {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	defer c.keepWaiting()()
	head := c.release()
	if len(value.text) <= cap(head)-len(head) {
		whole := append(head, value.text...)
		defer erase.Zero(whole)
		n, err := c.Conn.Write(whole)
		return int64(max(0, n-len(head))), err
	}
	if _, err := c.Conn.Write(head); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(value.text)
	return int64(n), err
}

const (
	roomForHead = 512 // more than most heads take

	// maxKept bounds what a connection keeps for its next answer.
	maxKept = 2 << 10
)

// hold has the head of an answer wait for a value of this length.
func (c *conn) hold(n int) {
	c.held = true
	switch both := roomForHead + n; {
	case n > sendAlong: // one after the other
	case both > maxKept:
		c.head = make([]byte, 0, both)
	case both > cap(c.room):
		c.room = make([]byte, 0, both)
		fallthrough
	default:
		c.head = c.room
	}
}

// release returns what waits, and has nothing more wait.
func (c *conn) release() []byte {
	head := c.head
	c.held, c.head = false, nil
	return head
}

// CloseWrite lets a client read an answer to the end of what it has not sent yet.
func (c *conn) CloseWrite() error {
	c.guest.Waits() // the HTTP server does for a moment yet
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// answer is the body of an answer that holds a value.
type answer struct {
	bytes.Reader
	text []byte
}

func newAnswer(text []byte) *answer {
	a := &answer{text: text}
	a.Reset(text)
	return a
}

// sendValue is send for what holds a value: it goes past the buffers of the HTTP
// server, which nobody erases.
func sendValue(w http.ResponseWriter, r *http.Request, status int, text []byte) {
	if r.Method == http.MethodHead { // answered without the value, and none is buffered first
		sendHead(w, status, len(text))
		return
	}
	c, past := connOf(r.Context()), io.ReaderFrom(nil)
	if c != nil {
		past, _ = w.(io.ReaderFrom)
	}
	if past == nil {
		send(w, status, text)
		return
	}
	sendHead(w, status, len(text))
	c.hold(len(text))
	err := http.NewResponseController(w).Flush()
	if err == nil {
		body := newAnswer(text)
		erase.Do(func() { _, err = past.ReadFrom(body) })
	}
	if head := c.release(); err != nil || head != nil {
		_ = c.Close() // the client has left
	}
}
