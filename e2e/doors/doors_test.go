// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package doors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// A result is what came of a door.
type result struct {
	canary *canary.Canary
	err    *pgproto3.ErrorResponse
	fault  string // what is wrong with it
	sealed bool
}

// A runner sends doors and keeps what came of them.
type runner struct {
	c       *cluster.Cluster
	doors   []door
	results []result
}

// TestDoors sends every door of the table through the node, reads back what was
// taken, and looks for all values wherever the server and the node write.
func TestDoors(t *testing.T) {
	c := shared
	prepare(t, c)
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	begun := time.Now()
	r := &runner{c: c}
	for _, d := range table(rand.New(rand.NewPCG(*seed, 0)), *strength) {
		if strings.Contains(d.String(), *only) {
			r.doors = append(r.doors, d)
		}
	}
	t.Logf("-seed %d -strength %d: %d doors, chosen in %s", *seed, *strength, len(r.doors), time.Since(begun).Round(time.Millisecond))
	r.results = make([]result, len(r.doors))
	begun = time.Now()
	r.run(t)
	t.Logf("sent in %s", time.Since(begun).Round(time.Millisecond))
	seen := r.control(t)
	begun = time.Now()
	r.scan(t, seen)
	t.Logf("looked through in %s", time.Since(begun).Round(time.Millisecond))
	r.report(t)
}

func (r *runner) run(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range workers {
		keeper := r.c.Connect(t, r.c.DSN(0, r.c.User))
		wg.Go(func() {
			p := &pool{c: r.c, sessions: map[string]*session{}}
			defer p.close()
			for i := w; i < len(r.doors); i += workers {
				r.results[i] = r.open(t.Context(), p, keeper, i, w)
			}
		})
	}
	wg.Wait()
}

// open sends one door.
func (r *runner) open(ctx context.Context, p *pool, keeper *pgx.Conn, i, worker int) result {
	d := r.doors[i]
	res := result{canary: canary.New(fmt.Sprint(i), "doors")}
	fault := func(format string, args ...any) result {
		res.fault = fmt.Sprintf(format, args...)
		return res
	}
	value := d.value(res.canary)
	if d.call.setup != "" {
		args := []any{res.canary.Secret, value}[:strings.Count(d.call.setup, "$")]
		if _, err := keeper.Exec(ctx, d.call.setup, args...); err != nil {
			return fault("setup: %v", err)
		}
	}
	s, err := p.get(ctx, d.setting, d.database)
	if err != nil {
		return fault("log-in: %v", err)
	}
	if err := d.begin(s, worker); err != nil {
		return fault("%v", err)
	}
	e, err := s.send(d.transport.messages(d.text(res.canary, worker), value, number(d.setting.ahead, worker), d.twice())...)
	if err != nil {
		return fault("%v (%+v)", err, e)
	}
	res.err = e
	if err := d.end(s, e); err != nil {
		return fault("behind: %v", err)
	}
	if err := p.put(s, d.setting, d.database); err != nil {
		return fault("%v", err)
	}
	return r.judge(ctx, keeper, d, res, value)
}

func number(text string, worker int) string {
	return strings.ReplaceAll(text, "%w", fmt.Sprint(worker))
}

// begin brings the session to where the door is.
func (d door) begin(s *session, worker int) error {
	all := slices.Concat(d.setting.before, []string{d.shape.before}, d.transport.before)
	if d.database != databases[0] {
		all = d.transport.before
	}
	for _, text := range all {
		if text == "" {
			continue
		}
		// Whatever fails is meant to.
		if e, err := s.query(number(text, worker)); err != nil || e != nil && !slices.Contains([]string{"22012", "25P02", "25001", "3B001"}, e.Code) {
			return fmt.Errorf("%s: %+v %w", text, e, err)
		}
	}
	return nil
}

// end leaves the blocks in which the door stood.
func (d door) end(s *session, refused *pgproto3.ErrorResponse) error {
	after := slices.Clone(d.transport.after)
	if d.setting.block {
		after = append(after, "COMMIT")
	}
	if refused != nil || s.state == 'I' {
		return nil
	}
	for _, text := range after {
		if e, err := s.query(text); e != nil && e.Code != "3B001" || err != nil {
			return fmt.Errorf("%s: %+v %w", text, e, err)
		}
	}
	return nil
}

