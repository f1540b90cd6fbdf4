// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bytes"
	"errors"
	"iter"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func each[T any](list []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, x := range list {
			if !yield(x, nil) {
				return
			}
		}
	}
}

func collect[T any](t *testing.T, seq iter.Seq2[T, error]) (list []T) {
	t.Helper()
	for x, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, x)
	}
	return list
}

// strange is a record with everything that could be spelled in more than one way.
func strange() Record {
	return Record{
		At: testTime, Actor: "a\"b\\c\x1b[2J\u009b\u202e", SessionRole: "\u2028<&>é", Addr: netip.MustParseAddr("2001:db8::1"), Face: FaceSQL,
		Database: "\x7f\t\n\b", Action: ActionUpdate, Secret: "🗝/ключ", Version: 7, Outcome: OutcomeOK, Direct: true, Reason: "\ufffd",
		Change: 1<<63 - 1, Statement: 1<<64 - 1,
	}
}

func exported(t *testing.T, e *Evidence) string {
	t.Helper()
	var b bytes.Buffer
	if err := e.Export(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func exampleEvidence() (e *Evidence, rows []Row, changes []Change) {
	rows = write("a", nil, 5, "s")
	rows[2].Record = strange()
	link := newLinker()
	for i := 2; i < len(rows); i++ {
		rows[i].Prev = rows[i-1].Hash
		_, rows[i].Hash = link.record(&rows[i].Record, rows[i].Node, rows[i].Seq, rows[i].Prev)
	}
	rows[3].Record = Record{At: rows[3].At, Action: ActionWithheld}
	changes = []Change{
		{ID: 7, At: testTime, Action: "update", Subject: "app/\x00db", SecretID: testNode.String(), Version: 3, SessionRole: "eve", CurrentRole: "owner"},
		{ID: 1<<63 - 1, At: testTime, Action: "grant", Subject: "app billing/*"},
	}
	id := nodeOf("a")
	e = &Evidence{
		At: testTime.Add(time.Hour), Heads: []Head{id.sign(rows[1].Position(), testTime), id.sign(rows[4].Position(), testTime)},
		Rows: each(rows), Changes: each(changes),
	}
	return e, rows, changes
}

func TestExport(t *testing.T) {
	e, rows, changes := exampleEvidence()
	text := exported(t, e)
	for i := range len(text) {
		if text[i] != '\n' && (text[i] < ' ' || text[i] > '~') {
			t.Fatalf("byte %#x at %d is not printable", text[i], i)
		}
	}
	got, err := ReadExport(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if !got.At.Equal(e.At) || !slices.Equal(got.Heads, e.Heads) {
		t.Errorf("got %+v, want %+v", got, e)
	}
	if r := collect(t, got.Rows); !reflect.DeepEqual(r, rows) {
		t.Errorf("got %+v, want %+v", r, rows)
	}
	if c := collect(t, got.Changes); !slices.Equal(c, changes) {
		t.Errorf("got %+v, want %+v", c, changes)
	}
	got, _ = ReadExport(strings.NewReader(text))
	if again := exported(t, got); again != text {
		t.Errorf("an export of an export is\n%s, want\n%s", again, text)
	}
	got, _ = ReadExport(strings.NewReader(text))
	report, err := got.Verify(t.Context(), Demands{Trust: Trust{rows[0].Node: {fingerprint(nodeOf("a").public())}}})
	if err != nil || len(report.Findings) != 1 || report.Findings[0].Kind != Withheld || report.Nodes[0].Proven != 5 {
		t.Errorf("got %+v, %v, want a chain that is whole but for what is withheld", report, err)
	}
}

// What no record can hold does not become one.
func TestExportOfWhatIsNoRecord(t *testing.T) {
	for name, spoil := range map[string]func(*Row){
		"a time":      func(r *Row) { r.At = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"a long text": func(r *Row) { r.Secret = strings.Repeat("x", MaxText+1) },
		"no text":     func(r *Row) { r.Secret = "\xff" },
		"a number":    func(r *Row) { r.Version = -1 },
	} {
		rows := write("a", nil, 3, "s")
		spoil(&rows[1])
		e, err := ReadExport(strings.NewReader(exported(t, &Evidence{At: testTime, Rows: each(rows)})))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		report, err := e.Verify(t.Context(), Demands{})
		if err != nil || !slices.ContainsFunc(report.Findings, func(f Finding) bool { return f.Kind == Changed && f.Seq == 2 }) {
			t.Errorf("%s: got %+v, %v, want that record 2 is changed", name, report, err)
		}
	}
}

// readAll reads an export to its end.
func readExport(text string) error {
	e, err := ReadExport(strings.NewReader(text))
	if err != nil {
		return err
	}
	for _, err := range e.Rows {
		if err != nil {
			return err
		}
	}
	if e.Changes != nil {
		for _, err := range e.Changes {
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func TestReadExportIsStrict(t *testing.T) {
	e, _, _ := exampleEvidence()
	text := exported(t, e)
	lines := slices.Collect(strings.Lines(text))
	if err := readExport(text); err != nil {
		t.Fatal(err)
	}
	replaced := func(old, with string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("%q is not there", old)
		}
		return strings.Replace(text, old, with, 1)
	}
	for name, wrong := range map[string]string{
		"nothing":              "",
		"no first line":        strings.Join(lines[1:], ""),
		"another format":       replaced(`"format":1`, `"format":2`),
		"no end":               strings.Join(lines[:len(lines)-1], ""),
		"half a line":          text[:len(text)-1],
		"something behind":     text + "\n",
		"a row less":           strings.Join(slices.Delete(slices.Clone(lines), 4, 5), ""),
		"a head less":          strings.Join(slices.Delete(slices.Clone(lines), 1, 2), ""),
		"a change less":        strings.Join(slices.Delete(slices.Clone(lines), 8, 9), ""),
		"a head behind a row":  strings.Join(lines[:3], "") + lines[3] + lines[1] + strings.Join(lines[4:], ""),
		"a row behind changes": strings.Join(lines[:9], "") + lines[3] + strings.Join(lines[9:], ""),
		"a space":              replaced(`"seq":2`, `"seq": 2`),
		"another name too":     replaced(`"secret":"s/1"`, `"secret":"s/1","SECRET":"s/2"`),
		"twice":                replaced(`"secret":"s/1"`, `"secret":"s/2","secret":"s/1"`),
		"an unknown member":    replaced(`"secret":"s/1"`, `"secret":"s/1","more":1`),
		"another spelling":     replaced(`"secret":"s/1"`, `"secret":"s\/1"`),
		"another order":        replaced(`"version":1,"outcome":"ok"`, `"outcome":"ok","version":1`),
		"an empty member":      replaced(`"version":1,`, `"version":1,"direct":false,`),
		"upper case":           replaced(`"hash":"`+e.Heads[0].Hash.String(), `"hash":"`+strings.ToUpper(e.Heads[0].Hash.String())),
		"a short hash":         replaced(e.Heads[0].Hash.String(), e.Heads[0].Hash.String()[2:]),
		"a number too large":   replaced(`"version":1`, `"version":2147483648`),
		"another kind":         replaced(`{"kind":"record"`, `{"kind":"row"`),
		"a long line":          text[:10] + strings.Repeat(" ", maxLine) + text[10:],
		"an array":             "[]\n" + text,
		"another time":         replaced(".000001Z", ".0000010Z"),
	} {
		if err := readExport(wrong); err == nil {
			t.Errorf("%s: it is taken", name)
		} else if wrong != "" && strings.Contains(err.Error(), "s/1") {
			t.Errorf("%s: %v shows what is in it", name, err)
		}
	}
}

func TestExportEnds(t *testing.T) {
	errSource := errors.New("the source failed")
	failing := func(yield func(Row, error) bool) { yield(Row{}, errSource) }
	var b bytes.Buffer
	if err := (&Evidence{Rows: failing}).Export(t.Context(), &b); !errors.Is(err, errSource) || strings.Contains(b.String(), kindEnd) {
		t.Errorf("got %v and %q, want the source's error and no end", err, b.String())
	}
}

// FuzzExport: a line is refused, or is the only spelling of what it is.
func FuzzExport(f *testing.F) {
	e, _, _ := exampleEvidence()
	var b bytes.Buffer
	if err := e.Export(f.Context(), &b); err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		f.Add(line)
	}
	f.Add(b.String())
	f.Fuzz(func(t *testing.T, text string) {
		if l, err := parseLine([]byte(text), nil); err == nil && string(l.spelled) != text {
			t.Errorf("%q is taken for %q", text, l.spelled)
		}
		_ = readExport(text) // without a panic
	})
}
