// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what was got into testdata/*.txt; read every change")

// A corpus file is a list of cases:
//
//	=== what the case shows
//	options            optional line, see caseOptions
//	--- sql
//	the text
//	--- query          what a simple Query becomes
//	--- parse          what a Parse becomes
//
// or "--- both" where the two are the same. Lines before the first case are
// comments.
type corpusCase struct {
	title, options, sql string
	answers             string // from the first "---" behind the text
}

func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runCorpus(t, file) })
	}
}

func runCorpus(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, cases := parseCorpus(t, string(raw))
	var out strings.Builder
	out.WriteString(head + "\n")
	for _, c := range cases {
		got := strings.TrimRight(c.answer(t), "\n")
		if got != c.answers && !*update {
			t.Errorf("%s: %s\n%s\n--- got\n%s\n--- want\n%s", file, c.title, c.sql, got, c.answers)
		}
		fmt.Fprintf(&out, "\n=== %s\n%s--- sql\n%s\n%s\n", c.title, c.options, c.sql, got)
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func parseCorpus(t *testing.T, s string) (head string, cases []corpusCase) {
	t.Helper()
	parts := strings.Split("\n"+s, "\n=== ")
	for _, p := range parts[1:] {
		title, rest, _ := strings.Cut(p, "\n")
		options, rest, ok := strings.Cut("\n"+rest, "\n--- sql\n")
		if !ok {
			t.Fatalf("case %q has no text", title)
		}
		sql, answers, _ := strings.Cut(rest+"\n", "\n--- ")
		if answers != "" {
			answers = "--- " + strings.TrimRight(answers, "\n")
		}
		if options = strings.TrimPrefix(options, "\n"); options != "" {
			options += "\n"
		}
		cases = append(cases, corpusCase{title, options, strings.TrimRight(sql, "\n"), answers})
	}
	return strings.TrimSpace(parts[0]), cases
}

// caseOptions reads the words scs=off, unsettled, encoding=E, types=25,0,
// foreign=put_secret, \xHH (the text has such bytes, written as <HH>).
func (c corpusCase) caseOptions(t *testing.T) (o Options, sql string) {
	t.Helper()
	o = Options{StdStrings: true, Settled: true, Encoding: "UTF8"}
	sql = c.sql
	for _, word := range strings.Fields(c.options) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "scs":
			o.StdStrings = value != "off"
		case "unsettled":
			o.Settled = false
		case "encoding":
			o.Encoding = value
		case "types":
			for _, v := range strings.Split(value, ",") {
				n, err := strconv.ParseUint(v, 10, 32)
				if err != nil {
					t.Fatal(err)
				}
				o.ParamTypes = append(o.ParamTypes, uint32(n))
			}
		case "foreign":
			f := valueFuncs[value]
			if value == Update.String() {
				f = Update
			}
			o.Foreign = append(o.Foreign, f)
		case "bytes":
			for b := 0x80; b <= 0xFF; b++ {
				sql = strings.ReplaceAll(sql, fmt.Sprintf("<%02X>", b), string([]byte{byte(b)}))
			}
			sql = strings.ReplaceAll(sql, "<00>", "\x00")
		default:
			t.Fatalf("unknown option %q", word)
		}
	}
	return o, sql
}

// answer analyses the case in both protocols, each twice: the second time
// from the cache.
func (c corpusCase) answer(t *testing.T) string {
	t.Helper()
	o, sql := c.caseOptions(t)
	a := testAnalyzer()
	var got [4]string
	for i := range got {
		o.Extended = i%2 == 1
		plan, refusal := a.Analyze(sql, o)
		got[i] = show(t, sql, o, plan, refusal)
	}
	if got[0] != got[2] || got[1] != got[3] {
		t.Errorf("%s: the cache answers otherwise:\n%s\n%s\n%s\n%s", c.title, got[0], got[2], got[1], got[3])
	}
	if got[0] == got[1] {
		return "--- both\n" + got[0]
	}
	return "--- query\n" + got[0] + "--- parse\n" + got[1]
}

func testAnalyzer() *Analyzer {
	return NewAnalyzer(Config{CacheBytes: 1 << 20, CheckName: func(name string) error {
		if name == "" || strings.ContainsAny(name, " \n'") || !isASCII(name) {
			return errors.New("the rule of names")
		}
		return nil
	}})
}

