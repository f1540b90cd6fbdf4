// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// What the extension tells is recorded before anything behind it goes to the client,
// which never sees it.
func TestReports(t *testing.T) {
	many := make([][]byte, 0, 20)
	for range 10 {
		many = append(many, reportMessage("delete ok - 1 5 a"), testRow)
	}
	other := wire.AppendMessage(nil, wire.ParameterStatus, []byte("application_name\x00hyperion_vault.did\x00"))
	refusal := wire.AppendFields(nil, wire.ErrorResponse, wire.Field{Code: 'S', Text: "ERROR"}, wire.Field{Code: 'V', Text: "ERROR"}, wire.Field{Code: 'C', Text: "42501"})
	for _, tt := range []struct {
		name, query string
		answer      [][]byte
		types       string
		want        []string
		calls       int
	}{
		{
			"a change", "select f()",
			[][]byte{testRow, reportMessage("delete ok - 3 4711 app/db"), testComplete, testReady},
			"DCZ",
			[]string{"delete ok app/db v3 change"},
			1,
		},
		{
			"directly", "select vault.delete_secret('app/db')",
			[][]byte{reportMessage("delete ok - 3 4711 app/db"), testComplete, testReady},
			"CZ",
			[]string{"delete ok app/db v3 change direct statement"},
			1,
		},
		{
			"a grant", "select vault.grant_access('app', 'a/*')",
			[][]byte{reportMessage("grant ok - 0 4711 app a/*"), testComplete, testReady},
			"CZ",
			[]string{"grant ok app a/* change direct statement"},
			1,
		},
		{
			"a refusal", "select vault.read_secret('a')",
			[][]byte{reportMessage("read denied denied 0 0 a"), refusal, testReady},
			"EZ",
			[]string{"read denied (grant) a direct statement"},
			1,
		},
		{"many", "select f(x) from t", append(slices.Clone(many), testComplete, testReady), "DDDDDDDDDDCZ", slices.Repeat([]string{"delete ok a v1 change"}, 10), 1},
		{"another parameter", "select f()", [][]byte{other, testComplete, testReady}, "SCZ", nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink, client, server := recordingSession(t)
			write(t, client, wire.AppendQuery(nil, tt.query))
			if _, got := received(t, server); got != tt.query+"\x00" {
				t.Fatalf("the server got %q", got)
			}
			write(t, server, tt.answer...)
			types, _ := answered(t, client)
			got, calls := sink.take()
			if types != tt.types || !slices.Equal(got, tt.want) || calls != tt.calls {
				t.Errorf("the client got %s, recorded in %d calls: %q, want %s, %d, %q", types, calls, got, tt.types, tt.calls, tt.want)
			}
		})
	}
}

