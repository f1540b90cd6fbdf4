// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"crypto/tls"
	"io"
	"net/netip"
	"slices"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// Which function it is stands in a message of any language.
func TestUncallable(t *testing.T) {
	for _, tt := range []struct{ code, message, routine, want string }{
		{"42501", "permission denied for function add_token", "aclcheck_error", "add_token"},
		{"42501", "keine Berechtigung für Funktion add_token", "aclcheck_error", "add_token"},
		{"42501", "関数add_tokenへのアクセスが拒否されました", "aclcheck_error", "add_token"},
		{"42501", "permission denied for function my_add_token", "aclcheck_error", ""},
		{"42501", "permission denied for table hidden", "aclcheck_error", ""},
		{"42501", "permission denied for table Xstatus", "aclcheck_error", ""},
		{"42501", "permission denied for table status$", "aclcheck_error", ""},
		{"42501", "permission denied for function add_token", "exec_stmt_raise", ""},
		{"P0001", "permission denied for function add_token", "aclcheck_error", ""},
		{"42501", "permission denied for function add_token", "", ""},
	} {
		msg := wire.AppendFields(nil, wire.ErrorResponse, wire.Field{Code: 'C', Text: tt.code}, wire.Field{Code: 'M', Text: tt.message}, wire.Field{Code: 'R', Text: tt.routine})
		if got := uncallable(msg[wire.HeaderSize:]); got != tt.want {
			t.Errorf("%+v: got %q", tt, got)
		}
	}
}

// uncalled is the server's refusal of a function of the vault's.
func uncalled(function string) []byte {
	return wire.AppendFields(nil, wire.ErrorResponse, wire.Field{Code: 'C', Text: statePrivilege},
		wire.Field{Code: 'M', Text: "permission denied for function " + function}, wire.Field{Code: 'R', Text: "aclcheck_error"})
}

// A refusal is recorded also behind a failed opening, whose client hears nothing of what
// follows, and of a client that has gone.
func TestUncallableUnheard(t *testing.T) {
	sealed := slices.Concat([]byte{0, 1, 'c', 0}, make([]byte, 6), []byte{0, 0, 0x4e, 0x21}, make([]byte, 8)) // of type 20001
	ss, sink, client, server := recordedSession(t, func(ss *session) {
		ss.srv.cfg.TLS, ss.srv.cfg.RequireTLS = &tls.Config{MinVersion: tls.VersionTLS12}, TLSForSecrets
		ss.peer = netip.MustParseAddr("203.0.113.9")
		ss.begin()
	})
	write(t, client, wire.AppendQuery(nil, "select vault.read_secret('a'); select vault.prune_audit(now())"))
	received(t, server)
	write(t, server, wire.AppendMessage(nil, wire.RowDescription, sealed), testRow, testComplete, uncalled("prune_audit"), testReady)
	answered(t, client)
	if got, _ := sink.take(); !slices.Equal(got, []string{"read denied (no_tls) direct statement", "delete denied (grant) direct statement"}) {
		t.Errorf("behind a failed opening: %q", got)
	}

	write(t, client, wire.AppendQuery(nil, "select vault.prune_audit(now())"))
	received(t, server)
	reset(t, client)
	if _, err := io.Copy(io.Discard, server); err != nil {
		t.Fatalf("the server does not see the end: %v", err)
	}
	write(t, server, uncalled("prune_audit"), testReady)
	server.Close()
	isOver(t, ss)
	if got, _ := sink.take(); !slices.Equal(got, []string{"delete denied (grant) direct statement"}) {
		t.Errorf("of a client that has gone: %q", got)
	}
}

// Who asks for a value, or stores one, over a connection that may carry none is refused.
func TestPlainConnectionIsRecorded(t *testing.T) {
	sealed := slices.Concat([]byte{0, 1, 'c', 0}, make([]byte, 6), []byte{0, 0, 0x4e, 0x21}, make([]byte, 8)) // of type 20001
	for _, tt := range []struct {
		sql  string
		rows bool // the server answers, and the node does not pass it on
		want []string
	}{
		{"select vault.read_secret('a')", true, []string{"read denied (no_tls) direct statement"}},
		{"select vault.put_secret('a', 'v')", false, []string{"update denied (no_tls) a direct statement"}},
		{"select vault.verify_secret('a', 'v')", false, []string{"verify denied (no_tls) a direct statement"}},
	} {
		ss, sink, client, server := recordedSession(t, func(ss *session) {
			ss.peer = netip.MustParseAddr("203.0.113.9")
			ss.srv.cfg.TLS, ss.srv.cfg.RequireTLS = &tls.Config{MinVersion: tls.VersionTLS12}, TLSForSecrets
			ss.begin()
		})
		write(t, client, wire.AppendQuery(nil, tt.sql))
		if tt.rows {
			received(t, server)
			write(t, server, wire.AppendMessage(nil, wire.RowDescription, sealed), testRow, testComplete, testReady)
		}
		types, code := answered(t, client)
		sink.checkWhose(t, tt.sql, vault.Actor{Via: vault.ViaSQL, Addr: ss.peer})
		if got, _ := sink.take(); code != stateAuthorization || !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %s %s, recorded %q, want %q", tt.sql, types, code, got, tt.want)
		}
	}
}
