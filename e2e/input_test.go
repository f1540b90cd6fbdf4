// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// A bystander is a session that must not notice what others send.
type bystander struct {
	*session
	pid    int
	panics float64
}

// standBy logs a bystander in, in the middle of a transaction of its own.
func standBy(t *testing.T) *bystander {
	t.Helper()
	put(t, "input/bystander", "s3cr3t-bystander")
	b := &bystander{session: openSession(t, shared.DSN(0, shared.User)), pid: shared.Nodes[0].PID}
	b.panics = b.internalErrors(t)
	b.must("BEGIN")
	b.must("CREATE TEMP TABLE mine (n int)")
	return b
}

func (b *bystander) internalErrors(t *testing.T) float64 {
	t.Helper()
	return shared.Nodes[0].Metric(t, "hyperion_vault_internal_errors_total")
}

// unharmed sees that the bystander's session, its transaction, and the node's
// process go on, and that nothing in it broke.
func (b *bystander) unharmed(t *testing.T, what string) {
	t.Helper()
	if !shared.Nodes[0].Alive() || shared.Nodes[0].PID != b.pid {
		t.Fatalf("%s: the node's process ended", what)
	}
	a := b.query("INSERT INTO mine VALUES (1); SELECT vault.read_secret('input/bystander')")
	if !slices.Equal(a.rows, []string{"s3cr3t-bystander"}) || a.status != 'T' {
		t.Fatalf("%s: another session was touched: %s", what, a)
	}
	if got := b.internalErrors(t); got != b.panics {
		t.Errorf("%s: internal errors: got %v, want %v", what, got, b.panics)
		b.panics = got
	}
}

// stranger is a connection on which nobody has logged in.
func stranger(t *testing.T) *net.TCPConn { t.Helper(); return strangerFrom(t, nil) }

// strangerFrom is one from an address of its own.
func strangerFrom(t *testing.T, from net.IP) *net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
	conn, err := d.DialContext(t.Context(), "tcp", shared.Nodes[0].Proxy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // it is closed by the node already
	if err := conn.SetDeadline(time.Now().Add(rawpg.Patience)); err != nil {
		t.Fatal(err)
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatal("not a TCP connection")
	}
	return tcp
}

// goodbye writes bytes, ends its direction, and returns all that the node says
// until it closes. That it does not close is a failure.
func goodbye(t *testing.T, what string, conn *net.TCPConn, b []byte) []byte {
	t.Helper()
	defer func() { _ = conn.Close() }() // it is, by the node
	_, _ = conn.Write(b)                // the node may close in the middle of it
	_ = conn.CloseWrite()               // as above
	said, err := io.ReadAll(conn)
	var silence net.Error
	if errors.As(err, &silence) && silence.Timeout() {
		t.Errorf("%s: the connection stays open; it said %.100q", what, said)
	}
	return said
}

// states are the SQLSTATEs of the ErrorResponses among messages; ok says whether
// what the node said is nothing but whole messages.
func states(said []byte) (found []string, ok bool) {
	for len(said) >= 5 {
		size := int(binary.BigEndian.Uint32(said[1:])) + 1
		if size < 5 || size > len(said) {
			return found, false
		}
		if said[0] == 'E' {
			var e pgproto3.ErrorResponse
			if e.Decode(said[5:size]) != nil {
				return found, false
			}
			found = append(found, e.Code)
		}
		said = said[size:]
	}
	return found, len(said) == 0
}

// claim is one with a length word of its own.
func claim(kind byte, length uint32, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, length), body...)
}

// frame is one whose length word is right.
func frame(kind byte, body string) []byte { return claim(kind, uint32(len(body)+4), body) }

const protocol3 = 3 << 16

// hello is the first packet of the cluster's user.
func hello() []byte {
	return rawpg.Startup(protocol3, "user", shared.User, "database", shared.Database)
}

// noise is n bytes that are the same in every run.
func noise(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 3))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.UintN(256))
	}
	return string(b)
}

