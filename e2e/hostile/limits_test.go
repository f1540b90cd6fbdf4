// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package hostile

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// crowd connects n clients at the same time and returns how many got in, and a
// refusal.
func crowd(t *testing.T, n int) (in int, refusal *pgconn.PgError) {
	t.Helper()
	conns, errs := make([]*pgx.Conn, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { conns[i], errs[i] = pgx.Connect(t.Context(), shared.DSN(0, shared.User)) })
	}
	wg.Wait()
	for i := range n {
		if conns[i] == nil {
			refusal = refused(t, errs[i])
			continue
		}
		in++
		defer conns[i].Close(t.Context())
	}
	return in, refusal
}

// However many come at once, no more than the bound get in.
func TestSessionBounds(t *testing.T) {
	for name, c := range map[string]struct{ setting, message string }{
		"all":         {"VAULT_MAX_SESSIONS", "sorry, too many clients already"},
		"of one role": {"VAULT_MAX_USER_SESSIONS", `too many connections for role "app"`},
	} {
		t.Run(name, func(t *testing.T) {
			quiet(t)
			set(t, c.setting, "3")
			in, refusal := crowd(t, 24)
			if in != 3 || refusal == nil {
				t.Fatalf("%d of 24 got in, refusal %v; want 3 and one", in, refusal)
			}
			if refusal.Code != "53300" || refusal.Severity != "FATAL" || refusal.Message != c.message ||
				refusal.Detail != "3 sessions of at most 3 are open." || !strings.Contains(refusal.Hint, c.setting) {
				t.Errorf("refused with %+v", refusal)
			}
			quiet(t)
			if in, _ := crowd(t, 3); in != 3 {
				t.Errorf("afterwards %d of 3 got in", in)
			}
		})
	}
}

// Without a bound of the node's own the server's holds, with the places that it
// keeps for superusers.
func TestTheServersOwnBound(t *testing.T) {
	quiet(t)
	admin := shared.Connect(t, shared.SuperDSN(0))
	most := cluster.Text(t, admin, "SELECT (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int)::text")
	taken := cluster.Text(t, admin, "SELECT count(*)::text FROM pg_stat_activity WHERE backend_type = 'client backend'")
	t.Logf("%s places, %s taken", most, taken)
	var refusal *pgconn.PgError
	for n := 0; refusal == nil; n++ {
		if n > 100 {
			t.Fatal("more clients got in than the server takes")
		}
		conn, err := pgx.Connect(t.Context(), shared.DSN(0, shared.User))
		if err == nil {
			defer conn.Close(t.Context())
		}
		refusal = refused(t, err)
	}
	if refusal.Code != "53300" || refusal.Severity != "FATAL" {
		t.Errorf("refused with %+v, want FATAL 53300", refusal)
	}
	conn, err := pgx.Connect(t.Context(), shared.DSN(0, shared.Superuser))
	if err != nil {
		t.Fatalf("the places kept for superusers: %v", err)
	}
	defer conn.Close(t.Context())
}