// written is how much has been written to a connection.
func written(t *testing.T, c *wire.Conn) uint64 {
	t.Helper()
	sc, ok := c.Net().(syscall.Conn)
	if !ok {
		t.Fatal("no socket")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	if failed := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	return info.Bytes_sent + uint64(info.Notsent_bytes)
}

// Nothing behind a report has left while its record is written, not even what the node
// answers itself; it may stand at the end of what the server has sent so far.
func TestReportComesFirst(t *testing.T) {
	for name, pieces := range map[string][2][]byte{
		"in one": {slices.Concat(reportMessage("delete ok - 3 4711 a"), testComplete, testReady), nil},
		"in two": {reportMessage("delete ok - 3 4711 a"), slices.Concat(testComplete, testReady)},
	} {
		t.Run(name, func(t *testing.T) {
			ss, sink, client, server := recordedSession(t)
			left := make(chan bool, 1)
			sink.mu.Lock()
			sink.before = func() {
				ss.cmu.Lock() // nobody is in the middle of writing to the client
				defer ss.cmu.Unlock()
				left <- written(t, ss.client) > 0
			}
			sink.mu.Unlock()
			write(t, client, wire.AppendQuery(nil, "select f()"))
			received(t, server)
			// Behind it, refused: the node's own answer, which waits for the server's.
			write(t, client, wire.AppendQuery(nil, "select vault.put_secret(lower('a'), 'b')"))
			write(t, server, pieces[0])
			if <-left {
				t.Error("the client had something before the record was written")
			}
			write(t, server, pieces[1])
			if types, _ := answered(t, client); types != "CZ" {
				t.Errorf("the client got %s", types)
			}
			if types, _ := answered(t, client); types != "EZ" {
				t.Errorf("the client got %s in the end", types)
			}
		})
	}
}

// A change that cannot be recorded, and a report that cannot be read, end the session;
// a refusal stands.
func TestReportUnrecorded(t *testing.T) {
	refusal := wire.AppendFields(nil, wire.ErrorResponse, wire.Field{Code: 'S', Text: "ERROR"}, wire.Field{Code: 'V', Text: "ERROR"}, wire.Field{Code: 'C', Text: "42501"})
	for _, tt := range []struct {
		name, report string
		behind       []byte
		err          error
		types, code  string
	}{
		{"a change", "delete ok - 3 4711 a", testComplete, errors.New("full"), "E|", stateIO},
		{"a list", "list ok - 0 0 a", testComplete, errors.New("full"), "E|", stateIO},
		{"a refusal", "read denied denied 0 0 a", refusal, errors.New("full"), "EZ", "42501"},
		{"garbled", "delete ok", testComplete, nil, "E|", stateSystem},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink, client, server := recordingSession(t)
			sink.fail(tt.err)
			write(t, client, wire.AppendQuery(nil, "select f()"))
			received(t, server)
			write(t, server, reportMessage(tt.report), tt.behind, testReady)
			if types, code := answered(t, client); types != tt.types || code != tt.code {
				t.Errorf("the client got %s %s, want %s %s", types, code, tt.types, tt.code)
			}
		})
	}
}

// What was done is recorded though nobody waits for it any more, with all that can be
// read of it, and with what is reported meanwhile.
func TestDoneIsRecorded(t *testing.T) {
	done := reportMessage("delete ok - 1 5 a")
	for name, tt := range map[string]struct {
		said   []byte
		before func(ss *session)
		want   []string
	}{
		"a cancel request": {done, func(ss *session) { ss.cancelRunning(ss.srv.ctx) }, []string{"delete ok a v1 change"}},
		"the session ends": {done, func(ss *session) { ss.end() }, []string{"delete ok a v1 change"}},
		"the node ends":    {done, func(ss *session) { ss.srv.cancel() }, []string{"delete ok a v1 change"}},
		"garbled": {
			slices.Concat(done, reportMessage("delete ok"), reportMessage("list ok - 0 0 b")), func(*session) {},
			[]string{"delete ok a v1 change", "list ok b"},
		},
		"meanwhile": {done, func(ss *session) {
			ss.mu.Lock()
			defer ss.mu.Unlock()
			ss.report(reportMessage("delete ok - 1 6 b")[wire.HeaderSize:])
		}, []string{"delete ok a v1 change", "delete ok b v1 change"}},
	} {
		t.Run(name, func(t *testing.T) {
			ss, sink, client, server := recordedSession(t)
			sink.beforeNext(func() { tt.before(ss) })
			write(t, client, wire.AppendQuery(nil, "select f()"))
			received(t, server)
			write(t, server, tt.said, testComplete, testReady)
			answered(t, client)
			client.Close()
			server.Close()
			isOver(t, ss)
			if got, _ := sink.take(); !slices.Equal(got, tt.want) {
				t.Errorf("recorded %q, want %q", got, tt.want)
			}
		})
	}
}