// TestInputBeforeLogin sends what is no log-in: a FATAL of the right class or
// nothing, then the end. A wrong length is answered by nothing, as by PostgreSQL.
func TestInputBeforeLogin(t *testing.T) {
	other := standBy(t)
	sasl := func(mechanism string, length uint32, data string) []byte {
		return frame('p', mechanism+"\x00"+string(binary.BigEndian.AppendUint32(nil, length))+data)
	}
	first := "n,,n=,r=abcdefghijklmnopqrstuvwx"
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	cases := []struct {
		name  string
		input []byte
		want  string // SQLSTATE; empty: nothing is said; "*": it may be
	}{
		{"nothing", nil, ""},
		{"one byte", []byte{0}, "*"},
		{"half a length word", []byte{0, 0, 0}, "*"},
		{"length 0", []byte{0, 0, 0, 0}, ""},
		{"length 4", []byte{0, 0, 0, 4}, ""},
		{"length 7", []byte{0, 0, 0, 7, 0, 3, 0}, ""},
		{"length 10001", claim(0, 10001, "")[1:], ""},
		{"length 2 GiB", claim(0, 0x7fffffff, "")[1:], ""},
		{"length 4 GiB", claim(0, 0xffffffff, "")[1:], ""},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), ""},
		{"a message in place of the first packet", frame('Q', "SELECT 1\x00"), ""},
		{"zeros", make([]byte, 8192), ""},
		{"TLS without a certificate", []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), ""},
		{"truncated", hello()[:20], "*"},
		{"protocol 4", rawpg.Packet(4<<16, "user\x00app\x00\x00"), "0A000"},
		{"no terminator", rawpg.Packet(protocol3, "user\x00app"), "08P01"},
		{"name without a value", rawpg.Packet(protocol3, "user\x00app\x00database\x00"), "08P01"},
		{"bytes behind the terminator", rawpg.Packet(protocol3, "user\x00app\x00\x00more"), "08P01"},
		{"no user", rawpg.Packet(protocol3, "database\x00app\x00\x00"), "28000"},
		{"no parameters", rawpg.Packet(protocol3, "\x00"), "28000"},
		{"SSLRequest with a tail", rawpg.Packet(rawpg.CodeSSL, "x"), ""},
		{"SSLRequest twice", join(rawpg.Packet(rawpg.CodeSSL, ""), rawpg.Packet(rawpg.CodeSSL, "")), "*"},
		{"cancel with a short key", rawpg.Packet(rawpg.CodeCancel, "\x00\x00\x00\x01\x00"), ""},
		{"cancel with a long key", rawpg.Packet(rawpg.CodeCancel, strings.Repeat("k", 300)), ""},
		{"cancel of nobody", rawpg.Packet(rawpg.CodeCancel, "\x00\x00\x00\x01\x00\x00\x00\x01"), ""},
		{"a query before the password", join(hello(), frame('Q', "SELECT 1\x00")), "08P01"},
		{"Terminate before the password", join(hello(), frame('X', "")), "*"},
		{"an unknown message", join(hello(), frame('~', "")), "08P01"},
		{"password of 2 GiB", join(hello(), claim('p', 0x7fffffff, "")), "08P01"},
		{"password of length 3", join(hello(), claim('p', 3, "")), "08P01"},
		{"SASL of 2 KB", join(hello(), frame('p', strings.Repeat("a", 2048))), "28P01"},
		{"an ordinary password", join(hello(), frame('p', "password\x00")), "08P01"},
		{"an empty password", join(hello(), frame('p', "")), "08P01"},
		{"SASL that ends behind the mechanism", join(hello(), frame('p', "SCRAM-SHA-256\x00")), "08P01"},
		{"SASL without a mechanism's end", join(hello(), frame('p', "SCRAM-SHA-256")), "08P01"},
		{"unknown mechanism", join(hello(), sasl("PLAIN", uint32(len(first)), first)), "08P01"},
		{"mechanism not offered", join(hello(), sasl("SCRAM-SHA-256-PLUS", uint32(len(first)), first)), "08P01"},
		{"SASL longer than it is", join(hello(), sasl("SCRAM-SHA-256", 0x7fffffff, first)), "08P01"},
		{"SASL of length -2", join(hello(), sasl("SCRAM-SHA-256", 0xfffffffe, first)), "08P01"},
		{"SASL shorter than it is", join(hello(), sasl("SCRAM-SHA-256", 3, first)), "08P01"},
		{"SCRAM that is noise", join(hello(), sasl("SCRAM-SHA-256", 64, noise(1, 64))), "08P01"},
		{"SCRAM with an identity", join(hello(), sasl("SCRAM-SHA-256", 33, "n,a=root,n=,r=abcdefghijklmnopqrst"[:33])), "0A000"},
		{"SCRAM, then a query", join(hello(), sasl("SCRAM-SHA-256", uint32(len(first)), first), frame('Q', "SELECT 1\x00")), "08P01"},
		{"SCRAM, then its beginning again", join(hello(), sasl("SCRAM-SHA-256", uint32(len(first)), first), sasl("SCRAM-SHA-256", uint32(len(first)), first)), "08P01"},
		{"SCRAM, then noise", join(hello(), sasl("SCRAM-SHA-256", uint32(len(first)), first), frame('p', noise(2, 100))), "08P01"},
		{"SCRAM, then another nonce", join(hello(), sasl("SCRAM-SHA-256", uint32(len(first)), first), frame('p', "c=biws,r=other,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")), "08P01"},
	}
	for _, c := range cases {
		said := goodbye(t, c.name, stranger(t), c.input)
		got, ok := states(bytes.TrimLeft(said, "NS")) // the answers of encryption requests
		if !ok {
			t.Errorf("%s: the node said %.100q", c.name, said)
		}
		if bytes.Contains(said, frame('R', "\x00\x00\x00\x00")) {
			t.Errorf("%s: logged in", c.name)
		}
		switch {
		case c.want == "*" && len(got) <= 1, c.want == "" && len(said) == 0:
		case c.want == "" || len(got) != 1 || got[0] != c.want:
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		other.unharmed(t, c.name)
	}
	for seed := range uint64(20) {
		for _, input := range [][]byte{[]byte(noise(seed, 512)), join(hello(), []byte(noise(seed, 512)))} {
			if said := goodbye(t, "noise", stranger(t), input); bytes.Contains(said, frame('R', "\x00\x00\x00\x00")) {
				t.Errorf("noise %d: logged in", seed)
			}
		}
	}
	other.unharmed(t, "noise")
}

