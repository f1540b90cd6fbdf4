// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Nothing of libpq's environment may reach the service role's connections.
func TestServiceConfigIgnoresEnvironment(t *testing.T) {
	for k, val := range map[string]string{
		"PGHOST": "evil.example", "PGPORT": "1", "PGUSER": "evil", "PGPASSWORD": "evil", "PGDATABASE": "evil",
		"PGOPTIONS": "-c search_path=evil", "PGAPPNAME": "evil", "PGSSLMODE": "disable", "PGREQUIREAUTH": "none",
		"PGCHANNELBINDING": "disable", "PGTARGETSESSIONATTRS": "standby", "PGTZ": "evil",
	} {
		t.Setenv(k, val)
	}
	c := Config{User: `o'brien\`, Password: `p'w\`, Database: "a b"}
	cc, err := serviceConfig(c, Server{"tcp", "127.0.0.1:5433"})
	if err != nil {
		t.Fatal(err)
	}
	if cc.Host != "127.0.0.1" || cc.Port != 5433 || cc.User != c.User || cc.Password != c.Password || cc.Database != c.Database {
		t.Errorf("connects as %q to %q on %s:%d", cc.User, cc.Database, cc.Host, cc.Port)
	}
	if cc.RequireAuth != "scram-sha-256" || cc.ValidateConnect != nil {
		t.Errorf("require_auth %q", cc.RequireAuth)
	}
	params := make([]string, 0, len(cc.RuntimeParams))
	for k, val := range cc.RuntimeParams {
		params = append(params, k)
		if strings.Contains(val, "evil") {
			t.Errorf("%s = %s", k, val)
		}
	}
	slices.Sort(params)
	if want := "application_name client_encoding default_transaction_isolation hyperion_vault.client_addr idle_in_transaction_session_timeout search_path statement_timeout"; strings.Join(params, " ") != want {
		t.Errorf("parameters %v, want %s", params, want)
	}
	if cc.RuntimeParams["search_path"] != "pg_catalog, pg_temp" {
		t.Errorf("search_path %q", cc.RuntimeParams["search_path"])
	}
}

// What is not on this host is verified, or bound to its certificate.
func TestServiceConfigTLS(t *testing.T) {
	for _, tc := range []struct {
		addr, mode            string
		tls, verified, clear  bool
		binding, requiredAuth string
	}{
		{"127.0.0.1:5432", "", true, false, true, "prefer", "scram-sha-256"},
		{"localhost:5432", "", true, false, true, "prefer", "scram-sha-256"},
		{"[::1]:5432", "disable", false, false, true, "prefer", "scram-sha-256"},
		{"db.example:5432", "", true, true, false, "prefer", "scram-sha-256"},
		{"10.0.0.1:5432", "require", true, false, false, "require", "scram-sha-256"},
		{"10.0.0.1:5432", "verify-ca", true, false, false, "require", "scram-sha-256"}, // any host's certificate would do
		{"10.0.0.1:5432", "disable", false, false, true, "require", "scram-sha-256"},   // cannot be bound: refused
	} {
		cc, err := serviceConfig(Config{User: "u", Database: "d", SSLMode: tc.mode}, Server{"tcp", tc.addr})
		if err != nil {
			t.Fatal(err)
		}
		clearToo := cc.TLSConfig == nil || slices.ContainsFunc(cc.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.TLSConfig == nil })
		verified := cc.TLSConfig != nil && !cc.TLSConfig.InsecureSkipVerify
		if (cc.TLSConfig != nil) != tc.tls || verified != tc.verified || clearToo != tc.clear || cc.ChannelBinding != tc.binding || cc.RequireAuth != tc.requiredAuth {
			t.Errorf("%s %q: tls %v, verified %v, clear %v, binding %s, auth %s", tc.addr, tc.mode, cc.TLSConfig != nil, verified, clearToo, cc.ChannelBinding, cc.RequireAuth)
		}
	}
	for _, tc := range []struct {
		at   Server
		mode string
		want string
	}{
		{Server{"unix", "/run/x/.s.PGSQL.5433"}, "", "scram-sha-256,none"},
		{Server{"tcp", "127.0.0.1:5432"}, "disable", "scram-sha-256,none"},
		{Server{"tcp", "10.0.0.1:5432"}, "verify-full", "scram-sha-256,none"},
		{Server{"tcp", "10.0.0.1:5432"}, "verify-ca", "scram-sha-256"}, // as for sessions
		{Server{"tcp", "10.0.0.1:5432"}, "require", "scram-sha-256"},
	} {
		cc, err := serviceConfig(Config{User: "u", Database: "d", SSLMode: tc.mode, AllowTrust: true}, tc.at)
		if err != nil || cc.RequireAuth != tc.want || tc.at.Network == "unix" && cc.TLSConfig != nil {
			t.Errorf("trust, %s %q: %+v, %v", tc.at.Addr, tc.mode, cc, err)
		}
	}
}

