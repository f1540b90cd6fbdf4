// SPDX-License-Identifier: GPL-3.0-or-later

package awskms

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

const (
	// idleTimeout is how long a connection waits for the next call. Until it is
	// closed its buffers hold the last answer.
	idleTimeout = 5 * time.Second
	// maxAnswer bounds an answer, its header included: a data key's has 1 KiB.
	maxAnswer = 64 << 10
)

// A client reads answers on the goroutine of its caller, which is inside
// erase.Do: net/http's reads on others, and what they leave is never erased. Each
// connection has one call at a time (HTTP/1.1).
type client struct {
	dialer net.Dialer
	tls    *tls.Config
	proxy  func(*http.Request) (*url.URL, error) // nil: none

	mu   sync.Mutex
	idle map[string][]*conn // by the address that they were dialled for, the last used one at the end
}

type conn struct {
	net.Conn
	waited chan struct{} // closed when it has waited for the next call
	silent bool          // nothing came meanwhile; valid then
}

// newClient takes proxies and trusted certificates from the SDK's own transport.
func newClient(t *http.Transport) *client {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.TLSClientConfig != nil {
		config = t.TLSClientConfig.Clone()
	}
	config.NextProtos = nil
	return &client{dialer: net.Dialer{Timeout: dialTimeout}, tls: config, proxy: t.Proxy, idle: map[string][]*conn{}}
}

// Do sends a request and reads its answer, whose body is erased when it is closed.
func (c *client) Do(r *http.Request) (*http.Response, error) {
	var via *url.URL
	if c.proxy != nil {
		var err error
		if via, err = c.proxy(r); err != nil {
			return nil, err
		}
		if via != nil && via.Scheme != "http" && via.Scheme != "https" {
			return nil, fmt.Errorf("a proxy of the kind %s is not supported", via.Scheme)
		}
	}
	var request bytes.Buffer
	write := r.Write
	if via != nil && r.URL.Scheme == "http" {
		r = r.Clone(r.Context())
		authorize(r, via)
		write = r.WriteProxy
	}
	if err := write(&request); err != nil {
		return nil, err
	}
	key := fmt.Sprint(r.URL.Scheme, " ", r.URL.Host, " ", via)
	for {
		known := c.take(key)
		conn := known
		if conn == nil {
			var err error
			if conn, err = c.dial(r.Context(), r.URL, via); err != nil {
				return nil, err
			}
		}
		answer, again, err := conn.exchange(r, request.Bytes())
		if err == nil {
			if again {
				c.keep(key, conn)
			} else {
				_ = conn.Close() // it has done its work
			}
			return answer, nil
		}
		_ = conn.Close() // it has failed
		// One that was kept may have been closed by the other end meanwhile.
		if known == nil || r.Context().Err() != nil {
			return nil, err
		}
	}
}

// exchange makes one call. again: the connection can take another.
func (c *conn) exchange(r *http.Request, request []byte) (answer *http.Response, again bool, err error) {
	whole, err := guarded(r.Context(), c, func() error {
		var body []byte
		if answer, body, err = call(c, r, request, io.ReadAll); err != nil { //nolint:bodyclose // it is the connection's
			return err
		}
		again = !answer.Close
		answer.Body = &erased{Reader: bytes.NewReader(body), bytes: body}
		return nil
	})
	return answer, again && whole, err
}

// call sends a request and reads what comes back, of which nothing is left behind
// in the connection.
func call(c net.Conn, r *http.Request, request []byte, read func(io.Reader) ([]byte, error)) (*http.Response, []byte, error) {
	if _, err := c.Write(request); err != nil {
		return nil, nil, err
	}
	buffered := bufio.NewReader(&io.LimitedReader{R: c, N: maxAnswer})
	answer, err := http.ReadResponse(buffered, r)
	for err == nil && answer.StatusCode < http.StatusOK { // it announces another (RFC 9110, 15.2)
		answer, err = http.ReadResponse(buffered, r)
	}
	if err != nil {
		return nil, nil, err
	}
	body, err := read(answer.Body)
	if err == nil && buffered.Buffered() > 0 {
		err = errors.New("more was answered than was asked for")
	}
	return answer, body, err
}

// guarded runs f, whose reads and writes end with ctx. whole: ctx has not touched
// the connection.
func guarded(ctx context.Context, c net.Conn, f func() error) (whole bool, err error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // a closed one needs none
	err = f()
	whole = stop()
	if !whole && err != nil {
		err = errors.Join(ctx.Err(), err)
	}
	return whole, err
}

