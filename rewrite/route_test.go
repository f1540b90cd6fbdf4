// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"os"
	"strings"
	"testing"
)

// A routeCase is a line of testdata/route/texts.txt.
type routeCase struct {
	want Route
	// odd: a standby lets a write through, or refuses the block.
	odd bool
	sql string
}

func routeCases(t *testing.T) (cases []routeCase) {
	t.Helper()
	raw, err := os.ReadFile("testdata/route/texts.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		word, sql, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		name := strings.TrimRight(word, "*!")
		c := routeCase{sql: strings.TrimSpace(sql), odd: name != word}
		for c.want.String() != name {
			c.want++
		}
		cases = append(cases, c)
	}
	return cases
}

// A text is read twice: the second time from the cache.
func TestRoute(t *testing.T) {
	a := testAnalyzer()
	o := Options{StdStrings: true, Settled: true, Encoding: "UTF8"}
	for _, c := range routeCases(t) {
		for range 2 {
			if got := a.Route(c.sql, o); got != c.want {
				t.Errorf("%s: %v, want %v", c.sql, got, c.want)
			}
		}
	}
	// Two texts that are one to pg_query.
	for _, c := range []struct {
		sql  string
		want Route
	}{
		{`SELECT "pg_advisery_lock"(1), substring('a' FOR 2)`, RouteLocal},
		{`SELECT "pg_advisory_lock"(1), substring('a' FOR 2)`, RouteWrite},
	} {
		if got := a.Route(c.sql, o); got != c.want {
			t.Errorf("%s: %v, want %v", c.sql, got, c.want)
		}
	}
}

// What the vault writes moves, what it reads does not.
func TestRouteOfTheVault(t *testing.T) {
	a := testAnalyzer()
	for _, s := range signatures {
		if s.name == "login_verifier" {
			continue
		}
		want := RouteLocal
		if s.writes {
			want = RouteVault
		}
		if got := a.Route("SELECT vault."+s.name+"()", Options{StdStrings: true, Settled: true}); got != want {
			t.Errorf("%s: %v, want %v", s.name, got, want)
		}
		if s.internal { // somebody else's function may be called so
			want = RouteLocal
		}
		if got := a.Route("SELECT "+s.name+"()", Options{StdStrings: true, Settled: true}); got != want {
			t.Errorf("%s without its schema: %v, want %v", s.name, got, want)
		}
	}
}

// What cannot be read is the server's to refuse.
func TestRouteOfWhatIsNoText(t *testing.T) {
	a := testAnalyzer()
	for _, sql := range []string{
		"INSERT INTO", "INSERT INTO t VALUES ('", "INSERT INTO t VALUES (\xff)", "INSERT INTO t VALUES (1\x00)",
		"INSERT INTO t SELECT " + strings.Repeat("(", 2000) + "1" + strings.Repeat(")", 2000),
	} {
		if got := a.Route(sql, Options{StdStrings: true, Settled: true}); got != RouteLocal {
			t.Errorf("%.40q: %v, want local", sql, got)
		}
	}
	if got := a.Route(`INSERT INTO t VALUES ('\')`, Options{StdStrings: true}); got != RouteLocal {
		t.Errorf("a text whose literals are not known: %v, want local", got)
	}
}

// MayMove says so of every text that Route moves.
func TestMayMove(t *testing.T) {
	local := 0
	for _, c := range routeCases(t) {
		if got := MayMove([]byte(c.sql)); c.want != RouteLocal && !got {
			t.Errorf("%s: %v", c.sql, got)
		} else if !got {
			local++
		}
	}
	if local < 15 {
		t.Errorf("only %d texts are seen to be local at the first look", local)
	}
	if MayMove(nil) || !MayMove(make([]byte, maxLooked+1)) {
		t.Error("an empty text may move, or one that is too long may not")
	}
}

// BeginsReading says so of nothing that Route moves.
func TestBeginsReading(t *testing.T) {
	for text, want := range map[string]bool{
		"BEGIN READ ONLY": true, "begin transaction isolation level repeatable read, read only;": true, "START TRANSACTION READ ONLY, NOT DEFERRABLE": true,
		"": false, "BEGIN": false, "BEGIN READ WRITE": false, "BEGIN READ ONLY, READ WRITE": false, "BEGIN ISOLATION LEVEL READ COMMITTED": false,
		"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY": false, "BEGIN READ ONLY; SELECT 1": false, "READ ONLY": false, "SELECT read only": false,
		"BEGIN READ /* ONLY */": false, "BEGIN -- READ ONLY": false, "BEGIN READ ONLYabcdefghijklmnop": false, "BEGIN READ ONLY" + strings.Repeat(" ", maxLooked): false,
	} {
		if got := BeginsReading([]byte(text)); got != want {
			t.Errorf("%.60q: got %v, want %v", text, got, want)
		}
	}
	for _, c := range routeCases(t) {
		if c.want != RouteLocal && BeginsReading([]byte(c.sql)) {
			t.Errorf("%s: it moves", c.sql)
		}
	}
}
