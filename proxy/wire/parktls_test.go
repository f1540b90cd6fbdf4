// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"
)

// tlsPair is a Conn over TLS, and its other end.
func tlsPair(t *testing.T) (c *Conn, far *tls.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	near, other := rawPair(t)
	far = tls.Server(other, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	mine := tls.Client(NewSocket(near), &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- far.Handshake() }()
	if err := errors.Join(mine.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	c = NewConn(mine)
	if err := c.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	return c, far
}

// rawPair are two ends of a connection without a Conn.
func rawPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if far, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if near, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// Over TLS as well: a Pump stops, and nothing that was on its way is lost.
func TestParkOverTLS(t *testing.T) {
	c, far := tlsPair(t)
	msg := AppendQuery(nil, "select 1")
	for range 50 {
		r := NewServerReader(c)
		ended := make(chan error, 1)
		go func() { ended <- r.Pump(func() bool { return false }) }()
		c.Park()
		if err := <-ended; !errors.Is(err, ErrParked) {
			t.Fatalf("got %v, want ErrParked", err)
		}
		if _, err := far.Write(msg); err != nil {
			t.Fatal(err)
		}
		if err := r.Fill(); err != nil {
			t.Fatal(err)
		}
		if err := r.Hold(len(msg), len(msg)); err != nil || !bytes.Equal(r.Buffered(), msg) {
			t.Fatalf("got %q, %v", r.Buffered(), err)
		}
		r.Discard(len(msg))
		r.Release()
	}
}

// In the middle of a message a Park waits for the next Pump.
func TestParkOverTLSInAMessage(t *testing.T) {
	c, far := tlsPair(t)
	msg := AppendQuery(nil, "select 1")
	if _, err := far.Write(msg[:HeaderSize]); err != nil {
		t.Fatal(err)
	}
	r := NewServerReader(c)
	held := make(chan error, 1)
	go func() { held <- errors.Join(r.Fill(), r.Hold(len(msg), len(msg))) }()
	c.Park()
	if _, err := far.Write(msg[HeaderSize:]); err != nil {
		t.Fatal(err)
	}
	if err := <-held; err != nil || !bytes.Equal(r.Buffered(), msg) {
		t.Fatalf("got %q, %v", r.Buffered(), err)
	}
	r.Discard(len(msg))
	if err := r.Pump(func() bool { return true }); !errors.Is(err, ErrParked) {
		t.Fatalf("got %v, want ErrParked", err)
	}
}
