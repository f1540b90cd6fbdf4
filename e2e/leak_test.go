// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// A leakRun sends one canary through each door and keeps what the server showed
// of it meanwhile.
type leakRun struct {
	c        *cluster.Cluster
	run      string
	direct   bool // to the servers' own ports: the sealing is off
	stranger string
	activity *pgx.Conn // the superuser's, at the server itself

	canaries []*canary.Canary
	seen     []shown
}

type shown struct{ place, text string }

// TestLeak sends canaries by every door through the nodes, and by every one of REST,
// and looks for them wherever PostgreSQL and the nodes write, the audit included. The same doors straight at the
// server, where nothing seals, and a canary stored in clear show in the same
// scan that it would have seen them.
func TestLeak(t *testing.T) {
	c := shared
	cluster.Exec(t, c.Connect(t, c.SuperDSN(0)), "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
	stranger := c.AddUser(t, "stranger")
	sealed := &leakRun{c: c, run: "sealed", stranger: stranger}
	clear := &leakRun{c: c, run: "clear", direct: true, stranger: stranger}
	sealed.through(t)
	sealed.readBack(t)
	sealed.rest(t)
	clear.through(t)
	planted := plant(t, c)

	scanner := canary.NewScanner(append(append([]*canary.Canary{planted}, sealed.canaries...), clear.canaries...))
	lookEverywhere(t, c, scanner, append(sealed.seen, clear.seen...))
	t.Logf("%d canaries through the nodes; looked through %d places, %d MB", len(sealed.canaries), scanner.Files, scanner.Bytes>>20)

	where := map[*canary.Canary][]string{}
	for _, f := range scanner.Findings {
		where[f.Canary] = append(where[f.Canary], f.Place)
	}
	t.Run("Recorded", func(t *testing.T) {
		const reasons = "SELECT string_agg(DISTINCT reason, ' ' ORDER BY reason) FROM vault.audit_log WHERE outcome <> 'ok'"
		got := strings.Fields(cluster.Text(t, c.Connect(t, c.SuperDSN(0)), reasons))
		for _, want := range []string{"encoding", "grant", "invalid", "limit", "missing", "syntax", "unsupported"} {
			if !slices.Contains(got, want) { // else no leak in such a record would show
				t.Errorf("refusals are recorded as %q, want %q among them", got, want)
			}
		}
	})
	t.Run("Sealed", func(t *testing.T) {
		if len(sealed.canaries) < 50 {
			t.Errorf("got %d canaries, want at least 50", len(sealed.canaries))
		}
		mine := map[*canary.Canary]bool{}
		for _, one := range sealed.canaries {
			mine[one] = true
		}
		for _, f := range scanner.Findings {
			if mine[f.Canary] {
				t.Errorf("leak: %s", f)
			}
		}
	})
	t.Run("Clear", func(t *testing.T) {
		doors := canary.Doors()
		for i, one := range clear.canaries {
			if len(where[one]) == 0 && !doors[i].Silent {
				t.Errorf("door %q: a value in clear was not found: the scan would not see a leak there", doors[i].Name)
			}
		}
	})
	t.Run("Planted", func(t *testing.T) {
		for _, place := range plantedPlaces(c) {
			if !anyHas(where[planted], place) {
				t.Errorf("the value in clear was not found in %s, but only in\n%s", place, strings.Join(where[planted], "\n"))
			}
		}
	})
}

func anyHas(places []string, part string) bool {
	for _, place := range places {
		if strings.Contains(place, part) {
			return true
		}
	}
	return false
}

// dial logs in as a door asks for.
func (r *leakRun) dial(t *testing.T, as canary.Login) *canary.Session {
	t.Helper()
	user, node, more := r.c.User, 0, ""
	switch as {
	case canary.Owner:
	case canary.Stranger:
		user = r.stranger
	case canary.Elsewhere:
		more = " dbname=postgres"
	case canary.Replication:
		user, more = r.c.Superuser, " replication=database"
	case canary.OnStandby:
		node = 1
	}
	dsn := r.c.DSN(node, user)
	if r.direct {
		dsn = r.c.DirectDSN(node, user)
	}
	conn, err := pgconn.Connect(t.Context(), dsn+more)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	return &canary.Session{PgConn: conn}
}

// through opens every door once.
func (r *leakRun) through(t *testing.T) {
	t.Helper()
	r.activity = r.c.Connect(t, r.c.SuperDSN(0))
	for _, door := range canary.Doors() {
		r.open(t, &door)
	}
}

// doorTimeout is far beyond what any door takes.
const doorTimeout = 30 * time.Second

func (r *leakRun) open(t *testing.T, door *canary.Door) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), doorTimeout)
	defer cancel()
	one := canary.New(door.Name, r.run)
	r.canaries = append(r.canaries, one)
	session := r.dial(t, door.As)
	defer func() { _ = session.Close(ctx) }() // a door may have ended it
	if door.As == canary.Owner {
		if err := canary.Prepare(ctx, session); err != nil {
			t.Fatal(err)
		}
	}
	err := door.Open(ctx, session, one)
	if r.direct {
		return // the server refuses what no node has sealed
	}
	if err := door.Check(err); err != nil {
		t.Error(err)
	}
	if err != nil {
		r.seen = append(r.seen, shown{"the answer to door " + door.Name, fmt.Sprintf("%+v", err)})
	}
	r.look(t, door, session)
}