// judge compares what came of a door with what must.
func (r *runner) judge(ctx context.Context, keeper *pgx.Conn, d door, res result, value string) result {
	states := d.expect(res.canary)
	var kept *string
	if err := keeper.QueryRow(ctx, "SELECT vault.read_secret($1, missing_ok => true)", res.canary.Secret).Scan(&kept); err != nil {
		res.fault = fmt.Sprintf("read: %v", err)
		return res
	}
	there := kept != nil && *kept == value
	// A text that must be refused never comes to its own error at the server.
	allowed := slices.Concat(states, d.mayRefuse())
	if len(states) == 0 {
		allowed = slices.Concat(d.shape.states, allowed)
	}
	switch {
	case res.err == nil && len(states) > 0:
		res.fault = fmt.Sprintf("taken, want it refused with %v", states)
	case res.err == nil && len(d.shape.states) > 0:
		res.fault = fmt.Sprintf("no error, want the server's own %v", d.shape.states)
	case res.err == nil && d.stays() && !there:
		res.fault = fmt.Sprintf("taken, but read back as %q, want %q", text(kept), value)
	case res.err == nil:
		res.sealed = true
	case len(allowed) == 0:
		res.fault = "refused, want it sealed"
	case !slices.Contains(allowed, res.err.Code):
		res.fault = fmt.Sprintf("refused, want %v", allowed)
	case there && d.call.setup == "":
		res.fault = "refused, but stored"
	case !advised(res.err):
		res.fault = "refused without a hint"
	}
	return res
}

// advised reports that an error says what to do instead. Only the node's own are
// looked at: a server's have a place in its source, and its words. 25P02 is in
// the server's words also where the node says it, and these say what to do.
func advised(e *pgproto3.ErrorResponse) bool {
	return e.Routine != "" || e.Hint != "" || e.Code == "25P02"
}

func text(s *string) string {
	if s == nil {
		return "NULL"
	}
	return *s
}

// control sends each literal straight to the server, which nothing seals: the
// scan must see it, or it would see no leak.
func (r *runner) control(t *testing.T) map[*canary.Canary]string {
	t.Helper()
	conn := r.c.Connect(t, r.c.DirectDSN(0, r.c.User))
	sent := map[*canary.Canary]string{}
	for i, l := range goodLiterals {
		one := canary.New(fmt.Sprint("control-", i), "doors")
		sent[one] = l.name
		_, err := conn.PgConn().Exec(t.Context(), "SELECT length("+l.write(one)+")").ReadAll()
		if err != nil {
			t.Errorf("control %s: %v", l.name, err)
		}
	}
	return sent
}

// scan looks for the canaries of all doors.
func (r *runner) scan(t *testing.T, control map[*canary.Canary]string) {
	t.Helper()
	of := map[*canary.Canary]int{}
	var all []*canary.Canary
	for i := range r.results {
		of[r.results[i].canary] = i
		all = append(all, r.results[i].canary)
	}
	for c := range control {
		all = append(all, c)
	}
	super := r.c.Connect(t, r.c.SuperDSN(0))
	cluster.Exec(t, super, "CHECKPOINT")
	scanner := canary.NewScanner(all)
	for _, view := range []string{
		"SELECT coalesce(string_agg(s::text, E'\n'), '') FROM pg_stat_statements AS s",
		"SELECT coalesce(string_agg(a::text, E'\n'), '') FROM pg_stat_activity AS a",
	} {
		scanner.Text(view, cluster.Text(t, super, view))
	}
	for i := range r.results {
		if e := r.results[i].err; e != nil {
			scanner.Text(fmt.Sprintf("the answer to door %d", i), fmt.Sprintf("%+v", *e))
		}
	}
	if err := scanner.Tree(r.c.Dir()); err != nil {
		t.Fatal(err)
	}
	t.Logf("looked through %d places, %d MB", scanner.Files, scanner.Bytes>>20)
	for _, f := range scanner.Findings {
		if i, is := of[f.Canary]; is && r.results[i].fault == "" {
			r.results[i].fault = "leak: " + f.String()
		}
		delete(control, f.Canary)
	}
	for _, name := range control {
		t.Errorf("the scan does not see a literal %q that the server got", name)
	}
}

// report says what came of the doors.
func (r *runner) report(t *testing.T) {
	t.Helper()
	outcomes := map[string]int{}
	faults := 0
	for i, res := range r.results {
		switch {
		case res.fault != "":
			outcomes["wrong"]++
			if faults++; faults <= 40 {
				t.Errorf("%s\n%.600s\n%s %s", r.doors[i], r.doors[i].text(res.canary, i%workers), res.fault, answer(res.err))
			}
		case res.sealed:
			outcomes["sealed"]++
		case len(r.doors[i].expect(res.canary)) == 0 && !slices.Contains(r.doors[i].mayRefuse(), res.err.Code):
			outcomes["failed at the server, sealed: "+res.err.Code]++
		default:
			outcomes["refused "+res.err.Code]++
		}
	}
	t.Logf("%d doors: %v", len(r.results), outcomes)
	if len(r.results) < 1000 && *only == "" {
		t.Errorf("only %d doors", len(r.results))
	}
}

func answer(e *pgproto3.ErrorResponse) string {
	if e == nil {
		return ""
	}
	return fmt.Sprintf("(%s %s; %s; %s)", e.Code, e.Message, e.Detail, e.Hint)
}
