// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// TestNotices come between the rows of opened secrets, notifications before
// ReadyForQuery.
func TestNotices(t *testing.T) {
	put(t, "notice/a", "s3cr3t")
	conn := client(t)
	cluster.Exec(t, conn, `CREATE FUNCTION notice_say(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'row %', n; RETURN n; END $$`)
	cluster.Exec(t, conn, "LISTEN notice_channel")
	c := raw(t)
	const text = "SELECT vault.read_secret('notice/a') AS pw, notice_say(n) AS n FROM generate_series(1, 2) n"
	c.Ask(t, "T(pw:25,n:23) N(row_1) D(s3cr3t,1) N(row_2) D(s3cr3t,2) C(SELECT_2) Z(I)", rawpg.Query(text))
	c.Ask(t, "1 2 N(row_1) D(s3cr3t,1) N(row_2) D(s3cr3t,2) C(SELECT_2) Z(I)", rawpg.Parse("", text), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync())
	c.Ask(t, "C(LISTEN) Z(I)", rawpg.Query("LISTEN notice_channel"))
	c.Ask(t, "T(pw:25) D(s3cr3t) C(SELECT_1) C(NOTIFY) A(notice_channel:mine) Z(I)",
		rawpg.Query("SELECT vault.read_secret('notice/a') AS pw; NOTIFY notice_channel, 'mine'"))
	c.Ask(t, "T(v:23) D(1) C(SELECT_1) C(NOTIFY) A(notice_channel:put) Z(I)",
		rawpg.Query("SELECT vault.put_secret('notice/b', 'notice canary') AS v; NOTIFY notice_channel, 'put'"))
	// While it is idle.
	other := client(t)
	cluster.Exec(t, other, "SELECT pg_notify('notice_channel', 'from afar')")
	c.Expect(t, "A(notice_channel:from_afar)")
	for range 3 {
		if _, err := conn.WaitForNotification(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.Settled(t, "I")
}

// TestSealedTextStays: what reaches the result by another type is sealed text,
// with one notice a statement.
func TestSealedTextStays(t *testing.T) {
	put(t, "stays/a", "stays canary")
	c := raw(t)
	const notice = "N(sealed_text_left_in_place)"
	c.Ask(t, "T(x:25) "+notice+" D(hv1.) D(hv1.) C(SELECT_2) Z(I)", rawpg.Query("SELECT concat(vault.read_secret('stays/a')) AS x FROM generate_series(1, 2)"))
	c.Ask(t, "1 2 "+notice+" D(hv1.) C(SELECT_1) Z(I)", rawpg.Parse("", "SELECT concat(vault.read_secret('stays/a')) AS x"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync())
	c.Ask(t, notice+" H", rawpg.Query("COPY (SELECT vault.read_secret('stays/a')) TO STDOUT"))
	m, err := c.Receive()
	if err != nil || m.Type != 'd' || !strings.HasPrefix(string(m.Body), "hv1.") {
		t.Fatalf("copied: got %s %v, want sealed text", m, err)
	}
	c.Expect(t, "c C(COPY_1) Z(I)")
	c.Ask(t, "E(0A000) Z(I)", rawpg.Query("SELECT ARRAY[vault.read_secret('stays/a')] AS x"))
	c.Ask(t, "E(0A000) Z(I)", rawpg.Query("CREATE TABLE stays AS SELECT vault.read_secret('stays/a') AS pw"))
	c.Settled(t, "I")
}

// TestCopy: copy data passes; its failures leave the pipeline in step.
func TestCopy(t *testing.T) {
	put(t, "copy/a", "s3cr3t")
	cluster.Exec(t, client(t), "CREATE TABLE copied (n int)")
	data := func(s string) *pgproto3.CopyData { return &pgproto3.CopyData{Data: []byte(s)} }
	done := &pgproto3.CopyDone{}
	in := []pgproto3.FrontendMessage{rawpg.Parse("", "COPY copied FROM STDIN"), rawpg.Bind("", ""), rawpg.Execute("", 0)}
	read := []pgproto3.FrontendMessage{rawpg.Parse("", readText), rawpg.Bind("", "", "copy/a"), rawpg.Execute("", 0), rawpg.Sync()}
	join := func(parts ...any) (all []pgproto3.FrontendMessage) {
		for _, p := range parts {
			switch p := p.(type) {
			case []pgproto3.FrontendMessage:
				all = append(all, p...)
			case pgproto3.FrontendMessage:
				all = append(all, p)
			}
		}
		return all
	}
	const answer = " 1 2 D(s3cr3t) C(SELECT_1) Z(I)"
	c := raw(t)
	// Simple, pipelined with its data and with what follows.
	c.Ask(t, "G C(COPY_2) Z(I)"+answer, join(rawpg.Query("COPY copied FROM STDIN"), data("1\n"), data("2\n"), done, read)...)
	c.Ask(t, "G E(22P02) Z(I)"+answer, join(rawpg.Query("COPY copied FROM STDIN"), data("x\n"), data("2\n"), done, read)...)
	c.Ask(t, "G E(57014) Z(I)"+answer, join(rawpg.Query("COPY copied FROM STDIN"), data("1\n"), &pgproto3.CopyFail{Message: "no"}, read)...)
	c.Ask(t, "G C(COPY_1) T(pw:25) D(s3cr3t) C(SELECT_1) Z(I)"+answer,
		join(rawpg.Query("COPY copied FROM STDIN; SELECT vault.read_secret('copy/a') AS pw"), data("1\n"), done, read)...)
	// Extended: a Sync in front of the data is ignored by the server while it copies.
	c.Ask(t, "1 2 G", join(in, rawpg.Flush())...)
	c.Ask(t, "C(COPY_1) Z(I)"+answer, join(data("3\n"), done, rawpg.Sync(), read)...)
	c.Ask(t, "1 2 G", join(in, rawpg.Sync())...)
	c.Ask(t, "C(COPY_1) Z(I)"+answer, join(data("3\n"), done, rawpg.Sync(), read)...)
	c.Ask(t, "1 2 G C(COPY_1) Z(I)"+answer, join(in, rawpg.Sync(), data("3\n"), done, rawpg.Sync(), read)...)
	c.Ask(t, "1 2 G C(COPY_0)"+answer, join(in, rawpg.Sync(), done, read)...) // and the batch goes on
	c.Ask(t, "1 2 G E(22P02) Z(I)"+answer, join(in, data("x\n"), data("4\n"), done, rawpg.Sync(), read)...)
	c.Ask(t, "1 2 G E(57014) Z(I)"+answer, join(in, &pgproto3.CopyFail{Message: "no"}, rawpg.Sync(), read)...)
	// A Sync is ignored up to the data's end in a Query too, in each of its copies.
	c.Ask(t, "G C(COPY_0) Z(I)"+answer, join(rawpg.Query("COPY copied FROM STDIN"), rawpg.Sync(), done, read)...)
	c.Ask(t, "G C(COPY_0) G C(COPY_0) Z(I) Z(I)"+answer,
		join(rawpg.Query("COPY copied FROM STDIN; COPY copied FROM STDIN"), rawpg.Sync(), done, rawpg.Sync(), rawpg.Flush(), done, rawpg.Sync(), read)...)
	c.Ask(t, "T(pw:25) D(s3cr3t) C(SELECT_1) G C(COPY_0) Z(I)"+answer,
		join(rawpg.Query("SELECT vault.read_secret('copy/a') AS pw; COPY copied FROM STDIN"), rawpg.Sync(), done, read)...)
	c.Ask(t, "1 2 G E(57014) Z(I)"+answer, join(in, rawpg.Sync(), data("4\n"), rawpg.Sync(), &pgproto3.CopyFail{Message: "no"}, rawpg.Sync(), read)...)
	c.Ask(t, "G E(22P02) Z(I) Z(I)"+answer, join(rawpg.Query("COPY copied FROM STDIN"), data("x\n"), rawpg.Sync(), done, read)...)
	// A trigger of the statement fails it behind G, before the server reads on.
	for _, sql := range []string{
		"CREATE TABLE copy_refused (n int)",
		"CREATE FUNCTION copy_refused() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$",
		"CREATE TRIGGER no BEFORE INSERT ON copy_refused EXECUTE FUNCTION copy_refused()",
	} {
		cluster.Exec(t, client(t), sql)
	}
	refused := []pgproto3.FrontendMessage{rawpg.Parse("", "COPY copy_refused FROM STDIN"), rawpg.Bind("", ""), rawpg.Execute("", 0)}
	c.Ask(t, "1 2 G E(P0001) Z(I)", join(refused, rawpg.Sync())...)
	c.Ask(t, "T(?column?:23) D(1) C(SELECT_1) Z(I)", rawpg.Query("SELECT 1"))
	c.Ask(t, "1 2 G E(P0001) Z(I) Z(I)"+answer, join(refused, rawpg.Sync(), data("1\n"), done, rawpg.Sync(), read)...)
	c.Ask(t, "G E(P0001) Z(I) Z(I)"+answer, join(rawpg.Query("COPY copy_refused FROM STDIN"), rawpg.Sync(), done, read)...)
	// It fails before it takes data: the Sync counts, the data does not.
	bad := []pgproto3.FrontendMessage{rawpg.Parse("", "COPY nowhere FROM STDIN"), rawpg.Bind("", ""), rawpg.Execute("", 0)}
	c.Ask(t, "1 2 E(42P01) Z(I)"+answer, join(bad, data("1\n"), done, rawpg.Sync(), read)...)
	// Data that nobody asked for, or no longer: pgjdbc ends a copy that has failed.
	c.Ask(t, "G E(22P02) Z(I)", join(rawpg.Query("COPY copied FROM STDIN"), data("x\n"))...)
	c.Ask(t, "T(pw:25) D(s3cr3t) C(SELECT_1) Z(I)", join(data("1\n"), done, rawpg.Query("SELECT vault.read_secret('copy/a') AS pw"))...)
	c.Ask(t, "1 2 D(s3cr3t) C(SELECT_1) Z(I)", join(done, data("1\n"), read)...)
	c.Ask(t, "1 2 D(1) C(SELECT_1) 1 2 D(s3cr3t) C(SELECT_1) Z(I)",
		join(rawpg.Parse("", "SELECT 1"), rawpg.Bind("", ""), rawpg.Execute("", 0), done, read)...)
	// Out, simple and extended, and in the middle of a batch.
	c.Ask(t, "H d(7_) c C(COPY_1) Z(I)"+answer, join(rawpg.Query("COPY (SELECT 7) TO STDOUT"), read)...)
	out := []pgproto3.FrontendMessage{rawpg.Parse("", "COPY (SELECT 7) TO STDOUT"), rawpg.Bind("", ""), rawpg.Execute("", 0)}
	c.Ask(t, "1 2 H d(7_) c C(COPY_1)"+answer, join(out, read)...)
	c.Settled(t, "I")
	if got := cluster.Text(t, super(t), "SELECT string_agg(n::text, ',' ORDER BY n) FROM copied"); got != "1,1,2,3,3,3" {
		t.Errorf("copied: got %s, want 1,1,2,3,3,3", got)
	}
}

// TestPutDuringCopy: a client that sends something else in the middle of a copy
// breaks the protocol. It is told so, and nobody waits for anybody.
func TestPutDuringCopy(t *testing.T) {
	cluster.Exec(t, client(t), "CREATE TABLE copy_broken (n int)")
	for _, msg := range [][]pgproto3.FrontendMessage{
		{rawpg.Query("SELECT vault.put_secret('copy/b', 'copy canary')")},
		{rawpg.Parse("", putText), rawpg.Bind("", "", "copy/b", "copy canary"), rawpg.Execute("", 0), rawpg.Sync()},
		{rawpg.Query("SELECT vault.read_secret('copy/b')")},
		{rawpg.Query("SELECT 1")},
	} {
		c := raw(t)
		c.Ask(t, "G", rawpg.Query("COPY copy_broken FROM STDIN"))
		if err := c.Send(msg...); err != nil {
			t.Fatal(err)
		}
		m, err := c.Receive()
		if got := m.String(); err != nil || got != "E(08P01)" {
			t.Fatalf("%T: got %s %v, want E(08P01)", msg[0], got, err)
		}
		for err == nil {
			_, err = c.Receive()
		}
		if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%T: got %v, want the end of the connection", msg[0], err)
		}
	}
	if got := version(t, "copy/b"); got != "0" {
		t.Errorf("version: got %s, want none", got)
	}
	shared.NeverSent(t, "copy canary")
}

// TestHalfClosed: a client that has stopped writing gets its answers.
func TestHalfClosed(t *testing.T) {
	put(t, "half/a", "s3cr3t")
	read := []pgproto3.FrontendMessage{rawpg.Parse("", readText), rawpg.Bind("", "", "half/a"), rawpg.Execute("", 0), rawpg.Sync()}
	for _, tt := range []struct {
		want string
		msgs []pgproto3.FrontendMessage
	}{
		{"T(x:23) D(1) C(SELECT_1) Z(I)", []pgproto3.FrontendMessage{rawpg.Query("SELECT 1 AS x FROM pg_sleep(0.1)")}},
		{"T(pw:25) D(s3cr3t) C(SELECT_1) Z(I)", []pgproto3.FrontendMessage{rawpg.Query("SELECT vault.read_secret('half/a') AS pw FROM pg_sleep(0.1)")}},
		{"1 2 D(s3cr3t) C(SELECT_1) Z(I)", read},
		{"T(v:23) D(1) C(SELECT_1) Z(I)", []pgproto3.FrontendMessage{rawpg.Query("SELECT vault.put_secret('half/b', 'half canary') AS v")}},
		{"T(v:23) D(2) C(SELECT_1) Z(I) T(x:23) D(1) C(SELECT_1) Z(I)", []pgproto3.FrontendMessage{rawpg.Query("SELECT vault.put_secret('half/b', 'half canary') AS v"), rawpg.Query("SELECT 1 AS x")}},
	} {
		c := raw(t)
		if err := c.Send(append(tt.msgs, &pgproto3.Terminate{})...); err != nil {
			t.Fatal(err)
		}
		if err := c.Net.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c.Expect(t, tt.want)
		if m, err := c.Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("behind %s: got %s %v, want the end", tt.want, m, err)
		}
	}
	// Without a Terminate the server sees the end of the stream.
	c := raw(t)
	if err := c.Send(read...); err != nil {
		t.Fatal(err)
	}
	if err := c.Net.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.Expect(t, "1 2 D(s3cr3t) C(SELECT_1) Z(I)")
	watcher := super(t)
	cluster.Eventually(t, "the end of the backend", func() bool {
		return cluster.Text(t, watcher, "SELECT count(*)::text FROM pg_stat_activity WHERE pid = $1", c.PID) == "0"
	})
	shared.NeverSent(t, "half canary")
}

// TestCancel interrupts what runs, a put that waits for its name, and nothing
// else.
func TestCancel(t *testing.T) {
	put(t, "cancel/a", "s3cr3t")
	watcher := super(t)
	waiting := func(c *rawpg.Conn, event string) {
		t.Helper()
		cluster.Eventually(t, "a backend that waits", func() bool {
			return cluster.Text(t, watcher, "SELECT count(*)::text FROM pg_stat_activity WHERE pid = $1 AND wait_event_type || '/' || wait_event ~ $2", c.PID, event) == "1"
		})
	}
	c := raw(t)
	cancel := func(event string) {
		t.Helper()
		waiting(c, event)
		if err := c.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Send(rawpg.Query("SELECT pg_sleep(600)")); err != nil {
		t.Fatal(err)
	}
	cancel("PgSleep")
	c.Expect(t, "T(pg_sleep:2278) E(57014) Z(I)")
	if err := c.Send(rawpg.Query("SELECT vault.read_secret('cancel/a') AS pw, pg_sleep(600) AS s")); err != nil {
		t.Fatal(err)
	}
	cancel("PgSleep")
	c.Expect(t, "T(pw:25,s:2278) E(57014) Z(I)")

	holder := raw(t)
	hold := func() {
		holder.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
		holder.Ask(t, "1 2 D C(SELECT_1) Z(T)", rawpg.Parse("", "SELECT FROM vault.put_secret($1, $2)"), rawpg.Bind("", "", "cancel/a", "cancel canary"), rawpg.Execute("", 0), rawpg.Sync())
	}
	hold()
	if err := c.Send(rawpg.Query("SELECT vault.put_secret('cancel/a', 'cancel canary')")); err != nil {
		t.Fatal(err)
	}
	cancel("Lock/")
	c.Expect(t, "E(57014) Z(I)")
	if err := c.Send(rawpg.Parse("", putText), rawpg.Bind("", "", "cancel/a", "cancel canary"), rawpg.Execute("", 0), rawpg.Sync()); err != nil {
		t.Fatal(err)
	}
	cancel("Lock/")
	c.Expect(t, "1 E(57014) Z(I)")
	c.Ask(t, "C(BEGIN) Z(T)", rawpg.Query("BEGIN"))
	if err := c.Send(rawpg.Query("SELECT vault.put_secret('cancel/a', 'cancel canary')")); err != nil {
		t.Fatal(err)
	}
	cancel("Lock/")
	c.Expect(t, "E(57014) Z(E)")
	c.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))
	holder.Ask(t, "C(ROLLBACK) Z(I)", rawpg.Query("ROLLBACK"))

	// With nothing to cancel, and with a wrong key, nothing happens.
	if err := c.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Ask(t, "T(pw:25) D(s3cr3t) C(SELECT_1) Z(I)", rawpg.Query("SELECT vault.read_secret('cancel/a') AS pw"))
	wrong := *c
	wrong.Secret = append([]byte{c.Secret[0] ^ 1}, c.Secret[1:]...)
	if err := wrong.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Ask(t, "T(pid:25) D("+cluster.Text(t, watcher, "SELECT $1::int::text", c.PID)+") C(SELECT_1) Z(I)", rawpg.Query("SELECT pg_backend_pid()::text AS pid"))
	c.Settled(t, "I")
}
