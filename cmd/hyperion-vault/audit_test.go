// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

const hostileName = "app/\x1b[2J\x07\u009b31m\u202e\"name"

func auditRecord(secret string) audit.Record {
	return audit.Record{
		At: time.Date(2026, 11, 29, 5, 0, 0, 1000, time.UTC), Actor: "ann", SessionRole: "app_rw", Addr: netip.MustParseAddr("192.0.2.7"), Face: audit.FaceSQL,
		Database: "app", Action: audit.ActionUpdate, Secret: secret, Version: 3, Outcome: audit.OutcomeOK, Direct: true, Change: 7, Statement: 0xab,
	}
}

// auditSpool makes a spool with records of secrets, and a file that trusts its key.
func auditSpool(t *testing.T, secrets ...string) (dir, trust string) {
	t.Helper()
	dir = t.TempDir()
	s, err := audit.Open(dir, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets {
		if err := s.Append(t.Context(), []audit.Record{auditRecord(secret)}); err != nil {
			t.Fatal(err)
		}
	}
	node, key, _ := s.Identity()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, auditFile(t, "trust", node.String()+" "+string(key)+"\n")
}

func auditFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// command runs one in this process.
func command(t *testing.T, stdin string, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), args, &streams{in: strings.NewReader(stdin), out: &stdout, err: &stderr})
	return code, stdout.String(), stderr.String()
}

func commandWorks(t *testing.T, args ...string) (out string) {
	t.Helper()
	code, out, errs := command(t, "", args...)
	if code != exitOK {
		t.Fatalf("%v: exit code %d, %s%s", args, code, out, errs)
	}
	return out
}

func TestAuditVerify(t *testing.T) {
	dir, trust := auditSpool(t, "a", "b", hostileName)
	_, other := auditSpool(t)
	export := commandWorks(t, "audit", "export", "--spool", dir)
	whole := auditFile(t, "export", export)
	changed := strings.Replace(export, `"secret":"a"`, `"secret":"b"`, 1)
	lines := slices.Collect(strings.Lines(export))
	at := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, `"secret":"b"`) })
	removed := strings.Replace(strings.Join(slices.Delete(slices.Clone(lines), at, at+1), ""), `"records":5`, `"records":4`, 1)
	last := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, `"action":"stop"`) })
	cut := strings.Replace(strings.Join(slices.Delete(slices.Clone(lines), last, last+1), ""), `"records":5`, `"records":4`, 1)
	headless := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, `"kind":"head"`) })
	cut = strings.Replace(cut, lines[headless], "", 1)
	cut = strings.Replace(cut, `"heads":1,`, "", 1)
	ahead, itsTrust := aheadExport(t)
	// Of the records nothing is left but a head that seems to be a thousand years old.
	later := `{"kind":"export","format":1,"at":"2999-01-01T00:00:00.000000Z"}` + "\n" + lines[headless] + `{"kind":"end","heads":1}` + "\n"
	for name, c := range map[string]struct {
		stdin string
		args  []string
		code  int
		want  []string // what is printed holds these
	}{
		"a spool":            {"", []string{"--spool", dir, "--trust", trust}, exitOK, []string{"records 1 to 5, proven up to 5", "nothing is wrong"}},
		"its own directory":  {"", []string{"--spool", filepath.Join(dir, "audit"), "--trust", trust}, exitOK, []string{"nothing is wrong"}},
		"an export":          {"", []string{"--export", whole, "--trust", trust}, exitOK, []string{"nothing is wrong"}},
		"stdin":              {export, []string{"--export", "-", "--trust", trust}, exitOK, []string{"nothing is wrong"}},
		"nobody is trusted":  {"", []string{"--spool", dir}, exitFault, []string{"FOUND", "which is not trusted", "no key is trusted: --trust"}},
		"another is trusted": {"", []string{"--export", whole, "--trust", other}, exitFault, []string{"its key is trusted, and nothing of it is there", "which is not trusted"}},
		"changed":            {changed, []string{"--export", "-", "--trust", trust}, exitFault, []string{"FOUND", "changed: record 2 is not what its hash says"}},
		"removed":            {removed, []string{"--export", "-", "--trust", trust}, exitFault, []string{"removed: record 3 is missing"}},
		"cut off":            {cut, []string{"--export", "-", "--trust", trust, "--heads", whole}, exitFault, []string{"cut off: it ends with record 4, but a head over record 5"}},
		"of a later year":    {"", []string{"--export", auditFile(t, "later", later), "--trust", trust}, exitFault, []string{"cut off: none of its records is there"}},
		"the same by stdin":  {later, []string{"--export", "-", "--trust", trust}, exitFault, []string{"cut off: none of its records is there"}},
		"a spool ahead":      {"", []string{"--export", ahead, "--trust", itsTrust, "--of-spool"}, exitOK, []string{"records 1 to 7, proven up to 5", "nothing is wrong"}},
		"a part ahead":       {"", []string{"--export", ahead, "--trust", itsTrust, "--part"}, exitFault, []string{"untrusted: no trusted head is over what is behind record 5"}},
		"of no changes":      {"", []string{"--export", whole, "--trust", trust}, exitOK, []string{"note: not compared: there are no changes in what was read"}},
		"tables of a spool":  {"", []string{"--of-spool"}, exitUsage, []string{"--of-spool goes with --export"}},
		"half of it":         {export[:len(export)/2], []string{"--export", "-", "--trust", trust}, exitBlind, []string{"line "}},
		"no such file":       {"", []string{"--export", "/none"}, exitBlind, []string{"/none"}},
		"no such heads":      {"", []string{"--export", whole, "--heads", "/none"}, exitBlind, []string{"/none"}},
		"no spool":           {"", []string{"--spool", t.TempDir()}, exitBlind, []string{"no segment"}},
		"no such trust":      {"", []string{"--spool", dir, "--trust", "/none"}, exitUsage, []string{"--trust"}},
		"a wrong trust":      {"", []string{"--spool", dir, "--trust", whole}, exitUsage, []string{"--trust", "line 1"}},
		"two places":         {"", []string{"--spool", dir, "--export", whole}, exitUsage, []string{"name one"}},
		"two other places":   {"", []string{"--spool", dir, "--database", "x"}, exitUsage, []string{"name one"}},
		"stdin twice":        {export, []string{"--export", "-", "--heads", "-", "--trust", trust}, exitUsage, []string{"stdin can be read once"}},
		"heads twice":        {export, []string{"--export", whole, "--heads", "-", "--heads", "-"}, exitUsage, []string{"stdin can be read once"}},
		"no range":           {"", []string{"--spool", dir, "--restored", "7-5"}, exitUsage, []string{`--restored "7-5"`, "NODE:FROM-TO"}},
		"no node":            {"", []string{"--spool", dir, "--ship-writes", "x"}, exitUsage, []string{`--ship-writes "x"`, "uuid"}},
		"a negative age":     {"", []string{"--spool", dir, "--min-age", "-1h"}, exitUsage, []string{"--min-age"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := command(t, c.stdin, append([]string{"audit", "verify"}, c.args...)...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(out+errs, want) {
					t.Errorf("got %s%s, want %q in it", out, errs, want)
				}
			}
		})
	}
}