// TestHealthChecks: who connects and goes without a byte is answered by nothing, and
// the node says nothing of it, whatever its log's level.
func TestHealthChecks(t *testing.T) {
	node := shared.Nodes[0]
	told := func() string {
		text, err := os.ReadFile(node.Log)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const checks = 30
	checker := net.IPv4(127, 0, 0, 77)
	before := len(told())
	for range checks {
		if said := goodbye(t, "nothing", strangerFrom(t, checker), nil); len(said) > 0 {
			t.Errorf("answered %q", said)
		}
	}
	// A line that is the test's own: the checks' would be there by then.
	nobody := rawpg.Over(strangerFrom(t, checker))
	if err := nobody.Write(rawpg.Startup(protocol3, "user", "health_nobody", "database", shared.Database)); err != nil {
		t.Fatal(err)
	}
	if _, err := nobody.LogIn(&rawpg.Scram{Password: "x"}); err == nil {
		t.Fatal("logged in as nobody")
	}
	const own = `"role":"health_nobody"`
	var after string
	cluster.Eventually(t, "a line of the log", func() bool {
		after = told()[before:]
		return strings.Contains(after, own)
	})
	if n := strings.Count(after, "\n"); n > checks/3 { // a few may be of something else
		t.Errorf("%d lines for %d checks:\n%.1000s", n, checks, after)
	}
	for line := range strings.Lines(after) {
		switch whose := strings.Contains(line, checker.String()); {
		case strings.Contains(line, own) && !whose:
			t.Errorf("a line does not say whose it is: %s", line)
		case whose && !strings.Contains(line, own):
			t.Errorf("a line for a check: %s", line)
		}
	}
}

// loggedIn is a session whose bytes are the test's own.
func loggedIn(t *testing.T) *net.TCPConn {
	t.Helper()
	c := dial(t, shared.DSN(0, shared.User))
	if err := c.Net.SetDeadline(time.Now().Add(rawpg.Patience)); err != nil {
		t.Fatal(err)
	}
	tcp, ok := c.Net.(*net.TCPConn)
	if !ok {
		t.Fatal("not a TCP connection")
	}
	return tcp
}

// TestBrokenFrames sends frames that cannot be: FATAL 08P01 for a type that does
// not exist, nothing for a length, as from PostgreSQL, and the end.
func TestBrokenFrames(t *testing.T) {
	other := standBy(t)
	known := "QPBDECHSXFdcf"
	check := func(what string, input []byte, want ...string) {
		t.Helper()
		// What follows must not be looked at.
		said := goodbye(t, what, loggedIn(t), append(input, frame('Q', "SELECT 'looked at'\x00")...))
		got, ok := states(said)
		if !ok || !slices.Equal(got, want) || bytes.Contains(said, []byte("looked at")) {
			t.Errorf("%s: got %q, want %q: %.200q", what, got, want, said)
		}
	}
	for kind := range 256 {
		if kind%17 == 0 && !strings.ContainsRune(known, rune(kind)) || kind == 'p' {
			check("message type "+strconv.Itoa(kind), frame(byte(kind), ""), "08P01")
		}
	}
	for _, kind := range known {
		for _, length := range []uint32{3, 0x40000003, 0x7fffffff, 0xffffffff} {
			check(string(kind)+" of length "+strconv.FormatUint(uint64(length), 16), claim(byte(kind), length, ""))
		}
		if strings.ContainsRune("DECHSXcf", kind) {
			check(string(kind)+" over-long", claim(byte(kind), 10005, strings.Repeat("x", 10001)))
		}
	}
	other.unharmed(t, "broken frames")
	// Cut off in the middle: the session ends with the connection.
	for _, kind := range known {
		said := goodbye(t, "cut", loggedIn(t), claim(byte(kind), 1000, "SELECT vault.put_secret("))
		if got, ok := states(said); !ok || len(got) > 1 {
			t.Errorf("%c cut off: got %q", kind, said)
		}
	}
	other.unharmed(t, "messages cut off")
}

// TestBrokenBodies sends frames that are right and hold what is not. The session
// ends with one FATAL, or goes on after Sync as if nothing had been.
func TestBrokenBodies(t *testing.T) {
	other := standBy(t)
	put := "SELECT vault.put_secret($1, $2)"
	parsed := string(frame('P', "v\x00"+put+"\x00\x00\x00")) + string(frame('P', "u\x00SELECT $1::text\x00\x00\x00"))
	cases := map[string]string{}
	for _, kind := range "QPBDECF" {
		cases[string(kind)+" without a body"] = string(frame(byte(kind), ""))
		cases[string(kind)+" of one zero"] = string(frame(byte(kind), "\x00"))
		cases[string(kind)+" of noise"] = string(frame(byte(kind), noise(uint64(kind), 64)))
		cases[string(kind)+" without a zero"] = string(frame(byte(kind), "select vault.read_secret"))
	}
	for _, name := range []string{"u", "v"} {
		bind := func(rest string) string { return string(frame('B', "\x00"+name+"\x00"+rest)) }
		one := map[string]string{"u": "\x00\x01", "v": "\x00\x02"}[name]
		first := map[string]string{"u": "", "v": "\x00\x00\x00\x01n"}[name]
		for what, rest := range map[string]string{
			"no counts":           "",
			"half a count":        "\x00",
			"65535 formats":       "\xff\xff",
			"65535 parameters":    "\x00\x00\xff\xff",
			"length -2":           "\x00\x00" + one + first + "\xff\xff\xff\xfe\x00\x00",
			"length 2 GiB":        "\x00\x00" + one + first + "\x7f\xff\xff\xff\x00\x00",
			"length behind":       "\x00\x00" + one + first + "\x00\x00\x00\x10abc\x00\x00",
			"no result formats":   "\x00\x00" + one + first + "\x00\x00\x00\x01a",
			"65535 results":       "\x00\x00" + one + first + "\x00\x00\x00\x01a\xff\xff",
			"trailing bytes":      "\x00\x00" + one + first + "\x00\x00\x00\x01a\x00\x00more",
			"too few parameters":  "\x00\x00\x00\x00\x00\x00",
			"too many parameters": "\x00\x00\x00\x03" + strings.Repeat("\x00\x00\x00\x01a", 3) + "\x00\x00",
			"format 7":            "\x00\x01\x00\x07" + one + first + "\x00\x00\x00\x01a\x00\x00",
			"three formats":       "\x00\x03\x00\x00\x00\x00\x00\x00" + one + first + "\x00\x00\x00\x01a\x00\x00",
			"NULL":                "\x00\x00" + one + first + "\xff\xff\xff\xff\x00\x00",
			"NULL name":           "\x00\x00" + one + strings.Replace(first, "\x00\x00\x00\x01n", "\xff\xff\xff\xff", 1) + "\x00\x00\x00\x01a\x00\x00",
		} {
			cases["Bind of "+name+", "+what] = parsed + bind(rest) + string(frame('E', "\x00\x00\x00\x00\x00"))
		}
	}
	for what, body := range map[string]string{
		"no count":         "\x00" + put + "\x00",
		"half a count":     "\x00" + put + "\x00\x00",
		"65535 types":      "\x00" + put + "\x00\xff\xff",
		"one type too few": "\x00" + put + "\x00\x00\x02\x00\x00\x00\x19",
		"trailing bytes":   "\x00" + put + "\x00\x00\x00more",
		"no text":          "vault.put_secret\x00",
		"a zero within":    "\x00SELECT vault.put_secret('n', 'a\x00b')\x00\x00\x00",
		"two statements":   "\x00SELECT vault.read_secret('n'); SELECT 1\x00\x00\x00",
		"a long name":      strings.Repeat("n", 9000) + "\x00" + put + "\x00\x00\x00",
	} {
		cases["Parse, "+what] = string(frame('P', body))
	}
	cases["Query with a zero"] = string(frame('Q', "SELECT vault.put_secret('n', 'a\x00b')\x00"))
	cases["Query that is not UTF-8"] = string(frame('Q', "SELECT vault.put_secret('n', '\xff')\x00"))
	cases["Query without a zero"] = string(frame('Q', "SELECT vault.put_secret('n', 'a')"))
	cases["Describe of X"] = string(frame('D', "Xname\x00"))
	cases["Close of X"] = string(frame('C', "Xname\x00"))
	cases["Execute without a limit"] = string(frame('E', "\x00"))
	cases["Execute with a negative limit"] = string(frame('E', "\x00\xff\xff\xff\xff"))
	cases["FunctionCall with a NULL"] = string(frame('F', "\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xff\x00\x00"))
	cases["FunctionCall with length -2"] = string(frame('F', "\x00\x00\x00\x01\x00\x00\x00\x01\xff\xff\xff\xfe\x00\x00"))
	cases["Sync with a body"] = string(frame('S', "body"))
	cases["Flush with a body"] = string(frame('H', "body"))
	for what, input := range cases {
		orderly(t, what, []byte(input))
		other.unharmed(t, what)
	}
}

// orderly sends bytes and a Sync: the session must end with at most one FATAL as
// its last word, or answer, and then work as before.
func orderly(t *testing.T, what string, input []byte) {
	t.Helper()
	s := openSession(t, shared.DSN(0, shared.User))
	defer func() { _ = s.Close() }() // the node may have
	if err := s.Write(append(input, frame('S', "")...)); err != nil {
		t.Logf("%s: %v", what, err)
	}
	// As many ReadyForQuery come as messages that end something; the question behind tells where it ends.
	question := frame('Q', "ROLLBACK; SELECT 'the question'\x00")
	if err := s.Write(question); err != nil {
		t.Logf("%s: %v", what, err)
	}
	for {
		a := s.read()
		for _, e := range a.errors[:max(0, len(a.errors)-1)] {
			if e.Severity == "FATAL" {
				t.Errorf("%s: a FATAL that ends nothing: %s", what, a)
			}
		}
		switch {
		case a.status == 0 && len(a.errors) > 0 && a.errors[len(a.errors)-1].Severity == "FATAL":
			return
		case a.status == 0:
			t.Errorf("%s: the session ended without a word: %s", what, a)
			return
		case slices.Equal(a.rows, []string{"the question"}):
			if a.status != 'I' {
				t.Errorf("%s: got status %q, want I", what, a.status)
			}
			return
		}
	}
}

// TestOutOfOrder sends messages that are right at a time that is not.
func TestOutOfOrder(t *testing.T) {
	other := standBy(t)
	value := "s3cr3t-out-of-order"
	encode := func(messages ...pgproto3.FrontendMessage) []byte {
		b, err := rawpg.Encode(messages...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	putParse := rawpg.Parse("p", "SELECT vault.put_secret($1, $2)")
	cases := map[string][]byte{
		"Bind of nothing":                encode(rawpg.Bind("", "nothing", "a", value)),
		"Execute of nothing":             encode(rawpg.Execute("nothing", 0)),
		"Describe of nothing":            encode(rawpg.DescribeStatement("nothing"), rawpg.DescribePortal("nothing")),
		"Close of nothing":               encode(rawpg.CloseStatement("nothing"), rawpg.ClosePortal("nothing")),
		"Execute before Bind":            encode(putParse, rawpg.Execute("", 0)),
		"Bind before Parse":              encode(rawpg.Bind("", "p", "input/order", value), putParse),
		"Parse twice":                    encode(putParse, putParse, rawpg.Bind("", "p", "input/order", value)),
		"Bind twice":                     encode(putParse, rawpg.Bind("q", "p", "input/order", value), rawpg.Bind("q", "p", "input/order", value)),
		"a Query within a batch":         encode(putParse, rawpg.Bind("", "p", "input/order", value), rawpg.Query("SELECT vault.put_secret('input/order', '"+value+"')")),
		"a Query behind a failure":       encode(rawpg.Execute("nothing", 0), rawpg.Query("SELECT vault.put_secret('input/order', '"+value+"')")),
		"a put behind a failure":         encode(rawpg.Execute("nothing", 0), putParse, rawpg.Bind("", "p", "input/order", value), rawpg.Execute("", 0)),
		"Close of what is bound":         encode(putParse, rawpg.Bind("q", "p", "input/order", value), rawpg.CloseStatement("p"), rawpg.Execute("q", 0)),
		"many Syncs":                     bytes.Repeat(frame('S', ""), 1000),
		"many Flushes":                   bytes.Repeat(frame('H', ""), 1000),
		"CopyData without a COPY":        encode(&pgproto3.CopyData{Data: []byte("1\n")}, &pgproto3.CopyDone{}),
		"CopyFail without a COPY":        encode(&pgproto3.CopyFail{Message: "no"}),
		"a password":                     frame('p', "password\x00"),
		"a first packet":                 hello(),
		"SSLRequest":                     rawpg.Packet(rawpg.CodeSSL, ""),
		"put, then Execute twice":        encode(putParse, rawpg.Bind("", "p", "input/order", value), rawpg.Execute("", 0), rawpg.Execute("", 0)),
		"put within COPY":                encode(rawpg.Query("BEGIN; CREATE TEMP TABLE c (v text) ON COMMIT DROP; COPY c FROM STDIN"), rawpg.Query("SELECT vault.put_secret('input/order', '"+value+"')")),
		"put within COPY, extended":      encode(rawpg.Query("BEGIN; CREATE TEMP TABLE c (v text) ON COMMIT DROP; COPY c FROM STDIN"), putParse, rawpg.Bind("", "p", "input/order", value), rawpg.Execute("", 0), &pgproto3.CopyFail{Message: "no"}),
		"everything behind Terminate":    append(frame('X', ""), encode(rawpg.Query("SELECT vault.put_secret('input/order', '"+value+"')"))...),
		"Describe of what is not parsed": encode(rawpg.Parse("", "SELECT vault.put_secret($1, $2) FROM nowhere"), rawpg.DescribeStatement(""), rawpg.Bind("", "", "input/order", value)),
	}
	for what, input := range cases {
		if what == "everything behind Terminate" {
			if said := goodbye(t, what, loggedIn(t), input); len(said) > 0 {
				t.Errorf("%s: got %q, want nothing", what, said)
			}
		} else {
			orderly(t, what, input)
		}
		other.unharmed(t, what)
	}
	// Any order at all, of messages each of which is right.
	pool := []pgproto3.FrontendMessage{
		putParse, rawpg.Bind("", "p", "input/order", value), rawpg.Bind("q", "p", "input/order", value), rawpg.Execute("", 0), rawpg.Execute("q", 1),
		rawpg.Parse("", "SELECT vault.read_secret('input/bystander') FROM generate_series(1, 3)"), rawpg.Bind("", ""), rawpg.DescribePortal(""), rawpg.DescribeStatement("p"),
		rawpg.Parse("", "SELECT 1/0"), rawpg.Parse("", "SELECT vault.putsecret($1, $2)"), rawpg.CloseStatement("p"), rawpg.ClosePortal("q"), rawpg.Sync(), rawpg.Flush(),
		rawpg.Query("BEGIN"), rawpg.Query("SELECT vault.put_secret('input/order', '" + value + "')"), rawpg.Query("ROLLBACK"), rawpg.Query("SELECT 1/0"),
		rawpg.Query("SELECT vault.read_secret('input/bystander')"), rawpg.Query(""), rawpg.Query("DISCARD ALL"),
	}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 4))
		var input []byte
		for range 15 {
			input = append(input, encode(pool[r.IntN(len(pool))])...)
		}
		orderly(t, "order "+strconv.FormatUint(seed, 10), input)
	}
	other.unharmed(t, "any order")
}