func show(t *testing.T, sql string, o Options, p *Plan, r *Refusal) string {
	t.Helper()
	switch {
	case r != nil && p != nil:
		t.Errorf("both a plan and a refusal for %q", sql)
		return ""
	case r != nil:
		return showRefusal(r)
	case p == nil:
		return "pass\n"
	}
	var b strings.Builder
	b.WriteString("plan")
	for _, f := range []struct {
		on   bool
		name string
	}{{p.Direct, "direct"}, {p.Reads, "reads"}, {p.ReadOnly, "read-only"}, {p.Utility, "utility"}} {
		if f.on {
			b.WriteString(" " + f.name)
		}
	}
	if p.NumParams > 0 {
		fmt.Fprintf(&b, " params=%d", p.NumParams)
	}
	for _, l := range []struct {
		name  string
		names []string
	}{{"executes", p.Executes}, {"prepares", p.Prepares}, {"keeps", p.Keeps}, {"guessed", p.Guessed}} {
		if len(l.names) > 0 {
			fmt.Fprintf(&b, " %s=%q", l.name, l.names)
		}
	}
	b.WriteString("\n")
	if len(p.Stmts) > 1 {
		b.WriteString("classes")
		for _, s := range p.Stmts {
			b.WriteString(" " + s.Class.String())
		}
		b.WriteString("\n")
	}
	for i, c := range p.Calls {
		fmt.Fprintf(&b, "%s", c.Func)
		if len(p.Stmts) > 1 {
			fmt.Fprintf(&b, " in statement %d", c.Stmt)
		}
		b.WriteString(" name " + showArg(c.Name))
		if c.Kind.Mode != Absent {
			b.WriteString(" kind " + showArg(c.Kind))
		}
		b.WriteString(" value " + showArg(c.Value))
		if c.Value.Mode == Const {
			v, err := p.DecodeValue(nil, sql, i)
			if err != nil {
				t.Errorf("value of %q: %v", sql, err)
			}
			fmt.Fprintf(&b, " %q", v)
		}
		b.WriteString("\n")
	}
	b.WriteString(showSent(p, sql, o))
	return b.String()
}

func showSent(p *Plan, sql string, o Options) string {
	if len(p.ops) == 0 {
		return ""
	}
	var text []byte
	if o.Extended {
		text, _ = p.SpliceParse(nil, sql, p.NumParams)
	} else {
		values := make([][]byte, len(p.Calls))
		for i := range values {
			values[i] = []byte("hv1.SEALED" + strconv.Itoa(i))
		}
		text = p.SpliceQuery(nil, sql, values)
	}
	return "sent\n" + string(text) + "\n"
}

func showArg(a Arg) string {
	switch a.Mode { //nolint:exhaustive // the others are shown by name
	case Const:
		if a.Text != "" {
			return fmt.Sprintf("%q", a.Text)
		}
	case Param:
		return "$" + strconv.Itoa(a.Param)
	}
	return a.Mode.String()
}

func showRefusal(r *Refusal) string {
	var b strings.Builder
	fmt.Fprintf(&b, "refused %s", r.SQLState)
	if r.Position > 0 {
		fmt.Fprintf(&b, " at %d", r.Position)
	}
	if r.Unqualified {
		b.WriteString(" unqualified")
	}
	if len(r.Prepares) > 0 {
		fmt.Fprintf(&b, " prepares=%q", r.Prepares)
	}
	fmt.Fprintf(&b, ": %s\n", r.Message)
	if d := strings.ReplaceAll(r.Detail, notSent, "[not sent]"); d != "" {
		b.WriteString("detail: " + d + "\n")
	}
	if h := strings.ReplaceAll(r.Hint, ownMessage, "[own message]"); h != "" {
		b.WriteString("hint: " + h + "\n")
	}
	return b.String()
}

// TestCorpusTitles keeps the cases tellable apart.
func TestCorpusTitles(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	var titles []string
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, cases := parseCorpus(t, string(raw))
		for _, c := range cases {
			titles = append(titles, file+": "+c.title)
		}
	}
	slices.Sort(titles)
	for i := 1; i < len(titles); i++ {
		if titles[i] == titles[i-1] {
			t.Errorf("twice: %s", titles[i])
		}
	}
}
