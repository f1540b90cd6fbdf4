// SPDX-License-Identifier: GPL-3.0-or-later

package hostile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

const version30 = 3 << 16

// lying is a startup packet that announces another size than it has.
func lying(size uint32, body string) []byte {
	b := rawpg.Packet(version30, body)
	binary.BigEndian.PutUint32(b, size)
	return b
}

func startup(user string) []byte {
	return rawpg.Startup(version30, "user", user, "database", "app")
}

// message is any message, with the length that it claims.
func message(typ byte, claimed uint32, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{typ}, claimed), body...)
}

// first sends SASLInitialResponse, as any client would begin.
func first(nc net.Conn, user string) error {
	if _, err := nc.Write(startup(user)); err != nil {
		return err
	}
	if _, err := readMessage(bufio.NewReader(nc)); err != nil {
		return err
	}
	hello := "n,,n=,r=0123456789abcdefghijkl"
	body := string(binary.BigEndian.AppendUint32([]byte("SCRAM-SHA-256\x00"), uint32(len(hello)))) + hello //nolint:gosec // a few bytes
	_, err := nc.Write(message('p', uint32(4+len(body)), body))                                            //nolint:gosec // as above
	return err
}

// readMessage reads one message whole.
func readMessage(r io.Reader) (string, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size < 4 || size > 1<<20 {
		return "", fmt.Errorf("a message of %d bytes", size)
	}
	body := make([]byte, size-4)
	_, err := io.ReadFull(r, body)
	return string(head[0]) + string(body), err
}

func halfLogin(_ context.Context, nc net.Conn) error { return first(nc, "nobody") }

// halfTLS sends the beginning of a ClientHello.
func halfTLS(_ context.Context, nc net.Conn) error {
	if _, err := nc.Write(rawpg.Packet(rawpg.CodeSSL, "")); err != nil {
		return err
	}
	if _, err := io.ReadFull(nc, make([]byte, 1)); err != nil {
		return err
	}
	_, err := nc.Write([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3})
	return err
}

// oldTLS offers only what is no longer safe. That the node takes it is the one
// thing that must not happen.
func oldTLS(t Target) func(context.Context, net.Conn, int) error {
	return func(ctx context.Context, nc net.Conn, i int) error {
		if i%2 == 0 {
			_, err := nc.Write([]byte{0x80, 0x2e, 1, 3, 0, 0, 0x15, 0, 0, 0, 0x10}) // SSL 2's hello
			return err
		}
		if _, err := nc.Write(rawpg.Packet(rawpg.CodeSSL, "")); err != nil {
			return err
		}
		if _, err := io.ReadFull(nc, make([]byte, 1)); err != nil {
			return err
		}
		config := t.TLS.Clone()
		config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		if err := tls.Client(nc, config).HandshakeContext(ctx); err != nil {
			return err
		}
		return errTaken
	}
}

// renegotiate has openssl do what Go's client cannot: once at least, however soon it is
// stopped.
func renegotiate(ctx context.Context, t Target) error {
	for {
		out, err := renegotiation(context.WithoutCancel(ctx), t)
		switch begun := bytes.Contains(out, []byte("RENEGOTIATING")); {
		case begun && err == nil:
			return errTaken
		case begun:
			return storm(ctx, t, 1, func(ctx context.Context, nc net.Conn, _ int) error {
				nc.Close() //nolint:errcheck // openssl has its own
				out, err := renegotiation(ctx, t)
				if err == nil && bytes.Contains(out, []byte("RENEGOTIATING")) {
					return errTaken
				}
				return err
			})
		case errors.Is(err, exec.ErrNotFound), !rest(ctx, stormPause):
			return fmt.Errorf("openssl: %w: %s", err, out)
		}
	}
}

// renegotiation is one client of TLS 1.2. The node has to end it, which is an error.
func renegotiation(ctx context.Context, t Target) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", "s_client", "-starttls", "postgres", "-tls1_2", "-bind", from.IP.String()+":0", "-connect", t.Addr) //nolint:gosec // the node's address
	cmd.Stdin = strings.NewReader("R\n")
	return cmd.CombinedOutput()
}