// TestClaimedLengths claims 2 GiB and 1 GiB on many connections at once: the
// node must not take memory for what has not come.
func TestClaimedLengths(t *testing.T) {
	other := standBy(t)
	node := shared.Nodes[0]
	resident, virtual := node.Resident(t), node.Virtual(t)
	answered := func(conn *net.TCPConn, state string) {
		t.Helper()
		said := make([]byte, 4096)
		n, err := io.ReadAtLeast(conn, said, 1)
		for err == nil && !bytes.Contains(said[:n], []byte("C"+state+"\x00")) {
			var more int
			more, err = conn.Read(said[n:])
			n += more
		}
		if err != nil {
			t.Errorf("got %q (%v), want %s", said[:n], err, state)
		}
	}
	var open []*net.TCPConn
	for range 100 {
		conn := stranger(t)
		if _, err := conn.Write(append(hello(), claim('p', 0x7fffffff, "SCRAM")...)); err != nil {
			t.Logf("write: %v", err)
		}
		answered(conn, "08P01")
		open = append(open, conn)
	}
	const most = 0x3ffffffe // the largest length word: 1 GiB - 2
	for i := range 24 {
		conn := loggedIn(t)
		body := []string{"SELECT vault.put_secret('n', '", "\x00SELECT vault.put_secret($1, $2)", "\x00v\x00\x00\x00", "\x00\x00\x00\x01"}[i%4]
		if _, err := conn.Write(claim("QPBF"[i%4], most, body)); err != nil {
			t.Logf("write: %v", err)
		}
		if i%4 < 2 { // the others only pass through
			answered(conn, "54000")
		}
		open = append(open, conn)
	}
	other.unharmed(t, "claimed lengths")
	if grown := node.Resident(t) - resident; grown > 32<<20 {
		t.Errorf("%d connections: the node grew by %d MB, want at most 32", len(open), grown>>20)
	}
	// Threads reserve some; one claim that was believed is more than that.
	if grown := node.Virtual(t) - virtual; grown > 1<<30 {
		t.Errorf("%d connections: the node's address space grew by %d MB", len(open), grown>>20)
	}
	for _, conn := range open {
		_ = conn.Close() // the node may have
	}
	other.unharmed(t, "claimed lengths, closed")
}

