// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestLocks shares a cluster of its own, whose server logs little and, where that is what
// is tested, lets a silent node hold a name for a second only: a slow one is silent, too.
func TestLocks(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{Settings: map[string]string{"deadlock_timeout": "100ms"}})
	t.Run("HotName", func(t *testing.T) { hotName(t, c) })
	t.Run("OppositeOrders", func(t *testing.T) { oppositeOrders(t, c) })
	t.Run("Deadlock", func(t *testing.T) { deadlock(t, c) })
	t.Run("LockWait", func(t *testing.T) { lockWait(t, c) })
	t.Run("LockQueue", func(t *testing.T) { lockQueue(t, c) })
	super := c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, super, "ALTER SYSTEM SET hyperion_vault.lock_hold = '1s'")
	cluster.Exec(t, super, "SELECT pg_reload_conf()")
	cluster.Eventually(t, "the server's setting", func() bool { return cluster.Text(t, super, "SHOW hyperion_vault.lock_hold") == "1s" })
	t.Run("LongBlocks", func(t *testing.T) { longBlocks(t, c) })
	t.Run("FrozenNode", func(t *testing.T) { frozenNode(t, c) })
	t.Run("SilentBehindSavepoint", func(t *testing.T) { silentBehindSavepoint(t, c) })
	t.Run("ClientGone", func(t *testing.T) { clientGone(t, c) })
}