// proofBombs answers the node's challenge with what is none.
func proofBombs(_ context.Context, nc net.Conn, i int) error {
	if err := first(nc, fmt.Sprintf("stranger%d", i%1000)); err != nil {
		return err
	}
	if challenge, err := readMessage(nc); err != nil || len(challenge) < 5 {
		return err
	}
	long := string(bytes.Repeat([]byte{'x'}, 60_000))
	list := [][]byte{
		message('p', 0x7fffffff, long), message('p', 0xffffffff, long), message('p', 4, ""), message('p', 0, ""),
		message('p', 1029, long[:1025]), message('p', 1028, "c=biws,r="+long[:1015]), message('p', 1028, long[:1024]), message('Q', 0x3fffffff, long),
	}
	if _, err := nc.Write(list[i%len(list)]); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, io.LimitReader(nc, 1<<20))
	return err
}

// wrongPassword goes through the whole log-in with a proof that is none.
func wrongPassword(_ context.Context, nc net.Conn, i int) error {
	if err := first(nc, fmt.Sprintf("stranger%d", i%1000)); err != nil {
		return err
	}
	challenge, err := readMessage(nc)
	if err != nil || len(challenge) < 5 {
		return err
	}
	nonce, _, _ := bytes.Cut([]byte(challenge[5:]), []byte(","))
	proof := fmt.Sprintf("c=biws,%s,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", nonce)
	if _, err := nc.Write(message('p', uint32(4+len(proof)), proof)); err != nil { //nolint:gosec // a few bytes
		return err
	}
	_, err = readMessage(nc)
	return err
}

// wrongCancel names backends that may exist, with keys that do not.
func wrongCancel(_ context.Context, nc net.Conn, i int) error {
	key := binary.BigEndian.AppendUint32(nil, uint32(i))                           //nolint:gosec // any number
	if _, err := nc.Write(rawpg.CancelRequest(uint32(i%65536), key)); err != nil { //nolint:gosec // a number below that
		return err
	}
	_, err := io.Copy(io.Discard, nc)
	return err
}

// bombs are first packets, and what follows them, of sizes that are not theirs.
func bombs() func(context.Context, net.Conn, int) error {
	long := func(n int) string { return string(bytes.Repeat([]byte{'x'}, n)) }
	many := string(bytes.Repeat([]byte("a\x00b\x00"), 2490)) + "\x00"
	login := func(then []byte) []byte { return append(startup("nobody"), then...) }
	list := [][]byte{
		lying(0xffffffff, long(100)),
		lying(0x7fffffff, long(100)),
		lying(0, ""),
		lying(7, ""),
		lying(10_001, long(10_000)),
		rawpg.Packet(version30, long(9_900)),
		rawpg.Packet(version30, many),
		rawpg.Packet(version30, "user\x00"+long(9_000)+"\x00\x00"),
		rawpg.Packet(version30+2, "user\x00nobody\x00_pq_."+long(9_000)+"\x00\x00\x00"),
		rawpg.Packet(rawpg.CodeSSL, long(5_000)),
		append(rawpg.Packet(rawpg.CodeSSL, ""), long(60_000)...),
		append(rawpg.Packet(rawpg.CodeGSS, ""), rawpg.Packet(rawpg.CodeGSS, "")...),
		rawpg.Packet(rawpg.CodeCancel, long(5_000)),
		rawpg.Packet(0x12345678, long(9_000)),
		[]byte("GET / HTTP/1.1\r\nHost: " + long(20_000) + "\r\n\r\n"),
		login(message('p', 0x7fffffff, long(60_000))),
		login(message('p', 0xffffffff, long(60_000))),
		login(message('p', 1029, long(1025))),
		login(message('p', 24, "SCRAM-SHA-256\x00\xff\xff\xff\xfe")),
		login(message('p', 18, "SCRAM-SHA-256\x00")),
		login(message('Q', 0x3fffffff, long(60_000))),
		{0x16, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xff},
	}
	return func(_ context.Context, nc net.Conn, i int) error {
		if _, err := nc.Write(list[i%len(list)]); err != nil {
			return err
		}
		if tc, ok := nc.(*net.TCPConn); ok {
			tc.CloseWrite() //nolint:errcheck // the node may have hung up
		}
		_, err := io.Copy(io.Discard, io.LimitReader(nc, 1<<20))
		return err
	}
}