// look asks for what the server shows of a session that is still there.
func (r *leakRun) look(t *testing.T, door *canary.Door, session *canary.Session) {
	t.Helper()
	query := "SELECT coalesce(string_agg(a::text, E'\n'), '') FROM pg_stat_activity AS a"
	r.seen = append(r.seen, shown{"pg_stat_activity after door " + door.Name, cluster.Text(t, r.activity, query)})
	if session.IsClosed() || door.As == canary.Replication || session.TxStatus() != 'I' {
		return
	}
	results, err := session.Exec(t.Context(), "SELECT p::text FROM pg_prepared_statements AS p; SELECT c::text FROM pg_cursors AS c").ReadAll()
	if err != nil {
		t.Errorf("door %q: the session cannot go on: %v", door.Name, err)
		return
	}
	for _, result := range results {
		for _, row := range result.Rows {
			r.seen = append(r.seen, shown{"pg_prepared_statements after door " + door.Name, string(row[0])})
		}
	}
}

// readBack sees that each value that was taken is there: else nothing of it
// could have leaked.
func (r *leakRun) readBack(t *testing.T) {
	t.Helper()
	conn := r.c.Connect(t, r.c.DSN(0, r.c.User))
	for i, door := range canary.Doors() {
		one := r.canaries[i]
		var got *string
		if err := conn.QueryRow(t.Context(), "SELECT vault.read_secret($1, missing_ok => true)", one.Secret).Scan(&got); err != nil {
			t.Errorf("door %q: read: %v", door.Name, err)
			continue
		}
		there := got != nil && *got == one.Value()
		if want := door.State == "" && !door.Lost; there != want {
			t.Errorf("door %q: the value can be read: got %t, want %t", door.Name, there, want)
		}
	}
}

// plant stores a canary in clear, in a table and in a statement's text.
func plant(t *testing.T, c *cluster.Cluster) *canary.Canary {
	t.Helper()
	one := canary.New("planted", "planted")
	conn := c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, conn, "CREATE TABLE canary_planted (value text)")
	cluster.Exec(t, conn, "INSERT INTO canary_planted VALUES ($1)", one.Value())
	cluster.Exec(t, conn, "COMMENT ON TABLE canary_planted IS '"+one.Value()+"'")
	plantRecord(t, c, one)
	return one
}

// plantedPlaces are parts of the names of places where the planted canary must
// be found.
func plantedPlaces(c *cluster.Cluster) []string {
	places := []string{"dump.sql", "dump.custom", "backup/base/", "pg_stat_statements", "pg_stat_activity"}
	for _, n := range c.Nodes {
		places = append(places, n.DataDir+"/base/", n.DataDir+"/pg_wal/")
	}
	return append(append(places, auditPlaces(c)...), c.Nodes[0].ServerLogPath)
}