// A record names who the session is for the server, which its superuser may change.
func TestRecordsNameTheSessionRole(t *testing.T) {
	sink, client, server := recordingSession(t)
	for _, role := range []string{"ann", "bob"} {
		write(t, client, wire.AppendQuery(nil, "select f()"))
		received(t, server)
		write(t, server, wire.AppendMessage(nil, wire.ParameterStatus, []byte("session_authorization\x00"+role+"\x00")), reportMessage("delete ok - 1 5 a"), testComplete, testReady)
		answered(t, client)
		write(t, client, wire.AppendQuery(nil, "select vault.put_secret(lower('a'), 'b')"))
		answered(t, client)
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	var roles []string
	for _, b := range sink.buffers {
		for i := range b {
			roles = append(roles, b[i].SessionRole)
		}
	}
	if want := []string{"ann", "ann", "bob", "bob"}; !slices.Equal(roles, want) {
		t.Errorf("recorded %q, want %q", roles, want)
	}
}

// After SET ROLE it names that role, of which the extension tells the node, and nobody
// else.
func TestRecordsNameTheRole(t *testing.T) {
	sink, client, server := recordingSession(t)
	for _, told := range [][]byte{
		nil,
		wire.AppendMessage(nil, wire.ParameterStatus, []byte(vault.RoleName+"\x00readers\x00")),
		wire.AppendMessage(nil, wire.ParameterStatus, []byte("session_authorization\x00bob\x00")), // it tells again if that is another one
		wire.AppendMessage(nil, wire.ParameterStatus, []byte(vault.RoleName+"\x00bob\x00")),
	} {
		write(t, client, wire.AppendQuery(nil, "select f()"))
		received(t, server)
		write(t, server, told, reportMessage("delete ok - 1 5 a"), testComplete, testReady)
		types, _ := answered(t, client)
		if strings.Contains(types, "S") != strings.HasPrefix(string(told[min(5, len(told)):]), "session") {
			t.Errorf("told %q: the client got %s", told, types)
		}
	}
	sink.mu.Lock()
	defer sink.mu.Unlock()
	var roles []string
	for _, b := range sink.buffers {
		for i := range b {
			roles = append(roles, b[i].SessionRole)
		}
	}
	if want := []string{"", "readers", "readers", "bob"}; !slices.Equal(roles, want) {
		t.Errorf("recorded %q, want %q", roles, want)
	}
}

// A text that calls nothing of the vault's asks it for nothing.
func TestAsksFor(t *testing.T) {
	for _, tt := range []struct {
		plan *rewrite.Plan
		want asked
	}{
		{nil, asked{}},
		{&rewrite.Plan{Executes: []string{"p"}, Fingerprint: 7}, asked{}},
		{&rewrite.Plan{Function: "read_secret", Fingerprint: 7}, asked{action: vault.ActionRead, statement: 7}},
		{&rewrite.Plan{Function: "delete_secret", Fingerprint: 7}, asked{action: vault.ActionDelete, statement: 7}},
	} {
		if got := asksFor(tt.plan, nil); got != tt.want {
			t.Errorf("%+v: got %+v, want %+v", tt.plan, got, tt.want)
		}
	}
}

// What the node refuses is recorded, and once; what is not the vault's is not.
func TestRefusalsAreRecorded(t *testing.T) {
	sink, client, _ := recordingSession(t)
	for _, tt := range []struct {
		query, code string
		want        []string
	}{
		{"select vault.put_secret(lower('a'), 'b')", stateFeature, []string{"update failed (unsupported) direct statement"}},
		{"select vault.create_secret('a b', 'manual', 'v')", stateParameter, []string{"create failed (invalid) direct statement"}},
		{"select vault.rotate_secret('a', 'b' c", "42601", []string{"rotate failed (syntax) direct"}},
		{"select vault.put_secret('a', '')", stateParameter, []string{"update failed (invalid) a direct statement"}},
		{"select vault.put_secret('a', 'v')", stateSystem, []string{"update failed (not_ready) a direct statement"}},
		{"select vault.read_secret('a') = 'x'", stateFeature, []string{"read failed (unsupported) direct statement"}},
		{"select vault.drop_secret('a')", stateNoFunction, []string{"read failed (no_function) direct statement"}},
	} {
		write(t, client, wire.AppendQuery(nil, tt.query))
		types, code := answered(t, client)
		got, _ := sink.take()
		if types != "EZ" || code != tt.code || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %s %s, recorded %q, want %s, %q", tt.query, types, code, got, tt.code, tt.want)
		}
	}
}