// aheadExport is one of a spool that has gone on behind its last head, and whom to trust.
func aheadExport(t *testing.T) (export, trust string) {
	t.Helper()
	dir, trust := auditSpool(t, "a", "b", "c")
	s, err := audit.Open(dir, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }() // it was looked at before
	if err := s.Append(t.Context(), []audit.Record{auditRecord("d")}); err != nil {
		t.Fatal(err)
	}
	return auditFile(t, "ahead", commandWorks(t, "audit", "export", "--spool", dir)), trust
}

func TestAuditVerifyJSON(t *testing.T) {
	dir, trust := auditSpool(t, "a")
	var got struct {
		OK       bool
		Nodes    []struct{ First, Last, Proven int }
		Findings []struct{ Kind, Node, Detail string }
	}
	if err := json.Unmarshal([]byte(commandWorks(t, "audit", "verify", "--spool", dir, "--trust", trust, "--json")), &got); err != nil {
		t.Fatal(err)
	}
	if !got.OK || len(got.Nodes) != 1 || got.Nodes[0].Proven != 3 || got.Findings == nil || len(got.Findings) != 0 {
		t.Errorf("got %+v", got)
	}
	code, out, _ := command(t, "", "audit", "verify", "--spool", dir, "--json")
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitFault || got.OK || len(got.Findings) != 2 || got.Findings[0].Kind != "untrusted" || got.Findings[0].Node == "" {
		t.Errorf("got %+v, exit code %d, %v", got, code, err)
	}
}

