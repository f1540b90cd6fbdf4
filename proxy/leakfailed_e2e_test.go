// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/localkms"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// failingKMS is one that cannot be reached from when it is told so.
type failingKMS struct {
	envelope.KMS
	away atomic.Bool // for good: a node does not ask at once again
}

var errAway = &envelope.KMSError{Kind: envelope.KMSUnavailable, Err: errors.New("the KMS is away")}

func (k *failingKMS) Generate(ctx context.Context, c envelope.Context) (plain, wrapped []byte, keyID string, err error) {
	if k.away.Load() {
		return nil, nil, "", errAway
	}
	return k.KMS.Generate(ctx, c)
}

func (k *failingKMS) Unwrap(ctx context.Context, keyID string, wrapped []byte, c envelope.Context) ([]byte, error) {
	if k.away.Load() {
		return nil, errAway
	}
	return k.KMS.Unwrap(ctx, keyID, wrapped, c)
}

// logBuffer keeps what a node logs.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// failures is a node whose KMS and audit fail when told so, and what it has said.
type failures struct {
	*testNode
	kms   *failingKMS
	sink  *testSink
	log   *logBuffer
	app   *pgx.Conn
	admin *vault.Access
	said  []string // to clients
}

func newFailures(t *testing.T) *failures {
	t.Helper()
	kms, err := localkms.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	f := &failures{kms: &failingKMS{KMS: kms}, sink: &testSink{}, log: &logBuffer{}}
	f.testNode = nodeWith(t, f.kms, kms.KeyID(), func(c *vault.Config) {
		c.Audit, c.RESTAllowedIPs, c.Log = f.sink, c.AllowedIPs, slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	watching, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { f.core.Watch(watching); close(watched) }()
	t.Cleanup(func() { stop(); <-watched })
	for _, setting := range []string{"log_statement = 'all'", "log_min_messages = 'debug1'", "log_error_verbosity = 'verbose'", "log_parameter_max_length_on_error = -1"} {
		f.exec(t, "ALTER SYSTEM SET "+setting)
	}
	f.exec(t, "SELECT pg_reload_conf()")
	f.app = f.connect(t, f.User, f.Password)
	if f.admin, err = f.core.Authenticate(t.Context(), f.AdminToken, home, nil); err != nil {
		t.Fatal(err)
	}
	return f
}

// fails sees that an operation fails so, and keeps what its caller hears.
func (f *failures) fails(t *testing.T, what string, err error, kind vault.Kind) {
	t.Helper()
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg):
		if pg.Code != kind.SQLState() {
			t.Errorf("%s: got %v, want %s", what, err, kind.SQLState())
		}
		f.said = append(f.said, fmt.Sprintf("%+v", *pg))
	case vault.KindOf(err) != kind || err == nil:
		t.Errorf("%s: got %v, want kind %v", what, err, kind)
	default:
		f.said = append(f.said, err.Error())
	}
}

// look asks for a secret and compares a value with it, by every way.
func (f *failures) look(t *testing.T, name, value string, kind vault.Kind) {
	t.Helper()
	ctx := t.Context()
	for _, sql := range []string{"SELECT vault.read_secret('" + name + "')", "SELECT vault.verify_secret('" + name + "', '" + value + "')"} {
		_, err := f.app.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		f.fails(t, "a Query", err, kind)
	}
	_, err := f.app.Exec(ctx, "SELECT vault.read_secret($1)", name)
	f.fails(t, "a read with parameters", err, kind)
	_, err = f.app.Exec(ctx, "SELECT vault.verify_secret($1, $2)", name, value)
	f.fails(t, "a verify with parameters", err, kind)
	_, err = f.core.Read(ctx, f.admin, name, 0)
	f.fails(t, "a read by REST", err, kind)
	_, err = f.core.ReadMany(ctx, f.admin, []string{name})
	f.fails(t, "a batch by REST", err, kind)
	_, err = f.core.Verify(ctx, f.admin, name, []byte(value))
	f.fails(t, "a verify by REST", err, kind)
}