// A server that is down is an error at once, not at New.
func TestServerDown(t *testing.T) {
	v, _, _ := newTestVault(t, func(c *Config, _ *testKMS) { c.Hosts = []Server{c.Local} })
	start := time.Now()
	_, _, err := v.LoginVerifier(t.Context(), "alice")
	wantKind(t, err, KindServer)
	if KindOf(err).SQLState() != "57P03" {
		t.Errorf("SQLSTATE %s", KindOf(err).SQLState())
	}
	_, err = v.Status(t.Context())
	wantKind(t, err, KindServer)
	if _, err := v.Primary(t.Context()); !errors.Is(err, ErrNoPrimary) {
		t.Errorf("Primary: %v, want ErrNoPrimary", err)
	}
	if hint := v.PrimaryHint(t.Context()); !strings.Contains(hint, "VAULT_PG_HOSTS") {
		t.Errorf("hint %q", hint)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	if _, found, err := v.LoginVerifier(t.Context(), "\xff"); found || err != nil {
		t.Errorf("a name that cannot exist: %v, %v", found, err)
	}
}

func TestServerErrorSaysWhatToDo(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	for code, want := range map[string]string{"3F000": "init", "42883": "init", "42501": "grant_service_role", "28P01": "VAULT_PG_PASSWORD", "3D000": "VAULT_PG_DBNAME", "XX000": "log"} {
		if e := v.serverError(&pgconn.PgError{Code: code}); !strings.Contains(e.Hint, want) {
			t.Errorf("%s: hint %q, want %q in it", code, e.Hint, want)
		}
	}
}

// answering is a server that answers by what the statement is.
func answering(t *testing.T, answer func(sql string) string) Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { nc.Close() })
			go backendOf(pgproto3.NewBackend(nc, nc), answer)
		}
	}()
	return Server{"tcp", l.Addr().String()}
}

// slowServer starts a backend only when let is closed. It answers each statement
// with text; came is who has connected.
func slowServer(t *testing.T, let <-chan struct{}, text string) (at Server, came <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	arrivals := make(chan net.Conn, 10)
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			arrivals <- nc
			go func() {
				defer nc.Close()
				<-let
				backend(pgproto3.NewBackend(nc, nc), text)
			}()
		}
	}()
	return Server{"tcp", l.Addr().String()}, arrivals
}

// backend is process 7 until the client leaves. It answers each statement with text.
func backend(b *pgproto3.Backend, text string) {
	backendOf(b, func(string) string { return text })
}

// backendOf is backend for who answers by what the statement is.
func backendOf(b *pgproto3.Backend, answer func(sql string) string) {
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 7, SecretKey: []byte{0, 0, 0, 0}})
	b.Send(ready)
	column := &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("c"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1}}}
	row := func(values ...string) {
		var r pgproto3.DataRow
		for _, value := range values {
			r.Values = append(r.Values, []byte(value))
		}
		b.Send(&r)
		b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
	}
	prepared := map[string]string{}
	bound := ""
	for b.Flush() == nil {
		msg, err := b.Receive()
		if err != nil {
			return
		}
		switch msg := msg.(type) {
		case *pgproto3.Query: // meet's
			b.Send(column)
			row("7", "f")
			b.Send(ready)
		case *pgproto3.Parse:
			prepared[msg.Name] = msg.Query
			b.Send(&pgproto3.ParseComplete{})
		case *pgproto3.Bind:
			bound = prepared[msg.PreparedStatement]
			b.Send(&pgproto3.BindComplete{})
		case *pgproto3.Describe:
			b.Send(column)
		case *pgproto3.Execute:
			row(answer(bound))
		case *pgproto3.Sync:
			b.Send(ready)
		}
	}
}

// A statement that does not wait for a busy server leaves its connection to the
// next one: else none would ever get one.
func TestSlowConnectionServesTheNext(t *testing.T) {
	let := make(chan struct{})
	at, came := slowServer(t, let, "100 3")
	s, err := newStore(Config{User: "u", Database: "d", Local: at, SSLMode: "disable", AllowTrust: true, PoolMax: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := s.text(ctx, sqlSlots)
		left <- err
	}()
	<-came
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want %v", err, context.Canceled)
	}
	close(let)
	got, err := s.text(t.Context(), sqlSlots)
	if err != nil || got == nil || *got != "100 3" {
		t.Fatalf("got %v, %v", got, err)
	}
	select {
	case <-came:
		t.Error("the next one connected anew")
	default:
	}
}