// TestManyParameters uses all that a Bind can have.
func TestManyParameters(t *testing.T) {
	other := standBy(t)
	const most = 65535
	s := openSession(t, shared.DSN(0, shared.User))
	types, values := make([]uint32, most), make([]string, most)
	for i := range types {
		types[i], values[i] = 25, ""
	}
	values[0], values[most-1] = "input/parameters", "s3cr3t-parameters"
	a := s.do(rawpg.Parse("", "SELECT vault.put_secret($1, $65535)", types...), rawpg.DescribeStatement(""), rawpg.Bind("", "", values...), rawpg.Execute("", 0), rawpg.Sync())
	if !slices.Equal(a.rows, []string{"1"}) || a.status != 'I' {
		t.Errorf("%d parameters: %s", most, a)
	}
	// A literal value takes one more.
	a = s.do(rawpg.Parse("", "SELECT vault.put_secret($1, 'literal')", types...), rawpg.Bind("", "", values...), rawpg.Execute("", 0), rawpg.Sync())
	if len(a.errors) != 1 || a.errors[0].Code != "54000" || a.status != 'I' {
		t.Errorf("%d parameters and a literal: got %s, want 54000", most, a)
	}
	if got := s.must("SELECT vault.read_secret('input/parameters')"); !slices.Equal(got, []string{"s3cr3t-parameters"}) {
		t.Errorf("got %q", got)
	}
	other.unharmed(t, "many parameters")
}

