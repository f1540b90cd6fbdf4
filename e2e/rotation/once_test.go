// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rotation

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestExactlyOnce rotates secrets on three nodes while one of these is killed in the
// middle of a claim, one is stopped in the middle of a claim and continued when that is
// long over, and the primary is killed and a standby promoted.
func TestExactlyOnce(t *testing.T) {
	t.Parallel() // it mostly waits
	w := newWorld(t)
	w.create(t)
	stop, observed := make(chan struct{}), make(chan []observation)
	go func() { observed <- w.observe(t, stop) }()
	began := time.Now()
	w.workers(t, nil)
	w.goOn(t)
	for round := 0; round == 0 || time.Since(began) < *duration; round++ {
		w.faults(t, round)
	}
	close(stop)
	seen := <-observed
	w.settle(t)
	w.once(t)
	w.inGrace(t, seen)
	w.drop(t)
}

// faults breaks each thing once.
func (w *world) faults(t *testing.T, round int) {
	t.Helper()
	old := w.c.PrimaryNode()
	others := w.c.Others(old)
	dead, last := others[round%2], others[1-round%2]
	killed := w.inClaim(t, dead, []*cluster.Node{old, last}, func() {
		if err := dead.KillNode(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	w.goOn(t)
	stopped := w.inClaim(t, old, []*cluster.Node{last}, func() { old.Freeze(t) })
	w.goOn(t)
	if round%2 == 0 {
		w.manager.Lose(t, old)
	} else { // it goes on when it has been replaced
		old.FreezeServer(t)
	}
	next := w.manager.Failover(t)
	if err := dead.StartNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.primary.Store(next)
	w.workers(t, old)
	w.goOn(t)
	conn := w.super(t)
	for what, secret := range map[string]string{"was killed": killed, "has stopped": stopped} {
		cluster.Eventually(t, "a job of a node that "+what+" to be done by another", func() bool {
			return cluster.Text(t, conn, "SELECT current_version::text FROM vault.secrets WHERE name = $1", secret) == "2"
		})
	}
	old.Thaw(t) // and knows of nothing
	if round%2 == 1 {
		old.ThawServer(t)
	}
	w.goOn(t)
	w.manager.Rejoin(t, old)
	w.manager.Whole(t)
	w.goOn(t)
}

// inClaim ends or stops a node while it has claimed a job and waits for the secret's
// lock; when it would get that it is no more there to see it. The others go on.
func (w *world) inClaim(t *testing.T, n *cluster.Node, others []*cluster.Node, end func()) (secret string) {
	t.Helper()
	w.held++
	secret = fmt.Sprintf("held/%d", w.held)
	body := fmt.Sprintf(`{"name":%q,"kind":"automatic","rotation_interval_secs":86400}`, secret)
	if status, text := w.call(t, http.MethodPost, "/v1/secrets", body); status != http.StatusCreated {
		t.Fatalf("create: %d %s", status, text)
	}
	conn, holder := w.super(t), w.super(t)
	for _, other := range others {
		other.Freeze(t) // so that the claim is n's
	}
	queue, err := w.super(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cluster.Exec(t, queue.Conn(), "LOCK TABLE vault.rotation_jobs IN EXCLUSIVE MODE") // none is queued or claimed while the secret is due and not locked
	// Due for longer than any transaction: to one that began before, the job would be one
	// that was put off, and go.
	cluster.Exec(t, conn, "UPDATE vault.secrets SET next_rotation_at = now() - interval '1 minute' WHERE name = $1", secret)
	tx, err := holder.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var id string
	if err := tx.QueryRow(t.Context(), "SELECT id::text FROM vault.secrets WHERE name = $1 FOR UPDATE", secret).Scan(&id); err != nil {
		t.Fatal(err)
	}
	cluster.Exec(t, queue.Conn(), "INSERT INTO vault.rotation_jobs (secret_id) VALUES ($1::text::uuid)", id)
	cluster.Exec(t, queue.Conn(), "SELECT pg_notify('vault_rotation', '1')")
	if err := queue.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, "a claim that waits for the secret's lock", func() bool {
		return cluster.Text(t, conn, "SELECT count(*)::text FROM pg_stat_activity WHERE $1::int = ANY (pg_blocking_pids(pid))", holder.PgConn().PID()) == "1"
	})
	end()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, other := range others {
		other.Thaw(t)
	}
	if got := cluster.Text(t, conn, "SELECT (claim_token IS NOT NULL AND completed_at IS NULL)::text FROM vault.rotation_jobs WHERE secret_id = $1::text::uuid", id); got != "true" {
		t.Errorf("the job of a node in its middle is claimed: got %s", got)
	}
	w.primary.Store(w.c.PrimaryNode())
	return secret
}

// drop: with the nodes gone, the worker, which looks every second, is in nobody's way.
func (w *world) drop(t *testing.T) {
	t.Helper()
	for _, n := range w.c.Nodes {
		if err := n.StopNode(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	conn := w.c.Connect(t, w.c.AddressDSN(w.primary.Load().Postgres, w.c.Superuser), func(c *pgx.ConnConfig) { c.Database = "postgres" })
	cluster.Exec(t, conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'", w.c.Database)
	cluster.Exec(t, conn, "DROP DATABASE "+pgx.Identifier{w.c.Database}.Sanitize())
}