// stuck answers nothing any more once it is closed.
type stuck struct {
	net.Conn
	closed chan struct{}
}

func (s *stuck) Write(b []byte) (int, error) {
	select {
	case <-s.closed:
		return len(b), nil
	default:
		return s.Conn.Write(b)
	}
}

// frozenServer answers each statement with text until frozen is closed.
func frozenServer(t *testing.T, text string) (at Server, frozen chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	frozen = make(chan struct{})
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { nc.Close() })
			end := &stuck{nc, frozen}
			go backend(pgproto3.NewBackend(end, end), text)
		}
	}()
	return Server{"tcp", l.Addr().String()}, frozen
}

// A server that stands still keeps nobody from closing: the node has to end in time.
func TestFrozenServerDoesNotHoldUpTheEnd(t *testing.T) {
	at, frozen := frozenServer(t, "100 3")
	v, _, _ := newTestVault(t, func(c *Config, _ *testKMS) { c.Local, c.SSLMode, c.AllowTrust = at, "disable", true })
	if got, err := v.store.text(t.Context(), sqlSlots); err != nil {
		t.Fatal(got, err)
	}
	close(frozen)
	ctx, leave := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer leave()
	if _, err := v.store.text(ctx, sqlSlots); err == nil {
		t.Fatal("it answers")
	}
	begun := time.Now()
	v.Close()
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("it waited %v for the server", took)
	}
}

// What a write asks the primary before it begins does not cost it all its time if that
// stands still: another one may take it by then.
func TestFrozenPrimary(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(context.Context, *Vault, *pgxpool.Pool) error{
		"for a connection": func(ctx context.Context, v *Vault, _ *pgxpool.Pool) error {
			_, err := acquire(ctx, v.store.rest) // it has none yet
			return err
		},
		"whether it is one": func(ctx context.Context, v *Vault, pool *pgxpool.Pool) error {
			_, _, err := v.confirmed(ctx, pool, Primary{})
			return err
		},
		"for the half that is kept": func(ctx context.Context, v *Vault, pool *pgxpool.Pool) error {
			_, _, err := v.currentPair(ctx, pool, &Access{}, "a")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at, frozen := frozenServer(t, "100 3")
			v, _, _ := newTestVault(t, func(c *Config, _ *testKMS) { c.Local, c.SSLMode, c.AllowTrust = at, "disable", true })
			if got, err := v.store.text(t.Context(), sqlSlots); err != nil {
				t.Fatal(got, err)
			}
			close(frozen)
			ctx, leave := context.WithTimeout(t.Context(), writeTimeout)
			defer leave()
			if err := ask(ctx, v, v.store.pool); err == nil || ctx.Err() != nil {
				t.Errorf("got %v, and of the write's time is left: %v", err, ctx.Err() == nil)
			}
		})
	}
}

// All connections of the pool break at once, when the server restarts.
func TestAllConnectionsBroken(t *testing.T) {
	let := make(chan struct{})
	close(let)
	at, came := slowServer(t, let, "100 3")
	s, err := newStore(Config{User: "u", Database: "d", Local: at, SSLMode: "disable", AllowTrust: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	var used []*pgxpool.Conn
	for range 4 {
		c, err := s.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		used = append(used, c)
	}
	for _, c := range used {
		c.Release()
		(<-came).Close()
	}
	if got, err := s.text(t.Context(), sqlSlots); err != nil || got == nil || *got != "100 3" {
		t.Errorf("got %v, %v", got, err)
	}
}

// TestOneAgain: a connection that has run a statement before shows only by its answer that
// it broke; the statement runs once more on another one.
func TestOneAgain(t *testing.T) {
	let := make(chan struct{})
	close(let)
	at, came := slowServer(t, let, "100 3")
	v, _, _ := newTestVault(t, func(c *Config, _ *testKMS) { c.Local, c.SSLMode, c.AllowTrust, c.PoolMax = at, "disable", true, 2 })
	for range 3 {
		var got string
		if found, err := v.one(t.Context(), v.store.rest, []any{&got}, sqlSlots); err != nil || !found || got != "100 3" {
			t.Fatalf("got %q, %v", got, err)
		}
		(<-came).Close()
	}
}