// store sends a value for a secret, and for one that is new, by every way.
func (f *failures) store(t *testing.T, name, value string, kind vault.Kind) {
	t.Helper()
	ctx := t.Context()
	for _, call := range []string{"put_secret('" + name + "', %s)", "rotate_secret('" + name + "', %s)", "create_secret('f/new', 'manual', %s)"} {
		_, err := f.app.Exec(ctx, "SELECT vault."+fmt.Sprintf(call, "'"+value+"'"), pgx.QueryExecModeSimpleProtocol)
		f.fails(t, call, err, kind)
		_, err = f.app.Exec(ctx, "SELECT vault."+fmt.Sprintf(call, "$1"), value)
		f.fails(t, call+" with a parameter", err, kind)
	}
	_, err := f.core.Update(ctx, f.admin, name, 0, vault.Change{Value: []byte(value)})
	f.fails(t, "an update by REST", err, kind)
	_, err = f.core.Create(ctx, f.admin, "f/new", false, vault.Change{Value: []byte(value)})
	f.fails(t, "a new one by REST", err, kind)
}

// TestNothingLeaksFromFailures: neither what is stored nor what is sent shows anywhere
// when the KMS is away, a row was tampered with, or no record can be written.
func TestNothingLeaksFromFailures(t *testing.T) {
	f := newFailures(t)
	stored, sent, planted := canary.New("stored", "stored"), canary.New("sent", "sent"), canary.New("planted", "planted")
	for _, name := range []string{"f/a", "f/bad"} {
		if _, err := f.app.Exec(t.Context(), "SELECT vault.put_secret($1, $2)", name, stored.Value()); err != nil {
			t.Fatal(err)
		}
	}
	f.exec(t, "UPDATE vault.secret_versions SET nonce = decode(repeat('00', 24), 'hex') WHERE secret_id = (SELECT id FROM vault.secrets WHERE name = 'f/bad')")

	f.look(t, "f/bad", sent.Value(), vault.KindTampered)
	f.sink.fail(errors.New("no space left on device"))
	f.look(t, "f/a", sent.Value(), vault.KindAudit)
	f.store(t, "f/a", sent.Value(), vault.KindAudit)
	f.sink.fail(nil)
	var got string
	if err := f.app.QueryRow(t.Context(), "SELECT vault.read_secret('f/a')").Scan(&got); err != nil || got != stored.Value() {
		t.Errorf("with room for records it reads %v, want what was stored", err)
	}
	f.kms.away.Store(true)
	f.core.Flush()
	f.look(t, "f/a", sent.Value(), vault.KindKMS)
	f.store(t, "f/a", sent.Value(), vault.KindKMS)

	f.exec(t, "SELECT '"+planted.Value()+"'") // the same in clear is found
	f.exec(t, "CHECKPOINT")
	scanner := canary.NewScanner([]*canary.Canary{stored, sent, planted})
	if err := scanner.Tree(f.Dir()); err != nil {
		t.Fatal(err)
	}
	var records []string
	f.sink.mu.Lock()
	for _, r := range slices.Concat(f.sink.buffers...) {
		records = append(records, fmt.Sprintf("%+v", r))
	}
	f.sink.mu.Unlock()
	scanner.Text("the node's log", f.log.String())
	scanner.Text("records", strings.Join(records, "\n"))
	scanner.Text("what clients were told", strings.Join(f.said, "\n"))
	if len(f.said) < 37 || len(records) < 20 || !strings.Contains(f.log.String(), "the KMS is away") {
		t.Errorf("%d answers, %d records, a log of %d bytes: too little to look through", len(f.said), len(records), len(f.log.String()))
	}
	for _, finding := range scanner.Findings {
		if finding.Canary != planted {
			t.Errorf("leak: %s", finding)
		}
	}
	if !slices.ContainsFunc(scanner.Findings, func(f canary.Finding) bool { return f.Canary == planted }) {
		t.Error("a value in clear was not found in the server's log: no leak would be seen there")
	}
}
