// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package awskms

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestOneFlight: many who read one secret at once make one call, and one who
// leaves, be it the first, disturbs nobody.
func TestOneFlight(t *testing.T) {
	conn := shared.Connect(t, shared.DSN(0, shared.User))
	put(t, conn, "flight/one")
	flush(t)
	before.count()
	before.suffer(t, func(w http.ResponseWriter, r *http.Request, released <-chan struct{}, next http.Handler) {
		<-released
		next.ServeHTTP(w, r)
	})
	ctx, leave := context.WithCancel(t.Context())
	var first sync.WaitGroup
	first.Go(func() {
		conn, err := pgx.Connect(ctx, shared.DSN(0, shared.User))
		if err == nil {
			_, err = conn.Exec(ctx, "SELECT vault.read_secret('flight/one')")
		}
		if err == nil {
			t.Error("the first one, which left, was answered")
		}
	})
	decrypts := func() int { n, _ := before.counted("Decrypt"); return n }
	cluster.Eventually(t, "the first one's call", func() bool { return decrypts() == 1 })
	const others = 10
	var all sync.WaitGroup
	got := make([]string, others)
	misses := shared.Nodes[0].Metric(t, "hyperion_vault_dek_cache_misses_total")
	for i := range others {
		conn := shared.Connect(t, shared.DSN(0, shared.User))
		all.Go(func() {
			if err := conn.QueryRow(t.Context(), "SELECT vault.read_secret('flight/one')").Scan(&got[i]); err != nil {
				t.Error(err)
			}
		})
	}
	cluster.Eventually(t, "the others to wait", func() bool {
		return shared.Nodes[0].Metric(t, "hyperion_vault_dek_cache_misses_total") >= misses+others
	})
	leave()
	first.Wait()
	before.heal()
	all.Wait()
	for i, value := range got {
		if value != "value of flight/one" {
			t.Errorf("reader %d: got %q", i, value)
		}
	}
	if n := decrypts(); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

// secrets are those of one statement; more take longer to make.
var secrets = flag.Int("secrets", 1000, "secrets that one statement opens")

// TestWindow: one statement that opens many secrets has as many calls under way
// as are allowed, never more, and shows its progress.
func TestWindow(t *testing.T) {
	secrets := *secrets
	conn := shared.Connect(t, shared.DSN(0, shared.User))
	for from := 0; from < secrets; from += 500 {
		batch := &pgx.Batch{}
		for i := from; i < min(from+500, secrets); i++ {
			batch.Queue("SELECT vault.put_secret($1, $2)", fmt.Sprintf("window/%d", i), fmt.Sprintf("value %d", i))
		}
		if err := conn.SendBatch(t.Context(), batch).Close(); err != nil {
			t.Fatal(err)
		}
	}
	flush(t)
	before.count()
	before.suffer(t, func(w http.ResponseWriter, r *http.Request, released <-chan struct{}, next http.Handler) {
		// The first rows may come in a buffer that holds fewer than the window: those
		// go on after a while.
		for until := time.Now().Add(time.Second); time.Now().Before(until) && r.Context().Err() == nil; {
			if before.kept() >= inflight {
				hang(w, r, released, nil)
				break
			}
			select {
			case <-released:
			case <-time.After(5 * time.Millisecond):
			}
		}
		next.ServeHTTP(w, r)
	})
	calls := func() int { return int(shared.Nodes[0].Metric(t, "hyperion_vault_kms_calls_total")) }
	begun := calls()
	opened := make(chan error, 1)
	go func() { opened <- openWindow(t.Context(), conn, secrets) }()
	cluster.Eventually(t, "as many calls as are allowed", func() bool { return before.kept() == inflight })
	if n := calls() - begun; n == 0 || n >= secrets {
		t.Errorf("the metric says %d calls, want a part of %d", n, secrets)
	}
	before.heal()
	before.suffer(t, slow(time.Millisecond))
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	if n, most := before.counted("Decrypt"); n < secrets || most != inflight {
		t.Errorf("%d calls, at most %d at a time; want %d and %d", n, most, secrets, inflight)
	}
}

// openWindow opens all secrets in one statement.
func openWindow(ctx context.Context, conn *pgx.Conn, secrets int) error {
	rows, err := conn.Query(ctx, "SELECT n, vault.read_secret('window/' || n) FROM generate_series(0, $1) n", secrets-1)
	if err != nil {
		return err
	}
	count, n, value := 0, 0, ""
	_, err = pgx.ForEachRow(rows, []any{&n, &value}, func() error {
		count++
		if want := fmt.Sprintf("value %d", n); value != want {
			return fmt.Errorf("row %d: got %q, want %q", n, value, want)
		}
		return nil
	})
	if err == nil && count != secrets {
		err = fmt.Errorf("%d rows, want %d", count, secrets)
	}
	return err
}