// lookEverywhere scans all that the cluster has written, what a dump and a base
// backup take out of it, and the views.
func lookEverywhere(t *testing.T, c *cluster.Cluster, scanner *canary.Scanner, seen []shown) {
	t.Helper()
	out := t.TempDir()
	for i := range c.Nodes {
		c.WaitReplayed(t, 1) // a standby's own follows one that it has replayed
		cluster.Exec(t, c.Connect(t, c.SuperDSN(i)), "CHECKPOINT")
	}
	views := []string{
		"SELECT coalesce(string_agg(s::text, E'\n'), '') FROM pg_stat_statements AS s",
		"SELECT coalesce(string_agg(a::text, E'\n'), '') FROM pg_stat_activity AS a",
		"SELECT coalesce(string_agg(a::text, E'\n'), '') FROM vault.secrets AS a",
		"SELECT coalesce(string_agg(a::text, E'\n'), '') FROM vault.secret_versions AS a",
	}
	conn := c.Connect(t, c.SuperDSN(0))
	for _, view := range views {
		scanner.Text(view, cluster.Text(t, conn, view))
	}
	for _, s := range seen {
		scanner.Text(s.place, s.text)
	}

	node, server := c.Libpq(t, c.Nodes[0].Proxy, c.Superuser), c.Libpq(t, c.Nodes[0].Postgres, c.Superuser)
	mustRun(t, node, "pg_dump", "--file", filepath.Join(out, "dump.sql"))
	mustRun(t, node, "pg_dump", "--format", "custom", "--file", filepath.Join(out, "custom"))
	// Its content is compressed: what it restores is what counts.
	mustRun(t, nil, "pg_restore", "--file", filepath.Join(out, "dump.custom"), filepath.Join(out, "custom"))
	mustRun(t, server, "pg_dumpall", "--globals-only", "--file", filepath.Join(out, "globals.sql"))
	auditTexts(t, c, out)
	mustRun(t, server, "pg_basebackup", "--pgdata", filepath.Join(out, "backup"), "--checkpoint", "fast", "--wal-method", "stream", "--no-sync")

	for _, dir := range []string{c.Dir(), out} {
		if err := scanner.Tree(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDirectPutIsNotLogged puts at the server itself, which refuses: it logs the
// error, as a server does by default, but neither the statement nor its
// parameters, nor what a function of the user's was called with.
func TestDirectPutIsNotLogged(t *testing.T) {
	c := shared
	user := c.AddUser(t, "direct", "*", "*")
	super := c.Connect(t, c.SuperDSN(0))
	// The statement itself is logged by log_statement and its kin: here only errors are.
	for _, setting := range []string{
		"log_statement = none", "log_min_duration_statement = -1", "log_duration = off", "auto_explain.log_min_duration = -1",
		"log_min_error_statement = error", "log_parameter_max_length_on_error = -1", "log_error_verbosity = verbose",
	} {
		cluster.Exec(t, super, "ALTER ROLE "+user+" SET "+setting)
	}
	one := canary.New("direct", "direct")
	value := one.Value()
	cluster.Exec(t, super, "CREATE FUNCTION public.wrapped(v text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN vault.put_secret('x', v); END $$")
	refused := func(sql string, args ...any) {
		t.Helper()
		// A connection each: the plan of one must not carry the other.
		_, err := c.Connect(t, c.DirectDSN(0, user)).Exec(t.Context(), sql, args...)
		var e *pgconn.PgError
		if !errors.As(err, &e) || e.Code != "0A000" {
			t.Errorf("%s: got %v, want 0A000", sql, err)
			return
		}
		// The context may name it: with this setting the server tells its own client what it was sent.
		if strings.Contains(e.Message+e.Detail+e.Hint, value) {
			t.Errorf("%s: the error shows the value: %+v", sql, *e)
		}
	}
	before := len(readFile(t, c.Nodes[0].ServerLogPath))
	calls := []string{"put_secret('x', %s)", "create_secret('x', 'manual', %s)", "rotate_secret('x', %s)", "verify_secret('x', %s)"}
	for _, call := range calls {
		refused("SELECT vault." + fmt.Sprintf(call, "'"+value+"'"))
		refused("SELECT vault."+fmt.Sprintf(call, "$1"), value)
	}
	refused("SELECT public.wrapped('" + value + "')")
	refused("SELECT public.wrapped($1)", value)

	log := readFile(t, c.Nodes[0].ServerLogPath)[before:]
	if got, want := strings.Count(log, "0A000: "), 2*len(calls)+2; got < want {
		t.Errorf("the log has %d refusals, want %d", got, want)
	}
	scanner := canary.NewScanner([]*canary.Canary{one})
	scanner.Text("the log", log)
	for _, f := range scanner.Findings {
		t.Errorf("leak: %s", f)
	}
}