// erased is a body that is zeroed when it is closed.
type erased struct {
	*bytes.Reader
	bytes []byte
}

func (e *erased) Close() error {
	erase.Zero(e.bytes)
	return nil
}

// take returns a connection that waits; nil: there is none.
func (c *client) take(key string) *conn {
	for {
		c.mu.Lock()
		last := len(c.idle[key]) - 1
		if last < 0 {
			delete(c.idle, key)
			c.mu.Unlock()
			return nil
		}
		k := c.idle[key][last]
		c.idle[key] = c.idle[key][:last]
		c.mu.Unlock()
		_ = k.SetReadDeadline(time.Unix(1, 0)) // a closed one needs none
		<-k.waited
		if k.silent && k.SetReadDeadline(time.Time{}) == nil {
			return k
		}
		_ = k.Close() // what it said is nobody's answer
	}
}

// keep has a connection wait for the next call.
func (c *client) keep(key string, k *conn) {
	if k.SetReadDeadline(time.Now().Add(idleTimeout)) != nil {
		_ = k.Close() // it is of no use
		return
	}
	k.waited = make(chan struct{})
	c.mu.Lock()
	c.idle[key] = append(c.idle[key], k)
	c.mu.Unlock()
	go c.wait(key, k)
}

// wait closes a connection that has waited too long, that the other end closes, or
// that says anything, which would be taken for the next call's answer.
func (c *client) wait(key string, k *conn) {
	var said [1]byte
	erase.Do(func() {
		defer func() { _ = recover() }() // it is closed then: what it said is nobody's answer
		_, err := k.Read(said[:])
		k.silent = errors.Is(err, os.ErrDeadlineExceeded)
	})
	c.mu.Lock()
	if i := slices.Index(c.idle[key], k); i >= 0 { // else it was taken
		c.idle[key] = slices.Delete(c.idle[key], i, i+1)
		_ = k.Close() // nobody uses it
	}
	c.mu.Unlock()
	close(k.waited) // from here on it is another's
}

// dial connects to where a URL leads, by a proxy if there is one.
func (c *client) dial(ctx context.Context, to, via *url.URL) (*conn, error) {
	first := to
	if via != nil {
		first = via
	}
	raw, err := c.dialer.DialContext(ctx, "tcp", address(first))
	if err != nil {
		return nil, err
	}
	connected, err := c.secure(ctx, raw, to, via)
	if err != nil {
		_ = raw.Close() // nothing was done with it
		return nil, err
	}
	return &conn{Conn: connected}, nil
}

// secure passes the proxy and begins TLS, with each as far as it is asked for.
func (c *client) secure(ctx context.Context, raw net.Conn, to, via *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	handshake := func(host string) error {
		config := c.tls.Clone()
		config.ServerName = host
		secured := tls.Client(raw, config)
		raw = secured
		return secured.HandshakeContext(ctx)
	}
	if via != nil && via.Scheme == "https" {
		if err := handshake(via.Hostname()); err != nil {
			return nil, err
		}
	}
	if to.Scheme != "https" {
		return raw, nil
	}
	if via != nil {
		if err := tunnel(ctx, raw, to, via); err != nil {
			return nil, err
		}
	}
	return raw, handshake(to.Hostname())
}

// tunnel asks a proxy for a way to a host (RFC 9110, 9.3.6).
func tunnel(ctx context.Context, raw net.Conn, to, via *url.URL) error {
	r := (&http.Request{
		Method: http.MethodConnect, URL: &url.URL{Opaque: address(to)}, Host: address(to), Header: http.Header{},
	}).WithContext(ctx)
	authorize(r, via)
	var request bytes.Buffer
	if err := r.Write(&request); err != nil {
		return err
	}
	var answer *http.Response
	_, err := guarded(ctx, raw, func() (err error) {
		answer, _, err = call(raw, r, request.Bytes(), func(io.Reader) ([]byte, error) { return nil, nil }) //nolint:bodyclose // what follows is not HTTP
		return err
	})
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("the proxy %s answered %q", via.Host, printable(answer.Status))
	}
	return err
}

// authorize tells a proxy the user and password of its URL.
func authorize(r *http.Request, via *url.URL) {
	if user := via.User; user != nil {
		password, _ := user.Password()
		r.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
}

func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
