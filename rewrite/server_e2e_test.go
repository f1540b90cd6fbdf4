// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rewrite

import (
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

var (
	readings    = flag.Int("readings", 12_000, "how many texts TestServerReads compares")
	readingTime = flag.Duration("reading-time", 0, "compare for so long instead")
	readingSeed = flag.Uint64("reading-seed", 0, "of the texts; 0: by the clock")
)

// catcher has functions of our names that tell what they were called with.
const catcher = `CREATE SCHEMA vault;
CREATE FUNCTION vault.put_secret(name text, value text, description text = NULL) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RAISE NOTICE '%', encode(convert_to(coalesce(name, '-') || E'\x01' || coalesce(value, '-'), 'UTF8'), 'hex'); RETURN 'x'; END $$;
CREATE FUNCTION vault.rotate_secret(name text, value text = NULL) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN RETURN vault.put_secret(name, value); END $$;
CREATE FUNCTION vault.read_secret(name text, version int = NULL, missing_ok boolean = false) RETURNS text LANGUAGE sql AS 'SELECT name'`

// A listener is a session of a server that has the catcher.
type listener struct {
	conn *pgconn.PgConn
	std  bool
	got  []string // name, byte 1, value, of each call
}

func listen(t *testing.T, like *pgx.ConnConfig, std bool) *listener {
	t.Helper()
	config := like.Config.Copy()
	l := &listener{std: std}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if b, err := hex.DecodeString(n.Message); err == nil && strings.Contains(string(b), "\x01") {
			l.got = append(l.got, string(b))
		}
	}
	setting := map[bool]string{true: "on", false: "off"}[std]
	config.RuntimeParams = map[string]string{
		"standard_conforming_strings": setting, "escape_string_warning": "off", "statement_timeout": "2s", "search_path": "public",
		"client_encoding": "UTF8", "lc_messages": "C",
	}
	var err error
	if l.conn, err = pgconn.ConnectConfig(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Second)
		defer cancel()
		_ = l.conn.Close(ctx) // nothing is owed
	})
	return l
}

// run sends a text and returns the calls that it made, in order, and its error.
func (l *listener) run(t *testing.T, sql string) (calls []string, failed saying) {
	t.Helper()
	l.got = nil
	_, err := l.conn.Exec(t.Context(), sql).ReadAll()
	failed = said(t, sql, err)
	if l.conn.TxStatus() != 'I' {
		if _, err := l.conn.Exec(t.Context(), "ROLLBACK").ReadAll(); err != nil {
			t.Fatal(err)
		}
	}
	return l.got, failed
}

// nasty are what texts are made of, next to calls.
var nasty = []string{
	`'`, `''`, `'''`, `\`, `\\`, `\'`, `"`, `""`, `$$`, `$a$`, `$A$`, `$1`, `$`, `a$`, `a$$`, `$é$`, `--`, "\n", "\r", "\f", "\v", "\t", " ", "\n'", "'\n'", "' --'\n'",
	`/*`, `*/`, `/*/`, `--*/`, `E'`, `e'`, `U&'`, `u&"`, `U&`, `N'`, `n'`, `B'`, `x'`, `X'41'`, ` UESCAPE '!'`, ` uescape E'!'`, `UESCAPE`, `!0041`, `\0041`, `\+000041`, `\x41`, `\101`,
	`\u0041`, `\U00000041`, `\ud83d\udd11`, `\ud83d`, `1`, `1.`, `.5`, `1e`, `1e5`, `0x1F`, `0x`, `1_0`, `1'x'`, `@-`, `<--`, `+-`, `+/*`, `||`, `::text`, `::`, `:=`, `=>`, `..`, `.`,
	`;`, `(`, `)`, `,`, `[`, `]`, `é`, "\xff", "\xe4'", "\ufeff", "\u00a0", `a`, `_`, `e`, `text `, `varchar `, `NULL`, `AS`, `SELECT `, `~`, `#`, `?`, `%`, `{`, `}`, "`",
}

// constants are whole literals, put together of nasty pieces.
func constant(rng *rand.Rand) string {
	var in strings.Builder
	for range rng.IntN(5) {
		in.WriteString(nasty[rng.IntN(len(nasty))])
	}
	v := in.String() + fmt.Sprintf("s%d", rng.IntN(1000))
	doubled := strings.ReplaceAll(v, "'", "''")
	switch rng.IntN(10) {
	case 0, 1:
		return "'" + doubled + "'"
	case 2:
		return "E'" + doubled + "'"
	case 3:
		return "E'" + strings.ReplaceAll(v, "'", `\'`) + "'"
	case 4:
		return "$a$" + v + "$a$"
	case 5:
		return "$$" + v + "$$"
	case 6:
		return "U&'" + doubled + "'"
	case 7:
		return "U&'" + doubled + "' UESCAPE '!'"
	case 8:
		return "'" + doubled + "'" + nasty[rng.IntN(len(nasty))] + "\n'" + doubled + "'"
	}
	return "N'" + doubled + "'"
}

var callees = []string{
	"vault.put_secret", "vault.put_secret", `"vault".put_secret`, `VAULT . "put_secret"`, `U&"v\0061ult".put_secret`, "vault/*'*/.rotate_secret", `vault.U&"rotate!005fsecret" UESCAPE '!'`,
}

