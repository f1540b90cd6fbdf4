// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/localkms"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// hangingKMS says when it is asked, and answers when it is told to, or when
// nobody waits for the answer any more.
type hangingKMS struct {
	envelope.KMS
	asked, answer chan struct{}
}

func (k *hangingKMS) hang(ctx context.Context) error {
	k.asked <- struct{}{}
	select {
	case <-k.answer:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *hangingKMS) Generate(ctx context.Context, c envelope.Context) (plain, wrapped []byte, keyID string, err error) {
	if err := k.hang(ctx); err != nil {
		return nil, nil, "", err
	}
	return k.KMS.Generate(ctx, c)
}

func (k *hangingKMS) Unwrap(ctx context.Context, keyID string, wrapped []byte, c envelope.Context) ([]byte, error) {
	if err := k.hang(ctx); err != nil {
		return nil, err
	}
	return k.KMS.Unwrap(ctx, keyID, wrapped, c)
}

// A testNode is a node in this process, beside a real server.
type testNode struct {
	core  *vault.Vault
	node  *Server
	at    string    // host=… port=… of the SQL face
	super *pgx.Conn // the superuser's, of the server itself
	*devcluster.Cluster
}

// dsn is how a role connects to the node.
func (n *testNode) dsn(user, password string) string {
	return n.at + " user=" + user + " password=" + password + " dbname=" + n.Database + " sslmode=disable"
}

// nodeWith serves one. more may change what its core is made of.
func nodeWith(t *testing.T, kms envelope.KMS, keyID string, more func(*vault.Config)) *testNode {
	t.Helper()
	binary, err := filepath.Abs(filepath.Join("..", "bin", "hyperion-vault"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := devcluster.Start(t.Context(), devcluster.Config{Binary: binary, ServersOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	server := c.Primary()
	super, err := server.ConnectServer(t.Context(), c.Superuser, c.SuperuserPassword, c.Database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = super.Close(context.WithoutCancel(t.Context())) }) // nothing is pending
	if _, err := super.Exec(t.Context(), "ALTER ROLE vault_service PASSWORD 'service'"); err != nil {
		t.Fatal(err)
	}
	pin, err := vault.PinVaultID(filepath.Join(t.TempDir(), "audit"), "")
	if err != nil {
		t.Fatal(err)
	}
	allowed, err := vault.ParseAllowList("loopback")
	if err != nil {
		t.Fatal(err)
	}
	local := vault.Server{Network: "tcp", Addr: server.Postgres}
	config := vault.Config{
		Node: "test", Local: local, Hosts: []vault.Server{local}, User: "vault_service", Password: "service", Database: c.Database,
		Pin: pin, AllowedIPs: allowed,
		NewSealer: func(id envelope.UUID) (*envelope.Sealer, error) {
			return envelope.New(envelope.Config{KMS: kms, Vault: id, KeyID: keyID, CacheEntries: 16, FlightTimeout: time.Minute, MaxInflight: 4, AllowUnlocked: true})
		},
	}
	more(&config)
	core, err := vault.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(core.Close)
	if _, err := core.Status(t.Context()); err != nil { // learns the vault's id
		t.Fatal(err)
	}
	node, at := serveNode(t, core, &config)
	return &testNode{core, node, at, super, c}
}

// serveNode serves the SQL face of a core; it returns where that is, too.
func serveNode(t *testing.T, core *vault.Vault, c *vault.Config) (node *Server, at string) {
	t.Helper()
	node, err := New(Config{Vault: core, Analyzer: rewrite.NewAnalyzer(rewrite.Config{CheckName: envelope.CheckName}), Local: c.Local, Database: c.Database, Log: c.Log})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- node.Serve(context.WithoutCancel(t.Context()), listener) }()
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		cancel()
		_ = node.Shutdown(ended) // what still runs is cut off
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return node, "host=" + host + " port=" + port
}

// hangingNode is a node whose KMS answers when it is let.
func hangingNode(t *testing.T) (*testNode, *hangingKMS) {
	t.Helper()
	master := make([]byte, 32)
	rand.Read(master)
	local, err := localkms.New(master)
	if err != nil {
		t.Fatal(err)
	}
	kms := &hangingKMS{KMS: local, asked: make(chan struct{}), answer: make(chan struct{})}
	return nodeWith(t, kms, local.KeyID(), func(*vault.Config) {}), kms
}

// A KMS that hangs holds no lock and no transaction, and a client that cancels
// is answered at once.
func TestHangingKMS(t *testing.T) {
	n, kms := hangingNode(t)
	super := n.super
	conn, err := pgx.Connect(t.Context(), n.dsn(n.User, n.Password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) }) // nothing is pending
	run := func(sql string) chan error {                                     // returns when the KMS has been asked
		t.Helper()
		done := make(chan error, 1)
		go func() { _, err := conn.Exec(t.Context(), sql); done <- err }()
		select {
		case <-kms.asked:
		case err := <-done:
			t.Fatalf("%s: %v, and the KMS was not asked", sql, err)
		}
		return done
	}
	const put, read = "SELECT vault.put_secret('kms/a', 'x')", "SELECT vault.read_secret('kms/a')"
	for _, tt := range []struct{ before, sql, after string }{
		{"", put, ""},
		{"BEGIN", put, "ROLLBACK"},
	} {
		if _, err := conn.Exec(t.Context(), tt.before); err != nil {
			t.Fatal(err)
		}
		done := run(tt.sql)
		var locks int
		err := super.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE pid = $1 AND locktype <> 'virtualxid'", conn.PgConn().PID()).Scan(&locks)
		if err != nil || locks != 0 {
			t.Errorf("%s %s: locks while the KMS hangs: got %d, %v, want none", tt.before, tt.sql, locks, err)
		}
		if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
			t.Fatal(err)
		}
		var e *pgconn.PgError
		if err := <-done; !errors.As(err, &e) || e.Code != stateCanceled {
			t.Errorf("%s %s: got %v, want %s", tt.before, tt.sql, err, stateCanceled)
		}
		if _, err := conn.Exec(t.Context(), tt.after); err != nil {
			t.Fatal(err)
		}
	}
	// Cancelled or not, the session goes on.
	done := run(put)
	kms.answer <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// A read that hangs is cancelled too; the flight may go on without it.
	done = run(read)
	if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	var e *pgconn.PgError
	if err := <-done; !errors.As(err, &e) || e.Code != stateCanceled {
		t.Errorf("a read: got %v, want %s", err, stateCanceled)
	}
}

// A put that waits for the KMS is not an idle session: a node that ends lets it finish.
func TestDrainWaitsForTheKMS(t *testing.T) {
	n, kms := hangingNode(t)
	conn, err := pgx.Connect(t.Context(), n.dsn(n.User, n.Password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) }) // it has ended
	done, over := make(chan error, 1), make(chan error, 1)
	go func() { _, err := conn.Exec(t.Context(), "SELECT vault.put_secret('kms/a', 'x')"); done <- err }()
	<-kms.asked
	go func() {
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		over <- n.node.Shutdown(ctx)
	}()
	select {
	case err := <-done:
		t.Fatalf("the put ended with %v while the KMS worked for it", err)
	case <-time.After(200 * time.Millisecond): // longer than a drain of idle sessions takes
	}
	kms.answer <- struct{}{}
	if err := <-done; err != nil {
		t.Errorf("the put: %v", err)
	}
	if err := <-over; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}