// hotName: eight writers of one name, in every protocol; each put lands, with a
// version of its own and no gap.
func hotName(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	const writers, puts = 8, 125
	modes := []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec}
	var conns []*pgx.Conn
	for i := range writers {
		conns = append(conns, c.Connect(t, c.DSN(0, c.User), func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = modes[i%len(modes)] }))
	}
	versions := make([][]int, writers)
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i, conn := range conns {
		wg.Go(func() {
			for n := range puts {
				var v int
				if errs[i] = conn.QueryRow(t.Context(), "SELECT vault.put_secret($1, $2)", "hot", fmt.Sprintf("%d of writer %d", n, i)).Scan(&v); errs[i] != nil {
					return
				}
				versions[i] = append(versions[i], v)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(versions...)
	slices.Sort(all)
	for i, v := range all {
		if v != i+1 {
			t.Fatalf("versions: got %d in place of %d", v, i+1)
		}
	}
	if got := len(all); got != writers*puts {
		t.Errorf("puts: got %d, want %d", got, writers*puts)
	}
}

// oppositeOrders: two names in one message are locked in the same order, however
// they are written.
func oppositeOrders(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	const rounds = 50
	texts := []string{
		"SELECT vault.put_secret('order/a', 'x'), vault.put_secret('order/b', 'x')",
		"SELECT vault.put_secret('order/b', 'y'), vault.put_secret('order/a', 'y')",
		"SELECT vault.put_secret('order/b', 'z'); SELECT vault.put_secret('order/a', 'z')",
		"SELECT vault.put_secret('order/a', 'z'); SELECT vault.put_secret('order/b', 'z')",
	}
	errs := make([]error, len(texts))
	var wg sync.WaitGroup
	for i, text := range texts {
		conn := c.Connect(t, c.DSN(0, c.User))
		wg.Go(func() {
			for range rounds {
				if _, err := conn.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"order/a", "order/b"} {
		if got, want := cluster.Text(t, c.Connect(t, c.SuperDSN(0)), "SELECT current_version::text FROM vault.secrets WHERE name = $1", name), fmt.Sprint(rounds*len(texts)); got != want {
			t.Errorf("%s: got version %s, want %s", name, got, want)
		}
	}
}

// deadlock: two blocks that lock in opposite orders, in messages of their own,
// are PostgreSQL's business: one gets 40P01, the other goes on.
func deadlock(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	a, b := dial(t, c.DSN(0, c.User)), dial(t, c.DSN(0, c.User))
	text := func(name string) *pgproto3.Query {
		return rawpg.Query("SELECT vault.put_secret('dead/" + name + "', 'x') AS v")
	}
	a.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
	b.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
	a.Ask(t, "T(v:23) D(1) C(SELECT_1) Z(T)", text("a"))
	b.Ask(t, "T(v:23) D(1) C(SELECT_1) Z(T)", text("b"))
	if err := a.Send(text("b")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, c, a.PID, "Lock/")
	if err := b.Send(text("a")); err != nil {
		t.Fatal(err)
	}
	// Either may be the victim.
	results := make(chan string, 2)
	for _, conn := range []*rawpg.Conn{a, b} {
		go func() {
			m, err := conn.Receive()
			if err == nil && m.Type == 'E' { // frees the other's lock
				err = conn.Send(rawpg.Query("ROLLBACK"))
			}
			results <- fmt.Sprint(m, err)
		}()
	}
	got := []string{<-results, <-results}
	slices.Sort(got)
	if want := []string{"E(40P01) <nil>", "T(v:23) <nil>"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// lockWait bounds how long a put waits for a name; it is the user's own setting.
func lockWait(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	holder := dial(t, c.DSN(0, c.User))
	holder.Ask(t, "C(BEGIN) T(v:23) D(1) C(SELECT_1) Z(T)", rawpg.Query("BEGIN; SELECT vault.put_secret('wait/a', 'x') AS v"))
	conn := dial(t, c.DSN(0, c.User))
	conn.Ask(t, "C(SET) Z(I)", rawpg.Query("SET hyperion_vault.lock_wait = '50ms'"))
	conn.Ask(t, "E(55P03) Z(I)", rawpg.Query("SELECT vault.put_secret('wait/a', 'y') AS v"))
	conn.Ask(t, "1 E(55P03) Z(I)", rawpg.Parse("", putText), rawpg.Bind("", "", "wait/a", "y"), rawpg.Execute("", 0), rawpg.Sync())
	conn.Ask(t, "C(BEGIN) C(SAVEPOINT) Z(T)", rawpg.Query("BEGIN; SAVEPOINT s"))
	conn.Ask(t, "E(55P03) Z(E)", rawpg.Query("SELECT vault.put_secret('wait/a', 'y') AS v"))
	conn.Ask(t, "C(ROLLBACK) T(v:23) D(1) C(SELECT_1) C(COMMIT) Z(I)", rawpg.Query("ROLLBACK TO s; SELECT 1 AS v; COMMIT"))
	// Other names are free meanwhile.
	conn.Ask(t, "T(v:23) D(1) C(SELECT_1) Z(I)", rawpg.Query("SELECT vault.put_secret('wait/b', 'y') AS v"))
	holder.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
	conn.Ask(t, "T(v:23) D(1) C(SELECT_1) Z(I)", rawpg.Query("SELECT vault.put_secret('wait/a', 'y') AS v"))
}

// lockQueue: who waits behind a waiter waits twice, and no longer for that.
func lockQueue(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	holder := dial(t, c.DSN(0, c.User))
	const puts = "SELECT vault.put_secret('queue/a', 'x') AS v; SELECT vault.put_secret('queue/b', 'x') AS v"
	holder.Ask(t, "T(v:23) D(1) C(SELECT_1) T(v:23) D(1) C(SELECT_1) Z(I)", rawpg.Query(puts))
	holder.Ask(t, "C(BEGIN) T(v:23) D(2) C(SELECT_1) T(v:23) D(2) C(SELECT_1) Z(T)", rawpg.Query("BEGIN; "+puts))
	wait := func(patience, name, where string) *rawpg.Conn {
		conn := dial(t, c.DSN(0, c.User))
		conn.Ask(t, "C(SET) Z(I)", rawpg.Query("SET hyperion_vault.lock_wait = '"+patience+"'"))
		if err := conn.Send(rawpg.Query("SELECT vault.put_secret('queue/" + name + "', 'y') AS v")); err != nil {
			t.Fatal(err)
		}
		waitFor(t, c, conn.PID, where)
		return conn
	}
	wait("3s", "a", "Lock/transactionid")
	second := wait("3s", "a", "Lock/tuple")
	third := wait("4500ms", "b", "Lock/transactionid")
	ended := make(chan string, 2)
	for conn, name := range map[*rawpg.Conn]string{second: "second", third: "third"} {
		go func() {
			m, err := conn.Receive()
			ended <- fmt.Sprint(name, " ", m, " ", err)
		}()
	}
	got := []string{<-ended, <-ended}
	if want := []string{"second E(55P03) <nil>", "third E(55P03) <nil>"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	holder.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
}

// longBlocks: a block that is idle behind its put, or runs a long statement, is
// left alone however long it holds the name.
func longBlocks(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	conn := dial(t, c.DSN(0, c.User))
	conn.Ask(t, "C(BEGIN) T(v:23) D(1) C(SELECT_1) Z(T)", rawpg.Query("BEGIN; SELECT vault.put_secret('long/a', 'x') AS v"))
	conn.Ask(t, "T(pg_sleep:2278) D C(SELECT_1) Z(T)", rawpg.Query("SELECT pg_sleep(1.5)"))
	other := dial(t, c.DSN(0, c.User))
	other.Ask(t, "T(pg_sleep:2278) D C(SELECT_1) Z(I)", rawpg.Query("SELECT pg_sleep(1.5)")) // conn is idle in its block
	conn.Ask(t, "T(v:23) D(2) C(SELECT_1) Z(T)", rawpg.Query("SELECT vault.put_secret('long/a', 'x') AS v"))
	conn.Ask(t, "C(COMMIT) Z(I)", rawpg.Query("COMMIT"))
	// The put itself may be slow.
	conn.Ask(t, "T(v:23,s:2278) D(3,) C(SELECT_1) Z(I)", rawpg.Query("SELECT vault.put_secret('long/a', 'x') AS v, pg_sleep(1.5) AS s"))
}

// frozenNode stops the node between the lock and the put: the server ends the
// silent backend after lock_hold, and the name is free.
func frozenNode(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	node := c.Nodes[0]
	cluster.Exec(t, c.Connect(t, c.DSN(0, c.User)), "SELECT vault.put_secret('frozen/a', 'first')")
	super := c.Connect(t, c.SuperDSN(0))
	held, err := super.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := held.Exec(t.Context(), "SELECT FROM vault.secrets WHERE name = 'frozen/a' FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	conn := dial(t, c.DSN(0, c.User))
	if err := conn.Send(rawpg.Query("SELECT vault.put_secret('frozen/a', 'second') AS v")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, c, conn.PID, "Lock/")
	node.Freeze(t)
	if err := held.Rollback(t.Context()); err != nil { // now the node has the lock, and does not know
		t.Fatal(err)
	}
	cluster.Eventually(t, "the end of the silent backend", func() bool {
		return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE pid = $1", conn.PID) == "0"
	})
	cluster.Exec(t, super, "SELECT FROM vault.secrets WHERE name = 'frozen/a' FOR UPDATE NOWAIT")
	node.Thaw(t)
	conn.Expect(t, "E(57P01)")
	again := dial(t, c.DSN(0, c.User))
	again.Ask(t, "T(pw:25) D(first) C(SELECT_1) Z(I)", rawpg.Query("SELECT vault.read_secret('frozen/a') AS pw"))
	again.Ask(t, "T(v:23) D(2) C(SELECT_1) Z(I)", rawpg.Query("SELECT vault.put_secret('frozen/a', 'third') AS v"))
}

// silentBehindSavepoint is a node's own session with the server: an error behind a
// savepoint, which leaves what was reserved before it, leaves the timer too; so does
// another one in the block that the first has aborted.
func silentBehindSavepoint(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	cluster.Exec(t, c.Connect(t, c.DSN(0, c.User)), "SELECT vault.put_secret('silent/a', 'first')")
	conn := dial(t, c.SuperDSN(0))
	conn.Ask(t, "C(BEGIN) T(first:23) D(2) C(SELECT_1) C(SAVEPOINT) Z(T)",
		rawpg.Query("BEGIN; SELECT first FROM vault.next_version('silent/a', 1, 'put'); SAVEPOINT s"))
	conn.Ask(t, "E(22012) Z(E)", rawpg.Query("SELECT 1/0"))
	conn.Ask(t, "E(25P02) Z(E)", rawpg.Query("SELECT 1"))
	conn.Ask(t, "C(ROLLBACK) Z(T)", rawpg.Query("ROLLBACK TO s"))
	// Without a Sync the server waits inside the batch.
	conn.Ask(t, "1 2 D(1) C(SELECT_1)", rawpg.Parse("", "SELECT 1"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Flush())
	conn.Expect(t, "E(57P01)")
	cluster.Eventually(t, "the end of the silent backend", func() bool {
		return cluster.Text(t, c.Connect(t, c.SuperDSN(0)), "SELECT count(*)::text FROM pg_stat_activity WHERE pid = $1", conn.PID) == "0"
	})
	cluster.Exec(t, c.Connect(t, c.SuperDSN(0)), "SELECT FROM vault.secrets WHERE name = 'silent/a' FOR UPDATE NOWAIT")
}

// clientGone: a client that vanishes while its put waits, or inside its block,
// leaves no lock.
func clientGone(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	super := c.Connect(t, c.SuperDSN(0))
	holder := dial(t, c.DSN(0, c.User))
	holder.Ask(t, "C(BEGIN) T(v:23) D(1) C(SELECT_1) Z(T)", rawpg.Query("BEGIN; SELECT vault.put_secret('gone/a', 'x') AS v"))
	waiter := dial(t, c.DSN(0, c.User))
	if err := waiter.Send(rawpg.Query("SELECT vault.put_secret('gone/a', 'y') AS v")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, c, waiter.PID, "Lock/")
	for _, conn := range []*rawpg.Conn{waiter, holder} {
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	cluster.Eventually(t, "the end of both backends", func() bool {
		return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE pid = ANY ($1)", []int32{int32(holder.PID), int32(waiter.PID)}) == "0"
	})
	// Whether the waiter's put was still done is open, as with PostgreSQL itself.
	cluster.Exec(t, c.Connect(t, c.DSN(0, c.User)), "SELECT vault.put_secret('gone/a', 'z')")
}

// waitFor returns when a backend waits for what event matches.
func waitFor(t *testing.T, c *cluster.Cluster, pid uint32, event string) {
	t.Helper()
	conn := c.Connect(t, c.SuperDSN(0))
	cluster.Eventually(t, "a backend that waits for "+event, func() bool {
		return cluster.Text(t, conn, "SELECT count(*)::text FROM pg_stat_activity WHERE pid = $1 AND wait_event_type || '/' || wait_event ~ $2", pid, event) == "1"
	})
}

// TestStandby reads through the node beside a standby: while replay is in its way,
// while the primary is down, and after a crash.
func TestStandby(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{Standbys: 1, Settings: map[string]string{"max_standby_streaming_delay": "100ms", "autovacuum": "off"}})
	conn := c.Connect(t, c.DSN(0, c.User))
	cluster.Exec(t, conn, "SELECT vault.put_secret('standby/a', 's3cr3t')")
	cluster.Exec(t, conn, "CREATE VIEW standby_view AS SELECT vault.read_secret('standby/a') AS pw")
	c.WaitReplayed(t, 1)
	conflicts(t, c)
	early := dial(t, c.DSN(1, c.User)) // from before
	early.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN READ ONLY"))
	early.Ask(t, "E(25006) Z(E)", rawpg.Query("SELECT vault.put_secret('standby/a', 'x')"))
	if !strings.Contains(early.Err.Hint, c.Nodes[0].Postgres) {
		t.Errorf("hint: got %q, want one that names the primary %s", early.Err.Hint, c.Nodes[0].Postgres)
	}
	early.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
	if err := c.Nodes[0].StopServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Nodes[0].StopNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*rawpg.Conn{early, dial(t, c.DSN(1, c.User))} {
		s.Ask(t, "T(pw:25) D(s3cr3t) C(SELECT_1) Z(I)", rawpg.Query("SELECT vault.read_secret('standby/a') AS pw"))
		s.Ask(t, "T(pw:25) D(s3cr3t) C(SELECT_1) Z(I)", rawpg.Query("TABLE standby_view"))
		s.Ask(t, "1 2 D(s3cr3t) C(SELECT_1) Z(I)", rawpg.Parse("", readText), rawpg.Bind("", "", "standby/a"), rawpg.Execute("", 0), rawpg.Sync())
		s.Ask(t, "C(BEGIN) C(DECLARE_CURSOR) T(pw:25) D(s3cr3t) C(FETCH_1) C(COMMIT) Z(I)",
			rawpg.Query("BEGIN READ ONLY; DECLARE c CURSOR FOR SELECT vault.read_secret('standby/a') AS pw; FETCH c; COMMIT"))
		s.Ask(t, "T(v:23) D(1) C(SELECT_1) Z(I)", rawpg.Query("SELECT vault.verify_secret('standby/a', 's3cr3t') AS v"))
		s.Ask(t, "T(pw:25) E(P0002) Z(I)", rawpg.Query("SELECT vault.read_secret('standby/none') AS pw"))
		s.Ask(t, "E(25006) Z(I)", rawpg.Query("SELECT vault.put_secret('standby/a', 'standby canary')"))
		s.Ask(t, "E(25006) Z(I)", rawpg.Parse("", putText), rawpg.Bind("", "", "standby/a", "standby canary"), rawpg.Execute("", 0), rawpg.Sync())
		s.Settled(t, "I")
	}
	crashed(t, c)
}

// TestKilledNode kills the node with SIGKILL amid puts: what was acknowledged is
// there, what was not is there whole or not at all.
func TestKilledNode(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{})
	node := c.Nodes[0]
	const writers = 8
	type landed struct{ tried, acked []string } // values by order; the i-th acked one has version i+1
	names := make([]landed, writers)
	enough, ended := make(chan struct{}, 1000), make(chan struct{})
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		conn := c.Connect(t, c.DSN(0, c.User))
		wg.Go(func() {
			for n := 0; ; n++ {
				value := fmt.Sprintf("value %d of %d", n, i)
				names[i].tried = append(names[i].tried, value)
				if _, errs[i] = conn.Exec(t.Context(), "SELECT vault.put_secret($1, $2)", fmt.Sprintf("killed/%d", i), value); errs[i] != nil {
					return // the node died
				}
				names[i].acked = append(names[i].acked, value)
				select {
				case enough <- struct{}{}:
				default:
				}
			}
		})
	}
	go func() {
		wg.Wait()
		close(ended)
	}()
	for range 200 {
		select {
		case <-enough:
		case <-ended:
			t.Fatalf("nobody writes any more: %v", errors.Join(errs...))
		}
	}
	if err := node.KillNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-ended
	super := c.Connect(t, c.SuperDSN(0))
	cluster.Eventually(t, "the end of the server's sessions", func() bool {
		return cluster.Text(t, super, "SELECT count(*)::text FROM pg_stat_activity WHERE usename = $1", c.User) == "0"
	})
	if got := cluster.Text(t, super, `SELECT count(*)::text FROM vault.secrets s WHERE current_version = 0 OR current_version <>
		(SELECT max(version) FROM vault.secret_versions v WHERE v.secret_id = s.id) OR 1 <>
		(SELECT count(*) FROM vault.secret_versions v WHERE v.secret_id = s.id AND stage = 'current')`); got != "0" {
		t.Errorf("half-written secrets: got %s, want none", got)
	}
	if err := node.StartNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := c.Connect(t, c.DSN(0, c.User))
	for i, l := range names {
		name := fmt.Sprintf("killed/%d", i)
		if len(l.acked) == 0 {
			continue
		}
		var version int
		if err := super.QueryRow(t.Context(), "SELECT current_version FROM vault.secrets WHERE name = $1", name).Scan(&version); err != nil {
			t.Fatal(err)
		}
		// The last put may have been committed without the client being told.
		if version != len(l.acked) && version != len(l.acked)+1 {
			t.Errorf("%s: got version %d after %d acknowledged puts", name, version, len(l.acked))
		}
		if got, want := cluster.Text(t, conn, "SELECT vault.read_secret($1)", name), l.tried[version-1]; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		if got, want := cluster.Text(t, conn, "SELECT vault.put_secret($1, 'after')::text", name), fmt.Sprint(version+1); got != want {
			t.Errorf("%s: put after the restart: got version %s, want %s", name, got, want)
		}
	}
}