// TestAuditVerifyUnlisted: what was found and is not listed was found.
func TestAuditVerifyUnlisted(t *testing.T) {
	var text, object strings.Builder
	r := &audit.Report{MoreFindings: 3, MoreNotes: 4}
	if err := errors.Join(writeReport(&text, r), writeReportJSON(&object, r)); err != nil {
		t.Fatal(err)
	}
	if got, want := text.String(), "notes that are not listed: 4\nFOUND more that is not listed: 3\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := object.String(), `{"ok":false,"nodes":[],"changes_compared":0,"findings":[],"notes":[],"more":7,"more_findings":3}`+"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestAuditVerifyRestored: what the node says that the vault has lost is wrong until
// somebody says that it was restored.
func TestAuditVerifyRestored(t *testing.T) {
	dir := t.TempDir()
	s, err := audit.Open(dir, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), []audit.Record{auditRecord("a"), audit.GapRecord(1, 2, 1, 1)}); err != nil {
		t.Fatal(err)
	}
	node, key, _ := s.Identity()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var export strings.Builder
	for line := range strings.Lines(commandWorks(t, "audit", "export", "--spool", dir)) {
		if !strings.Contains(line, `"seq":1,"prev"`) && !strings.Contains(line, `"seq":2,"prev"`) {
			export.WriteString(strings.Replace(line, `"records":4`, `"records":2`, 1))
		}
	}
	type found struct{ Kind, Node, Detail string }
	var got struct {
		OK              bool
		Findings, Notes []found
	}
	verify := func(want int, args ...string) (errs string) {
		t.Helper()
		trust := auditFile(t, "trust", node.String()+" "+string(key)+"\n")
		code, out, errs := command(t, export.String(), append([]string{"audit", "verify", "--export", "-", "--json", "--trust", trust}, args...)...)
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != want || got.OK != (want == exitOK) {
			t.Fatalf("exit code %d, %v: %s%s", code, err, out, errs)
		}
		return errs
	}
	lost := found{"lost by restore", node.String(), `records 1 to 2 are not there, and record 3 says why: "timeline 1 to 1"; no restore is known to the node`}
	unknown := found{Kind: "not compared", Detail: "there are no changes in what was read: what was done past the nodes does not show"}
	if errs := verify(exitFault, "--restored", node.String()+":2-2"); !slices.Equal(got.Findings, []found{lost}) || !slices.Equal(got.Notes, []found{unknown}) || !strings.Contains(errs, "--restored NODE:FROM-TO") {
		t.Errorf("got %+v, %s", got, errs)
	}
	if errs := verify(exitOK, "--restored", node.String()+":2-2", "--restored", node.String()+":1-2"); len(got.Findings) != 0 || !slices.Equal(got.Notes, []found{lost, unknown}) || errs != "" {
		t.Errorf("got %+v, %s", got, errs)
	}
}

func TestAuditExport(t *testing.T) {
	dir, trust := auditSpool(t, "a", hostileName)
	export := commandWorks(t, "audit", "export", "--spool", dir)
	if strings.ContainsFunc(export, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }) {
		t.Errorf("%q would steer a terminal", export)
	}
	heads := commandWorks(t, "audit", "export", "--spool", dir, "--heads-only")
	if strings.Contains(heads, `"record"`) || !strings.Contains(heads, `{"kind":"head"`) {
		t.Errorf("got %s, want the heads alone", heads)
	}
	if code, _, errs := command(t, heads, "audit", "verify", "--spool", dir, "--trust", trust, "--heads", "-"); code != exitOK {
		t.Errorf("the heads alone: %s", errs)
	}
	for _, since := range []string{"yesterday", "-1h", "2026-13-01", "2999-01-01"} {
		if code, _, _ := command(t, "", "audit", "export", "--since", since); code != exitUsage {
			t.Errorf("--since %s: exit code %d, want %d", since, code, exitUsage)
		}
	}
	var errs bytes.Buffer
	if code := run(t.Context(), []string{"audit", "export", "--spool", dir}, &streams{out: fullDisk{}, err: &errs}); code != exitBlind {
		t.Errorf("an export that could not be written: exit code %d", code)
	}
}

// fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestAuditTail(t *testing.T) {
	dir, _ := auditSpool(t, "a", hostileName, "with space")
	out := commandWorks(t, "audit", "tail", "--spool", dir, "-n", "4")
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != 4 || strings.ContainsFunc(out, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }) {
		t.Fatalf("got %q, want four lines that steer no terminal", out)
	}
	node := lines[0][len("2026-11-29T05:00:00.000001Z "):][:8]
	for i, want := range []string{
		"2026-11-29T05:00:00.000001Z " + node + ":2 sql ann/app_rw@192.0.2.7 app update a v3 ok direct change=7 statement=00000000000000ab",
		"2026-11-29T05:00:00.000001Z " + node + `:3 sql ann/app_rw@192.0.2.7 app update "app/\x1b[2J\a\u009b31m\u202e\"name" v3 ok direct change=7 statement=00000000000000ab`,
		"2026-11-29T05:00:00.000001Z " + node + `:4 sql ann/app_rw@192.0.2.7 app update "with space" v3 ok direct change=7 statement=00000000000000ab`,
	} {
		if lines[i] != want {
			t.Errorf("got  %s\nwant %s", lines[i], want)
		}
	}
	if !strings.HasSuffix(lines[3], node+":5 node - - stop - ok") {
		t.Errorf("got %s, want the stop", lines[3])
	}
	export := commandWorks(t, "audit", "export", "--spool", dir)
	for _, line := range strings.SplitAfter(strings.TrimSuffix(commandWorks(t, "audit", "tail", "--spool", dir, "--json"), "\n"), "\n") {
		if !strings.Contains(export, line) {
			t.Errorf("%s is not as in an export", line)
		}
	}
	if out := commandWorks(t, "audit", "tail", "--spool", dir, "-n", "0"); out != "" {
		t.Errorf("-n 0: got %q", out)
	}
	if code, _, _ := command(t, "", "audit", "tail", "-n", "-1"); code != exitUsage {
		t.Errorf("-n -1: exit code %d", code)
	}
}

// A tail that follows shows what a node appends meanwhile, and ends well.
func TestAuditTailFollows(t *testing.T) {
	dir := t.TempDir()
	s, err := audit.Open(dir, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := make(chan string, 10)
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"audit", "tail", "-f", "--spool", dir}, &streams{out: lineWriter(seen), err: os.Stderr})
	}()
	if line := <-seen; !strings.Contains(line, " start ") {
		t.Errorf("got %s, want the start", line)
	}
	for _, name := range []string{"a", "b"} {
		if err := s.Append(ctx, []audit.Record{auditRecord(name)}); err != nil {
			t.Fatal(err)
		}
		if line := <-seen; !strings.Contains(line, "update "+name+" v3") {
			t.Errorf("got %s, want %s", line, name)
		}
	}
	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// lineWriter hands over what is written.
type lineWriter chan string

func (w lineWriter) Write(b []byte) (int, error) {
	w <- string(b)
	return len(b), nil
}

// slowly is a reader, or a writer, that takes its time.
type slowly struct {
	io.Reader
	io.Writer
}

func (s slowly) Read(p []byte) (int, error) {
	<-time.After(progressEvery + time.Second)
	return s.Reader.Read(p[:min(len(p), 1<<19)])
}

func (s slowly) Write(p []byte) (int, error) {
	<-time.After(progressEvery + time.Second)
	return s.Writer.Write(p)
}

// TestAuditProgress: who wants to know is told how far a long run is, every few seconds.
func TestAuditProgress(t *testing.T) {
	dir, trust := auditSpool(t, slices.Repeat([]string{"a"}, 2100)...)
	whole := commandWorks(t, "audit", "export", "--spool", dir)
	verify, export := []string{"verify", "--export", "-", "--trust", trust}, []string{"export", "--spool", dir}
	progress := func(in io.Reader, out io.Writer, args ...string) (said string) {
		var stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"audit"}, args...), &streams{in: in, out: out, err: &stderr}); code != exitOK {
			t.Errorf("%v: exit code %d, %s", args, code, &stderr)
		}
		return stderr.String()
	}
	synctest.Test(t, func(t *testing.T) {
		slowIn := func() io.Reader { return slowly{Reader: strings.NewReader(whole)} }
		slowOut := slowly{Writer: io.Discard}
		for name, said := range map[string]string{
			"nobody has asked":           progress(slowIn(), io.Discard, verify...) + progress(nil, slowOut, export...),
			"it was done in no time":     progress(strings.NewReader(whole), io.Discard, append(verify, "--progress")...),
			"so was what is carried off": progress(nil, io.Discard, append(export, "--progress")...),
		} {
			if said != "" {
				t.Errorf("got %q, and %s", said, name)
			}
		}
		for name, said := range map[string]string{
			"verify": progress(slowIn(), io.Discard, append(verify, "--progress")...),
			"export": progress(nil, slowOut, append(export, "--progress")...),
		} {
			if !strings.HasPrefix(said, "hyperion-vault: 1024 records, ") || !strings.Contains(said, " a second; at record 1024 of node ") {
				t.Errorf("%s: got %q", name, said)
			}
			if n := strings.Count(said, "\n"); n != strings.Count(said, " a second; ") || n > 2 {
				t.Errorf("%s: got %q, want a line for each 1024 records that took %v", name, said, progressEvery)
			}
		}
	})
}
