// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rotation

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// settle lets what is due be done, and nothing more become due.
func (w *world) settle(t *testing.T) {
	t.Helper()
	conn := w.super(t)
	cluster.Exec(t, conn, "UPDATE vault.secrets SET next_rotation_at = NULL")
	cluster.Eventually(t, "no job to be open", func() bool {
		return cluster.Text(t, conn, "SELECT count(*)::text FROM vault.rotation_jobs WHERE completed_at IS NULL") == "0"
	})
}

// A rotation is a row of public.rotated.
type rotation struct {
	Name    string
	Version int
	Due     *time.Time // nil: settle had taken the date away
	At      time.Time
	Next    *time.Time
}

// once sees that each secret's versions follow each other, that each came when the
// one before had said, not sooner, and that each is of a job of its own.
func (w *world) once(t *testing.T) {
	t.Helper()
	conn := w.super(t)
	rows, err := conn.Query(t.Context(), "SELECT name, version, due, at, next FROM public.rotated ORDER BY name COLLATE \"C\", version, at")
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[rotation])
	if err != nil {
		t.Fatal(err)
	}
	perSecret := map[string]int{}
	for i, r := range list {
		perSecret[r.Name]++
		if r.Version != perSecret[r.Name]+1 {
			t.Errorf("%s: version %d is the %d. rotation: a gap, or one twice", r.Name, r.Version, perSecret[r.Name])
		}
		if r.Due == nil {
			continue
		}
		if r.At.Before(*r.Due) {
			t.Errorf("%s: version %d came at %v, and was due at %v", r.Name, r.Version, r.At, r.Due)
		}
		if i > 0 && list[i-1].Name == r.Name && (list[i-1].Next == nil || !list[i-1].Next.Equal(*r.Due)) && perSecret[r.Name] > 1 {
			t.Errorf("%s: version %d was due at %v, and the one before said %v", r.Name, r.Version, r.Due, list[i-1].Next)
		}
	}
	t.Logf("%d rotations of %d secrets", len(list), len(perSecret))
	if len(perSecret) != *secrets+w.held {
		t.Errorf("%d secrets were rotated, of %d", len(perSecret), *secrets+w.held)
	}
	const wrong = `SELECT count(*)::text FROM vault.secrets s WHERE s.current_version - 1 <> (SELECT count(*) FROM public.rotated r WHERE r.name = s.name)
 OR s.current_version - 1 <> (SELECT count(*) FROM vault.rotation_jobs j WHERE j.secret_id = s.id AND j.completed_at IS NOT NULL AND j.error IS NULL AND j.claim_token IS NULL)`
	if got := cluster.Text(t, conn, wrong); got != "0" {
		t.Errorf("%s secrets have another number of versions than of rotations, or of jobs that were done", got)
	}
	if got := cluster.Text(t, conn, "SELECT count(*)::text FROM vault.rotation_jobs WHERE completed_at IS NULL OR error IS NOT NULL"); got != "0" {
		t.Errorf("%s jobs are open or were given up", got)
	}
}

// inGrace sees that each value was good as long as it was current or in its grace,
// and not after.
func (w *world) inGrace(t *testing.T, seen []observation) {
	t.Helper()
	type version struct {
		Name    string
		Version int
	}
	rows, err := w.super(t).Query(t.Context(), "SELECT name, version, expires_at FROM public.superseded")
	if err != nil {
		t.Fatal(err)
	}
	ends := map[version]time.Time{}
	var v version
	var end time.Time
	if _, err := pgx.ForEachRow(rows, []any{&v.Name, &v.Version, &end}, func() error { ends[v] = end; return nil }); err != nil {
		t.Fatal(err)
	}
	const wrong = `SELECT count(*)::text FROM public.superseded s JOIN public.rotated r ON r.name = s.name AND r.version = s.version + 1
 WHERE s.name LIKE 'auto/%' AND s.expires_at <> r.at + interval '2 seconds'`
	if got := cluster.Text(t, w.super(t), wrong); got != "0" {
		t.Errorf("%s versions have another grace than 2 s", got)
	}
	counts := map[string]int{}
	for _, o := range seen {
		end, superseded := ends[version{o.name, o.version}]
		switch {
		case !superseded || o.till.Before(end):
			counts["before the end"]++
			if !o.good {
				t.Errorf("%s: version %d was not good at %v, and its grace ended at %v", o.name, o.version, o.till, end)
			}
		case o.from.After(end):
			counts["after it"]++
			if o.good {
				t.Errorf("%s: version %d was good at %v, and its grace had ended at %v", o.name, o.version, o.from, end)
			}
		}
	}
	t.Logf("values verified: %v", counts)
	if counts["before the end"] == 0 || counts["after it"] == 0 {
		t.Error("one of these was never seen")
	}
}