// So is a log-in without TLS where nobody may.
func TestPlainLoginIsRecorded(t *testing.T) {
	ss, sink, _, _ := recordedSession(t)
	ss.srv.cfg.TLS, ss.srv.cfg.RequireTLS = &tls.Config{MinVersion: tls.VersionTLS12}, TLSForAll
	far := &session{srv: ss.srv, peer: netip.MustParseAddr("203.0.113.9")}
	err := far.login(t.Context(), nil, &wire.Startup{Params: []wire.Param{{Name: "user", Value: "ann"}}})
	far.noteLogin(err)
	if got, _ := sink.take(); !slices.Equal(got, []string{"login denied (no_tls)"}) {
		t.Errorf("%v: recorded %q", err, got)
	}
}

// A message that is too large to be looked into is recorded, for what it may have been.
func TestUnreadIsRecorded(t *testing.T) {
	sink, client, _ := recordingSession(t)
	write(t, client, binary.BigEndian.AppendUint32([]byte{wire.Query}, 2<<20), make([]byte, 1<<16))
	types, code := answered(t, client)
	if got, _ := sink.take(); types != "E|" || code != stateLimit || !slices.Equal(got, []string{"read failed (limit)"}) {
		t.Errorf("got %s %s, recorded %q", types, code, got)
	}
}

// While no record can be written, nothing that changes something is sent.
func TestNothingChangesUnrecorded(t *testing.T) {
	sink, client, server := recordingSession(t)
	const prepare = "select vault.delete_secret($1)"
	write(t, client, wire.AppendParse(nil, "p", prepare), wire.AppendEmpty(nil, wire.Sync))
	received(t, server)
	received(t, server)
	write(t, server, wire.AppendEmpty(nil, wire.ParseComplete), testReady)
	answered(t, client)
	sink.fail(errors.New("full"))
	for name, msgs := range map[string][]byte{
		"a Query": wire.AppendQuery(nil, "select vault.delete_secret('a')"),
		"a put":   wire.AppendQuery(nil, "select vault.put_secret('a', 'v')"),
		"a Parse": slices.Concat(wire.AppendParse(nil, "", prepare), wire.AppendEmpty(nil, wire.Sync)),
		"a Bind":  slices.Concat(wire.AppendBind(nil, "", "p", []byte("a")), wire.AppendExecute(nil, ""), wire.AppendEmpty(nil, wire.Sync)),
	} {
		write(t, client, msgs)
		if msgs[0] != wire.Query { // the Sync
			if typ, _ := received(t, server); typ != wire.Sync {
				t.Fatalf("%s: the server got %c", name, typ)
			}
			write(t, server, testReady)
		}
		if types, code := answered(t, client); types != "EZ" || code != stateIO {
			t.Errorf("%s: the client got %s %s, want EZ %s", name, types, code, stateIO)
		}
	}
	sink.fail(nil)
	write(t, client, wire.AppendBind(nil, "", "p", []byte("a")), wire.AppendEmpty(nil, wire.Sync))
	if typ, _ := received(t, server); typ != wire.Bind {
		t.Errorf("once records can be written again, the server got %c", typ)
	}
}

func TestReserved(t *testing.T) {
	for _, tt := range []struct {
		field [][]byte
		want  []int64
		ok    bool
	}{
		{[][]byte{nil}, []int64{0, 0}, true}, // an older extension
		{[][]byte{[]byte("[7, 9223372036854775807]")}, []int64{7, 1<<63 - 1}, true},
		{[][]byte{[]byte("[7]")}, nil, false},
		{[][]byte{[]byte("[7, 0]")}, nil, false},
		{[][]byte{[]byte("[7, null]")}, nil, false},
		{[][]byte{[]byte("{}")}, nil, false},
		{nil, nil, false},
	} {
		got, ok := reserved(tt.field, 2)
		if ok != tt.ok || ok && !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %v, %v, want %v, %v", tt.field, got, ok, tt.want, tt.ok)
		}
	}
}
