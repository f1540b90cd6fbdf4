// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"bytes"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// oddities are conversations that a hostile reader thought of.
var oddities = []struct {
	name  string
	steps []step
}{
	{"rows that stream are not given twice", []step{
		query("T(i:23,b:25,w:25) D(1,"+long+",∅) D(2,"+long+",∅) E(25006) Z(I)",
			"SELECT i, repeat('x', 100000) AS b, CASE WHEN i = 3 THEN r.w('big') END AS w FROM generate_series(1, 3) i"),
	}},
	{"a setting of the batch only is not lost", []step{
		query("C(SET) Z(I)", "SET app.tenant = 'wrong'"),
		ask("1 2 D(right) C(SELECT_1) E(25006) Z(I)", rawpg.Parse("", "SELECT set_config('app.tenant', $1, true)"), rawpg.Bind("", "", "right"), rawpg.Execute("", 0),
			rawpg.Parse("", "INSERT INTO r.t (v) VALUES (current_setting('app.tenant'))"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync()),
		query("T(t:25) D(wrong) C(SELECT_1) Z(I)", "SELECT current_setting('app.tenant') AS t"),
	}},
	{"a named statement is parsed, bound and run in one batch", []step{
		query("T(n:23) D(1) C(SELECT_1) Z(I)", "SELECT 1 AS n"),
		ask("1 2 T(w:25) D(np) C(SELECT_1) Z(I)", rawpg.Parse("S_1", "SELECT r.w($1)"), rawpg.Bind("", "S_1", "np"), rawpg.DescribePortal(""), rawpg.Execute("", 0), rawpg.Sync()),
		ask("2 D(np) C(SELECT_1) Z(I)", rawpg.Bind("", "S_1", "np"), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"the unnamed statement reads a secret", []step{
		ask("1 1 Z(I)", rawpg.Parse("ins", "INSERT INTO r.t (v) VALUES ('u')"), rawpg.Parse("", "SELECT vault.read_secret('odd/none', missing_ok => true) AS s"), rawpg.Sync()),
		ask("2 C(INSERT_0_1) Z(I)", rawpg.Bind("", "ins"), rawpg.Execute("", 0), rawpg.Sync()),
		ask("2 D(∅) C(SELECT_1) Z(I)", rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"a text with a backslash, of when strings were read otherwise", []step{
		query("C(SET) Z(I)", "SET escape_string_warning = off"),
		query("C(SET) S(standard_conforming_strings=off) Z(I)", "SET standard_conforming_strings = off"),
		ask("1 Z(I)", rawpg.Parse("ex", `SELECT 'a\\b' AS x`), rawpg.Sync()),
		query("C(SET) S(standard_conforming_strings=on) Z(I)", "SET standard_conforming_strings = on"),
		query("E(25006) Z(I)", "INSERT INTO r.t (v) VALUES ('esc')"),
		ask("3 Z(I)", rawpg.CloseStatement("ex"), rawpg.Sync()),
		query("C(INSERT_0_1) Z(I)", "INSERT INTO r.t (v) VALUES ('esc')"),
	}},
	{"a notice comes once", []step{query("N(once) C(DO) Z(I)", "DO $$ BEGIN RAISE NOTICE 'once'; INSERT INTO r.t (v) VALUES ('no'); END $$")}},
	{"a long value of a named statement", []step{
		ask("1 Z(I)", rawpg.Parse("ins", "INSERT INTO r.t (v) VALUES ($1)"), rawpg.Sync()),
		ask("2 C(INSERT_0_1) Z(I)", rawpg.Bind("", "ins", strings.Repeat("x", 3<<20)), rawpg.Execute("", 0), rawpg.Sync()), // beyond VAULT_MAX_QUERY_BYTES
	}},
	{"a skipped Parse leaves the unnamed statement", []step{
		ask("1 1 Z(I)", rawpg.Parse("ins", "INSERT INTO r.t (v) VALUES ('us')"), rawpg.Parse("", "SELECT 7 AS n"), rawpg.Sync()),
		ask("E(26000) Z(I)", rawpg.Bind("", "none"), rawpg.Parse("", "SELECT 8 AS n"), rawpg.Sync()),
		ask("E(25006) Z(I)", rawpg.Bind("", "ins"), rawpg.Execute("", 0), rawpg.Sync()),
		ask("2 D(7) C(SELECT_1) Z(I)", rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync()),
	}},
	{"a suspended portal", []step{
		ask("1 Z(I)", rawpg.Parse("ins", "INSERT INTO r.t (v) VALUES ('sus')"), rawpg.Sync()),
		ask("1 2 D(1) s E(25006) Z(I)", rawpg.Parse("", "SELECT generate_series(1, 3) AS n"), rawpg.Bind("", ""), rawpg.Execute("", 1),
			rawpg.Bind("w", "ins"), rawpg.Execute("w", 0), rawpg.Execute("", 1), rawpg.Sync()),
	}},
	{"an unnamed portal that is yet to run", []step{
		ask("1 1 2 E(25006) Z(I)", rawpg.Parse("one", "SELECT 1 AS n"), rawpg.Parse("ins", "INSERT INTO r.t (v) VALUES ('sus')"),
			rawpg.Bind("", "one"), rawpg.Bind("w", "ins"), rawpg.Execute("", 0), rawpg.Execute("w", 0), rawpg.Sync()),
		ask("2 1 E(25006) Z(I)", rawpg.Bind("", "one"), rawpg.Parse("more", "SELECT 2 AS n"),
			rawpg.Parse("", "INSERT INTO r.t (v) VALUES ('sus')"), rawpg.Execute("", 0), rawpg.Sync()),
	}},
}

var long = strings.Repeat("x", 100000)

func TestOddities(t *testing.T) {
	schema(t)
	for _, c := range oddities {
		t.Run(c.name, func(t *testing.T) {
			s := standby(t)
			for _, st := range c.steps {
				s.Ask(t, st.want, st.msgs...)
			}
			s.Settled(t, "I")
		})
	}
	for v, want := range map[string]string{"big": "0", "wrong": "0", "np": "2", "u": "1", "esc": "1", "no": "1", "us": "0", "sus": "0"} {
		if got := rows(t, v); got != want {
			t.Errorf("%s rows of %q, want %s", got, v, want)
		}
	}
}

// TestPreparedStaysOne: a text that was one statement under other settings is sent
// to the primary as one.
func TestPreparedStaysOne(t *testing.T) {
	schema(t)
	cluster.Exec(t, shared.Connect(t, shared.SuperDSN(0)), "INSERT INTO r.t (v) VALUES ('victim')")
	shared.WaitReplayed(t, 1)
	s := standby(t)
	s.Rows(t, "SET escape_string_warning = off")
	s.Rows(t, `PREPARE p AS SELECT 'a'; `)
	s.Rows(t, "SET standard_conforming_strings = off")
	s.Rows(t, `PREPARE q AS SELECT 'a\'; DELETE FROM r.t WHERE v = $$victim$$; --' AS x`)
	s.Rows(t, "SET standard_conforming_strings = on")
	s.Ask(t, "E(25006) Z(I)", rawpg.Query("INSERT INTO r.t (v) VALUES ('x')"))
	if got := rows(t, "victim"); got != "1" {
		t.Errorf("%s rows of the victim", got)
	}
}

// refusedBefore sends the first part of a batch, and waits until the standby has
// refused it.
func refusedBefore(t *testing.T, s *rawpg.Conn, msgs ...pgproto3.FrontendMessage) {
	t.Helper()
	count := func() int {
		raw, err := os.ReadFile(shared.Nodes[1].ServerLogPath)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(raw, []byte("25006: cannot execute INSERT"))
	}
	before := count()
	if err := s.Send(msgs...); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, "the standby's refusal", func() bool { return count() > before })
}

// TestRefusedInTheMiddle: the rest of a batch comes after the standby has refused
// its beginning. Nobody waits for what will not come.
func TestRefusedInTheMiddle(t *testing.T) {
	schema(t)
	begin := []pgproto3.FrontendMessage{rawpg.Parse("", "SELECT r.w('mid')"), rawpg.Bind("", ""), rawpg.Execute("", 0)}
	insert := []pgproto3.FrontendMessage{rawpg.Parse("", "INSERT INTO r.t (v) VALUES ('mid')"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync()}
	many := []pgproto3.FrontendMessage{}
	for range 200_000 {
		many = append(many, rawpg.Bind("", ""), rawpg.Execute("", 0))
	}
	for name, rest := range map[string]step{
		"Sync":            ask("1 2 D(mid) C(SELECT_1) Z(I)", rawpg.Sync()),
		"another write":   ask("1 2 E(25006) Z(I)", insert...),
		"a named write":   ask("1 2 E(25006) Z(I)", rawpg.Bind("", "ins", "mid"), rawpg.Execute("", 0), rawpg.Sync()),
		"a named put":     ask("1 2 E(25006) Z(I)", rawpg.Bind("", "put", "odd/mid", "routing canary mid"), rawpg.Execute("", 0), rawpg.Sync()),
		"a wrong text":    ask("1 2 E(25006) Z(I)", rawpg.Parse("", "SELECT * FROM r.nosuch"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Flush(), rawpg.Sync()),
		"Flush":           ask("1 2 E(25006) Z(I)", rawpg.Flush(), rawpg.Sync()),
		"a read":          ask("1 2 D(mid) C(SELECT_1) 1 2 T(n:23) D(1) C(SELECT_1) Z(I)", rawpg.Parse("", "SELECT 1 AS n"), rawpg.Bind("", ""), rawpg.DescribePortal(""), rawpg.Execute("", 0), rawpg.Sync()),
		"a call of ours":  ask("1 2 E(25006) Z(I)", rawpg.Parse("", "SELECT vault.put_secret('odd/mid', 'routing canary mid') AS v"), rawpg.Bind("", ""), rawpg.Execute("", 0), rawpg.Sync()),
		"far too much":    ask("1 2 E(25006) Z(I)", append(many, rawpg.Sync())...),
		"a Query instead": ask("1 2 E(25006) Z(I)", rawpg.Query("SELECT vault.list_secrets()"), rawpg.Sync()),
	} {
		t.Run(name, func(t *testing.T) {
			s := standby(t)
			s.Ask(t, "1 1 Z(I)", rawpg.Parse("ins", "INSERT INTO r.t (v) VALUES ($1)"), rawpg.Parse("put", "SELECT vault.put_secret($1, $2) AS v"), rawpg.Sync())
			refusedBefore(t, s, begin...)
			s.Net.SetDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // for the test's own sake
			sent := make(chan error, 1)
			go func() { sent <- s.Send(rest.msgs...) }()
			s.Expect(t, rest.want)
			if err := <-sent; err != nil {
				t.Error(err)
			}
			s.Settled(t, "I")
		})
	}
}

// TestRefusedWhileReading: what was refused also reads a secret, so that what comes
// behind it waits until that is opened.
func TestRefusedWhileReading(t *testing.T) {
	schema(t)
	put := dial(t, shared.DSN(0, shared.User))
	put.Rows(t, "SELECT vault.put_secret('odd/reading', 'routing canary reading')")
	shared.WaitReplayed(t, 1)
	for name, rest := range map[string][]pgproto3.FrontendMessage{
		"Sync":        {rawpg.Sync()},
		"named write": {rawpg.Bind("", "ins", "reading"), rawpg.Execute("", 0), rawpg.Sync()},
		"Execute":     {rawpg.Execute("", 0), rawpg.Sync()},
	} {
		t.Run(name, func(t *testing.T) {
			s := standby(t)
			s.Ask(t, "1 1 t T(read_secret:25,w:25) Z(I)", rawpg.Parse("ins", "INSERT INTO r.t (v) VALUES ($1)"),
				rawpg.Parse("rd", "SELECT vault.read_secret('odd/reading'), r.w('reading')"), rawpg.DescribeStatement("rd"), rawpg.Sync())
			refusedBefore(t, s, rawpg.Bind("", "rd"), rawpg.Execute("", 0))
			s.Net.SetDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // for the test's own sake
			if err := s.Send(rest...); err != nil {
				t.Fatal(err)
			}
			s.Answers(t)
			s.Settled(t, "I")
		})
	}
}

// TestRefusedAtHalfClose: the standby has been told that nothing more comes, so
// the session cannot leave it.
func TestRefusedAtHalfClose(t *testing.T) {
	schema(t)
	s := standby(t)
	if err := s.Send(rawpg.Query("SELECT r.w('half')")); err != nil {
		t.Fatal(err)
	}
	if err := s.Net.(*net.TCPConn).CloseWrite(); err != nil { //nolint:forcetypeassert // rawpg dials TCP
		t.Fatal(err)
	}
	s.Answers(t)
	if _, err := s.Receive(); err == nil {
		t.Error("the session goes on")
	}
}

// TestCopyDuringTheMove: what comes while the session is on its way is sent once.
// The text is not UTF-8, so that only the standby's refusal tells that it writes.
func TestCopyDuringTheMove(t *testing.T) {
	schema(t)
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, super, "CREATE TABLE r.gr\u00fc (v text)")
	cluster.Exec(t, super, "GRANT ALL ON ALL TABLES IN SCHEMA r TO PUBLIC")
	shared.WaitReplayed(t, 1)
	const times = 10
	for range times {
		s := standby(t)
		s.Ask(t, "C(SET) S(client_encoding=LATIN1) Z(I)", rawpg.Query("SET client_encoding = LATIN1"))
		for _, m := range []pgproto3.FrontendMessage{rawpg.Query("COPY r.gr\xfc (v) FROM STDIN"), &pgproto3.CopyData{Data: []byte("n\n")}, &pgproto3.CopyDone{}} {
			if err := s.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range s.Answers(t) {
			if m[0] == 'C' && m != "C(COPY_1)" {
				t.Errorf("got %s, want one row", m)
			}
		}
	}
	if got := cluster.Text(t, super, "SELECT count(*)::text FROM r.gr\u00fc"); got != "10" {
		t.Errorf("%s rows of %d", got, times)
	}
}

// TestCancelStorm cancels writes at every moment of their way to the primary: each
// is there or was cancelled, as its answer says, and the next statement is unhurt.
func TestCancelStorm(t *testing.T) {
	schema(t)
	const times = 300
	written := 0
	for n := range times {
		s := standby(t)
		sql, done := "INSERT INTO r.t (v) VALUES ('storm')", "C(INSERT_0_1) Z(I)"
		if n%2 == 0 {
			sql, done = "SELECT r.w('storm')", "T(w:25) D(storm) C(SELECT_1) Z(I)"
		}
		if err := s.Send(rawpg.Query(sql)); err != nil {
			t.Fatal(err)
		}
		cancelled := make(chan error, 1)
		go func() {
			time.Sleep(time.Duration(n%150) * 100 * time.Microsecond) //nolint:forbidigo // any moment is right
			cancelled <- s.Cancel(t.Context())
		}()
		switch got := strings.Join(s.Answers(t), " "); got {
		case done, strings.Replace(done, " Z", " E(57014) Z", 1): // as the server itself may: behind the commit
			written++
		case "E(57014) Z(I)", "T(w:25) E(57014) Z(I)":
		default:
			t.Errorf("%s: got %s", sql, got)
		}
		if err := <-cancelled; err != nil {
			t.Fatal(err)
		}
		s.Ask(t, "T(n:23) D(1) C(SELECT_1) Z(I)", rawpg.Query("SELECT 1 AS n"))
		s.Close()
	}
	if got := rows(t, "storm"); got != strconv.Itoa(written) {
		t.Errorf("%s rows, %d writes were done", got, written)
	}
	t.Logf("%d of %d writes were done", written, times)
}