// TestHugeStatements sends what crashes a parser that recurses. The node refuses
// it, or the server does.
func TestHugeStatements(t *testing.T) {
	other := standBy(t)
	s := openSession(t, shared.DSN(0, shared.User))
	const call = "SELECT vault.put_secret('input/huge', 's3cr3t-huge')"
	type statement struct{ what, sql, want string }
	statements := []statement{
		{"25,000 terms", call + ", 1" + strings.Repeat("+1", 25000), "54001"},
		{"25,000 terms beside a read", "SELECT vault.read_secret('input/bystander'), 1" + strings.Repeat("+1", 25000), "54001"},
		{"2,000 calls", call + strings.Repeat(", vault.put_secret('input/huge', 's3cr3t-huge')", 2000), "54000"},
		{"100,000 pieces", "SELECT vault.put_secret('input/huge', 'a'" + strings.Repeat("\n'a'", 100000) + ")", ""},
		// The server's own scanner takes time that grows with the square of them.
		{"2,000 comments", call + strings.Repeat("/*", 2000) + strings.Repeat("*/", 2000) + " FROM nowhere", "42P01"},
	}
	// The second is beyond every bound, the first just deep.
	for _, n := range []int{12000, 100000} {
		deep := func(what, sql string) {
			statements = append(statements, statement{strconv.Itoa(n) + " " + what, call + sql, "54001"})
		}
		many := func(s string) string { return strings.Repeat(s, n) }
		deep("unions", many(" UNION ALL SELECT 1"))
		deep("parentheses", ", "+many("(")+"1"+many(")"))
		deep("open parentheses", ", "+many("("))
		deep("NOTs", ", "+many("NOT ")+"true")
		deep("brackets", ", "+many("ARRAY[")+many("]"))
		deep("cases", ", "+many("CASE WHEN true THEN ")+"1"+many(" END"))
		deep("casts", ", 1"+many("::int"))
		deep("signs", ", "+many("- ")+"1")
		deep("joins", " FROM t"+many(" JOIN t ON true"))
		deep("nested selects", many(", (SELECT 1")+many(")"))
	}
	for _, one := range statements {
		for _, extended := range []bool{false, true} {
			var a answer
			if extended {
				a = s.do(batch(one.sql)...)
			} else {
				a = s.query(one.sql)
			}
			got := ""
			for _, e := range a.errors {
				got += e.Code
			}
			if got != one.want || a.status != 'I' {
				t.Errorf("%s, extended %t: got %q, want %q: %.300s", one.what, extended, got, one.want, a)
			}
			other.unharmed(t, one.what)
			if a.status == 0 {
				t.Fatalf("%s, extended %t: the session ended", one.what, extended)
			}
		}
	}
}

// TestHugeText sends more text than the node holds: refused while it comes, not
// collected.
func TestHugeText(t *testing.T) {
	other := standBy(t)
	node := shared.Nodes[0]
	before := node.Resident(t)
	const size = 300 << 20 // VAULT_MAX_QUERY_BYTES is 64 MiB
	conn := loggedIn(t)
	text := "SELECT vault.put_secret('input/text', '"
	go func() {
		// What the node does not read must not stop the test.
		_, _ = conn.Write(claim('Q', size, text))
		piece := []byte(strings.Repeat("x", 1<<20))
		for range size >> 20 {
			if _, err := conn.Write(piece); err != nil {
				return
			}
		}
	}()
	said := make([]byte, 1024)
	n, err := io.ReadAtLeast(conn, said, 5)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	if !bytes.Contains(said[:n], []byte("54000")) {
		t.Errorf("got %q, want 54000", said[:n])
	}
	_ = conn.Close() // the writer ends by it
	other.unharmed(t, "a huge text")
	if grown := node.Resident(t) - before; grown > 160<<20 {
		t.Errorf("the node grew by %d MB for a text of %d MB that it does not take", grown>>20, size>>20)
	}
}