// invent makes a text: items of a SELECT, some of which are calls, with noise.
func invent(rng *rand.Rand) string {
	var b strings.Builder
	b.WriteString("SELECT ")
	for i := range 1 + rng.IntN(3) {
		if i > 0 {
			b.WriteString(", ")
		}
		noise := func(oneOf int) {
			for rng.IntN(oneOf) == 0 {
				b.WriteString(nasty[rng.IntN(len(nasty))])
			}
		}
		noise(4)
		if rng.IntN(3) == 0 {
			b.WriteString(constant(rng))
			noise(4)
			continue
		}
		b.WriteString(callees[rng.IntN(len(callees))])
		noise(20)
		b.WriteString("(" + "'n" + fmt.Sprint(i) + "'")
		noise(20)
		b.WriteString(", ")
		noise(10)
		b.WriteString(constant(rng))
		noise(8)
		b.WriteString(")")
		noise(4)
	}
	return b.String()
}

// TestServerReads compares our reading of random texts with a server's. Functions
// of our names tell what they are called with. Of a text that we do not refuse,
// every call must be one that we saw, with the value that we read; and of the text
// that we would send in its place no call may get anything but a record, and
// each the one of its value. Errors are the same, at the same place, and so are,
// of a text that is only described, its parameters.
func TestServerReads(t *testing.T) {
	c, err := devcluster.Start(t.Context(), devcluster.Config{ServerSettings: map[string]string{"fsync": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Errorf("stop the cluster: %v", err)
		}
	})
	conn, err := c.Primary().ConnectServer(t.Context(), c.Superuser, c.SuperuserPassword, c.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }() // what it did was looked at
	if _, err := conn.Exec(t.Context(), catcher); err != nil {
		t.Fatal(err)
	}
	listeners := []*listener{listen(t, conn.Config(), true), listen(t, conn.Config(), false)}
	if *readingSeed == 0 {
		*readingSeed = uint64(time.Now().UnixNano())
	}
	rng := rand.New(rand.NewPCG(*readingSeed, 1))
	a := NewAnalyzer(Config{})
	outcomes := map[string]int{}
	begun, texts := time.Now(), 0
	for i := 0; *readingTime > 0 && time.Since(begun) < *readingTime || *readingTime == 0 && i < *readings; i++ {
		texts++
		sql := invent(rng)
		if i%4 >= 2 {
			sql = compose(rng)
		}
		outcomes[compare(t, a, listeners[i%2], sql)]++
		outcomes[compareParse(t, a, listeners[i%2], sql)]++
		if t.Failed() && outcomes["disagreed"] > 20 {
			break
		}
	}
	t.Logf("-reading-seed %d, %s: %v", *readingSeed, time.Since(begun).Round(time.Millisecond), outcomes)
	for _, often := range []string{"agreed", "refused", "failed somewhere", "parse: agreed", "parse: failed somewhere", "parse: has parameters of its own"} {
		if texts >= 1000 && outcomes[often] < texts/200 {
			t.Errorf("too few texts are %q: %v", often, outcomes)
		}
	}
}

// compare compares one text.
func compare(t *testing.T, a *Analyzer, l *listener, sql string) string {
	t.Helper()
	if strings.IndexByte(sql, 0) >= 0 {
		return "skipped"
	}
	disagreed := func(format string, args ...any) string {
		t.Errorf("standard_conforming_strings %t, %q: %s", l.std, sql, fmt.Sprintf(format, args...))
		return "disagreed"
	}
	plan, refusal := a.Analyze(sql, Options{StdStrings: l.std, Settled: true, Encoding: "UTF8"})
	if refusal != nil {
		return "refused"
	}
	calls, failed := l.run(t, sql)
	switch {
	case (plan == nil || len(plan.Calls) == 0) && len(calls) > 0:
		return disagreed("it calls %q, which we do not see", calls)
	case plan == nil:
		return "no call"
	}
	values := make([][]byte, len(plan.Calls))
	read := map[string]string{} // by record: name, byte 1, value
	lengths := make([]int, len(plan.Calls))
	for i, c := range plan.Calls {
		values[i] = fmt.Appendf(nil, "hv1.%d-", i)
		lengths[i] = len(values[i])
		v := "-"
		switch c.Value.Mode {
		case Const:
			b, err := plan.DecodeValue(nil, sql, i)
			if err != nil {
				return disagreed("%v", err)
			}
			v = string(b)
		case Generated:
		default:
			return disagreed("a value of mode %s", c.Value.Mode)
		}
		read[string(values[i])] = c.Name.Text + "\x01" + v
	}
	sent, sentFailed := l.run(t, string(plan.SpliceQuery(nil, sql, values)))
	for i, s := range sent {
		_, record, _ := strings.Cut(s, "\x01")
		ours, is := read[record]
		switch {
		case !is:
			return disagreed("what we send calls %q", s)
		case failed.code == "" && i >= len(calls), i < len(calls) && calls[i] != ours:
			return disagreed("it calls %q, we read %q", calls, ours)
		}
	}
	if sentFailed.at > 0 {
		sentFailed.at = plan.MapPosition(sql, sentFailed.at, Sent{Lengths: lengths})
	}
	failed = failed.moved(plan, sql)
	switch {
	case failed.code == stateBadCharacters && !utf8.ValidString(sql):
		return "not UTF-8" // who seals the value refuses it
	case failed.code != sentFailed.code || failed.at != sentFailed.at:
		return disagreed("it fails with %+v, what we send with %+v", failed, sentFailed)
	case failed.code != "" && len(calls) > len(sent), failed.code == "" && len(calls) != len(sent):
		return disagreed("it calls %q, what we send %q", calls, sent)
	case failed.at > 0:
		return "failed somewhere"
	case failed.code != "":
		return "failed"
	}
	return "agreed"
}