func TestIdle(t *testing.T) {
	quiet(t)
	openAs := func(dsn string) *rawpg.Conn {
		c, err := rawpg.Dial(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	open := func() *rawpg.Conn { return openAs(shared.DSN(0, shared.User)) }
	replication := shared.DSN(0, shared.Superuser) + " replication=true"
	asked, streams := openAs(replication), openAs(replication)
	position := strings.Split(asked.Rows(t, "IDENTIFY_SYSTEM"), ",")[2]
	streams.Ask(t, "W", rawpg.Query("START_REPLICATION PHYSICAL "+position))
	before, busy, block := open(), open(), open() // the limit comes while they live
	block.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
	holder := shared.Connect(t, shared.SuperDSN(0)) // busy waits for it until the others have ended
	cluster.Exec(t, holder, "SELECT pg_advisory_lock(4711)")
	if err := busy.Send(rawpg.Query("SELECT 1 AS x FROM pg_advisory_xact_lock(4711)")); err != nil {
		t.Fatal(err)
	}
	set(t, "VAULT_IDLE_SECS", "1")
	for name, c := range map[string]*rawpg.Conn{"idle before": before, "idle since": open()} {
		m, err := c.Receive()
		if err != nil || m.Type != 'E' || c.Err.Code != "57P05" || c.Err.Severity != "FATAL" ||
			c.Err.Message != "terminating connection due to idle-session timeout" {
			t.Errorf("%s: got %v %+v, want FATAL 57P05", name, err, c.Err)
		}
		if _, err := c.Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v, want the end", name, err)
		}
	}
	// The time of a statement does not count, nor that in a transaction.
	cluster.Exec(t, holder, "SELECT pg_advisory_unlock(4711)")
	busy.Expect(t, "T(x:23) D(1) C(SELECT_1) Z(I)")
	busy.Ask(t, "T(x:23) D(1) C(SELECT_1) Z(I)", rawpg.Query("SELECT 1 AS x"))
	block.Ask(t, "T(x:23) D(1) C(SELECT_1) Z(T)", rawpg.Query("SELECT 1 AS x"))
	// A replication connection is never idle, whether its stream runs or not.
	asked.Rows(t, "IDENTIFY_SYSTEM")
	if err := streams.Send(&pgproto3.CopyDone{}); err != nil {
		t.Fatal(err)
	}
	if got := streams.Answers(t); !slices.Contains(got, "c") {
		t.Errorf("the stream ended with %v", got)
	}
}

// The whole of a log-in is bounded, wherever it stops, and however steadily it goes on: a
// byte a second, which a bound of each read's own would let go on for half a minute.
func TestHandshakeTime(t *testing.T) {
	quiet(t)
	const bound, steady = 2 * time.Second, 20 * time.Second
	set(t, "VAULT_HANDSHAKE_SECS", strconv.Itoa(int(bound.Seconds())))
	for name, begin := range map[string]func(context.Context, net.Conn) error{
		"silent":      func(context.Context, net.Conn) error { return nil },
		"startup":     func(_ context.Context, nc net.Conn) error { _, err := nc.Write(startup("nobody")[:9]); return err },
		"byte a time": func(ctx context.Context, nc net.Conn) error { return trickle(ctx, nc, startup("nobody")) },
		"log-in":      halfLogin,
		"password":    slowPassword,
		"TLS":         halfTLS,
		"TLS trickle": func(ctx context.Context, nc net.Conn) error {
			return tls.Client(slowConn{Conn: nc, ctx: ctx}, target(t).TLS).HandshakeContext(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithTimeout(t.Context(), steady)
			defer stop()
			began := time.Now()
			nc, err := dial(ctx, target(t))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if err := nc.SetReadDeadline(began.Add(rawpg.Patience)); err != nil {
				t.Fatal(err)
			}
			begin(ctx, nc) // the node may hang up on it
			var ne net.Error
			if _, err := io.Copy(io.Discard, nc); errors.As(err, &ne) && ne.Timeout() {
				t.Error("the connection stays open")
			}
			if took := time.Since(began); took < bound || took > steady {
				t.Errorf("it was open for %v, want some %v", took, bound)
			}
		})
	}
}

// slowPassword begins to log in as any client, and sends what answers the node a byte a
// second.
func slowPassword(ctx context.Context, nc net.Conn) error {
	if _, err := nc.Write(startup("nobody")); err != nil {
		return err
	}
	if _, err := readMessage(nc); err != nil {
		return err
	}
	return trickle(ctx, nc, message('p', 64, "SCRAM-SHA-256\x00"+strings.Repeat("x", 46)))
}

// A client that vanishes takes its statement with it; one that has said goodbye
// does not.
func TestClientGone(t *testing.T) {
	quiet(t)
	admin := shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, admin, "CREATE TABLE hostile_gone (x int)")
	cluster.Exec(t, admin, "GRANT ALL ON hostile_gone TO app")
	defer cluster.Exec(t, admin, "DROP TABLE hostile_gone")
	running := func(like string) string {
		return cluster.Text(t, admin, "SELECT count(*)::text FROM pg_stat_activity WHERE usename = 'app' AND state = 'active' AND query LIKE $1", like)
	}
	for name, client := range map[string]struct {
		logIn func(*testing.T) *rawpg.Conn
		leave func(net.Conn) error
	}{
		"clear":                 {inClear, net.Conn.Close},
		"TLS":                   {inTLS, net.Conn.Close},
		"TLS that is cut short": {inTLS, func(nc net.Conn) error { return nc.(*tls.Conn).NetConn().Close() }},
	} {
		t.Run(name, func(t *testing.T) {
			c := client.logIn(t)
			if err := c.Send(rawpg.Query("SELECT pg_sleep(3600)")); err != nil {
				t.Fatal(err)
			}
			cluster.Eventually(t, "the statement to run", func() bool { return running("%3600%") == "1" })
			if err := client.leave(c.Net); err != nil {
				t.Fatal(err)
			}
			cluster.Eventually(t, "the statement to be cancelled", func() bool { return running("%3600%") == "0" })
		})
	}
	c := inClear(t)
	if err := c.Send(rawpg.Query("INSERT INTO hostile_gone SELECT 1 FROM pg_sleep(4)"), &pgproto3.Terminate{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, "the last words of a client to be done", func() bool {
		return cluster.Text(t, admin, "SELECT count(*)::text FROM hostile_gone") == "1"
	})
}

func inClear(t *testing.T) *rawpg.Conn {
	t.Helper()
	c, err := rawpg.Dial(t.Context(), shared.DSN(0, shared.User))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func inTLS(t *testing.T) *rawpg.Conn {
	t.Helper()
	to := target(t)
	c, err := rawpg.Open(t.Context(), to.Addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Net.SetDeadline(time.Now().Add(rawpg.Patience)); err != nil {
		t.Fatal(err)
	}
	if err := c.Write(rawpg.Packet(rawpg.CodeSSL, "")); err != nil {
		t.Fatal(err)
	}
	if b, err := c.ReadByte(); b != 'S' {
		t.Fatalf("SSLRequest: %q, %v", b, err)
	}
	c = rawpg.Over(tls.Client(c.Net, to.TLS))
	if err := c.Write(startup(shared.User)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.LogIn(&rawpg.Scram{Password: shared.Password}); err != nil {
		t.Fatal(err, c.Err)
	}
	return c
}

// Guessing the 32 bits of a protocol 3.0 key is bounded; a long key is heard all
// the same, from the same address and meanwhile.
func TestWrongCancelKeys(t *testing.T) {
	quiet(t)
	n := shared.Nodes[0]
	config, err := pgconn.ParseConfig(shared.DSN(0, shared.User) + " max_protocol_version=3.2")
	if err != nil {
		t.Fatal(err)
	}
	config.DialFunc = (&net.Dialer{LocalAddr: from}).DialContext
	pc, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close(t.Context())
	if got := len(pc.SecretKey()); got != 32 {
		t.Fatalf("the key has %d bytes, want 32", got)
	}
	before := n.Metric(t, "hyperion_vault_limited_total", `limit="cancel"`)
	reached(t, "guesses to be bounded", func() bool {
		for range 50 {
			if err := guess(t.Context(), target(t), pc.PID()); err != nil {
				t.Fatal(err)
			}
		}
		return n.Metric(t, "hyperion_vault_limited_total", `limit="cancel"`) > before
	})
	result := make(chan error, 1)
	go func() {
		_, err := pc.Exec(t.Context(), "SELECT pg_sleep(60)").ReadAll()
		result <- err
	}()
	admin := shared.Connect(t, shared.SuperDSN(0))
	cluster.Eventually(t, "the statement to run", func() bool {
		return cluster.Text(t, admin, "SELECT count(*)::text FROM pg_stat_activity WHERE pid = $1 AND query LIKE '%pg_sleep(60)%' AND state = 'active'", pc.PID()) == "1"
	})
	at, guessing := target(t), make(chan error)
	var enough atomic.Bool
	go func() { // what comes back of the bound is gone at once
		var err error
		for err == nil && !enough.Load() {
			err = guess(t.Context(), at, pc.PID())
		}
		guessing <- err
	}()
	err = pc.CancelRequest(t.Context())
	refusal := refused(t, <-result)
	enough.Store(true)
	if err := errors.Join(err, <-guessing); err != nil {
		t.Fatal(err)
	}
	if refusal == nil || refusal.Code != "57014" {
		t.Errorf("got %v, want 57014", refusal)
	}
}

// guess sends some short key for a backend, and hears the end of it.
func guess(ctx context.Context, at Target, pid uint32) error {
	nc, err := dial(ctx, at)
	if err != nil {
		return err
	}
	defer nc.Close()
	key := make([]byte, 4)
	rand.Read(key)
	c := rawpg.Over(nc)
	if err := c.Write(rawpg.CancelRequest(pid, key)); err != nil {
		return err
	}
	said, err := c.ReadRest()
	if err == nil && len(said) > 0 {
		err = errors.New("a guess was answered")
	}
	return err
}

// Whoever fails to log in too often is slowed down and then refused, at his
// address and nowhere else.
func TestFailedLogins(t *testing.T) {
	quiet(t)
	set(t, "VAULT_FAILED_LOGINS_PER_SEC", "1")
	from := func(ip string, password string) error {
		config, err := pgx.ParseConfig(shared.DSN(0, shared.User))
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			config.Password = password
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		config.DialFunc = d.DialContext
		config.ConnectTimeout = rawpg.Patience
		conn, err := pgx.ConnectConfig(t.Context(), config)
		if err == nil {
			conn.Close(t.Context())
		}
		return err
	}
	var wg sync.WaitGroup
	var wrong, many atomic.Int64
	for range 60 {
		wg.Go(func() {
			var pe *pgconn.PgError
			switch err := from("127.0.0.3", "wrong"); {
			case !errors.As(err, &pe):
				t.Errorf("a wrong password: %v", err)
			case pe.Code == "28P01":
				wrong.Add(1)
			case pe.Code == "53300" && pe.Message == "too many log-ins from your address have failed":
				many.Add(1)
			default:
				t.Errorf("a wrong password: %+v", pe)
			}
		})
	}
	reached(t, "refusals", func() bool { return many.Load() > 0 })
	if err := from("127.0.0.4", ""); err != nil {
		t.Errorf("from another address: %v", err)
	}
	wg.Wait()
	if wrong.Load() < 10 || many.Load() < 20 {
		t.Errorf("%d heard that the password is wrong, %d were refused", wrong.Load(), many.Load())
	}
}

// One session's large text must not be all sessions' end.
func TestHeldBytes(t *testing.T) {
	quiet(t)
	set(t, "VAULT_MAX_HELD_BYTES", "1048576")
	other := shared.Connect(t, shared.DSN(0, shared.User))
	c, err := rawpg.Dial(t.Context(), shared.DSN(0, shared.User))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// So much that the buffer has to grow beyond the bound, and no byte more: what
	// is not read when a connection is closed can take the last word with it.
	begun := message('Q', 4<<20, strings.Repeat("x", 512<<10-5))
	if err := c.Write(begun); err != nil {
		t.Fatal(err)
	}
	if m, err := c.Receive(); err != nil || m.Type != 'E' || c.Err.Code != "53200" || c.Err.Severity != "FATAL" {
		t.Errorf("got %v %+v, want FATAL 53200", err, c.Err)
	}
	if got := cluster.Text(t, other, "SELECT length($1)::text", strings.Repeat("x", 100_000)); got != "100000" {
		t.Errorf("another session got %s", got)
	}
	cluster.Eventually(t, "what was held to be free", func() bool { return shared.Nodes[0].Metric(t, "hyperion_vault_held_bytes") == 0 })
}

// A client that leaves while it is let in must not be counted for ever.
func TestLeftDuringTheGreeting(t *testing.T) {
	quiet(t)
	n := shared.Nodes[0]
	logins := n.Metric(t, "hyperion_vault_logins_total")
	var wg sync.WaitGroup
	const clients = 60
	for range clients {
		wg.Go(func() {
			config, err := pgconn.ParseConfig(shared.DSN(0, shared.User))
			if err != nil {
				t.Error(err)
				return
			}
			// The third write is the proof: the client is gone when the greeting comes.
			config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				var d net.Dialer
				nc, err := d.DialContext(ctx, network, addr)
				return &leaver{Conn: nc, writes: 3}, err
			}
			if pc, err := pgconn.ConnectConfig(t.Context(), config); err == nil {
				pc.Close(t.Context())
			}
		})
	}
	wg.Wait()
	cluster.Eventually(t, "the log-ins to be over", func() bool { return n.Metric(t, "hyperion_vault_logins_total") == logins+clients })
	quiet(t)
}

// A leaver resets its connection after so many writes.
type leaver struct {
	net.Conn
	writes int
}

func (c *leaver) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if c.writes--; c.writes == 0 {
		if tc, ok := c.Conn.(*net.TCPConn); ok {
			tc.SetLinger(0) //nolint:errcheck // it closes in any case
		}
		c.Conn.Close()
	}
	return n, err
}
