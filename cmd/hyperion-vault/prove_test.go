// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
)

func TestConninfoWithPassword(t *testing.T) {
	for text, want := range map[string]bool{
		"host=a user=b": true, "service=prod": true, "host=a passfile=/x": true, "postgresql://u@h/d": true, "": true,
		"host=a password=b": false, "password = 'b'": false, "postgresql://u:p@h/d": false, "postgres://h/d?password=p": false,
		"host=a sslpassword=b": false, "postgres://h/d?sslpassword=p": false,
	} {
		if err := checkConninfo("--server", text); (err == nil) != want || err != nil && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestLibpqEnvironment(t *testing.T) {
	got := libpqEnvironment([]string{"PGHOST=h", "PATH=/bin", "VAULT_LOCAL_MASTER_KEY=k", "HYPERION_VAULT_TOKEN=t", "PGPASSFILE=f"})
	if want := "PGHOST=h PATH=/bin PGPASSFILE=f"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// lookAround makes a prover that looks for one value and its controls.
func lookAround(t *testing.T) (*prover, *canary.Canary) {
	t.Helper()
	p, err := (&proveCommand{DataDir: []string{"x"}}).prover(&streams{out: &bytes.Buffer{}, err: &bytes.Buffer{}})
	if err != nil {
		t.Fatal(err)
	}
	one := p.newCanary("door")
	p.controls = controls{canary.New("stored", "t"), canary.New("said", "t"), canary.New("named", "t"), canary.New("turned", "t")}
	p.scanner = canary.NewScanner(append(p.controls.all(), p.canaries...))
	p.written = time.Now().Add(controlWait)
	return p, one
}

// dataDirectory has files in the places of a server's.
func dataDirectory(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestPlacesOfADataDirectory: what is found, and each control, counts where it is: one
// in the log of a data directory does not vouch for its data.
func TestPlacesOfADataDirectory(t *testing.T) {
	p, one := lookAround(t)
	stored, said := p.controls.stored.Value(), p.controls.said.Value()
	p.c.DataDir = []string{dataDirectory(t, map[string]string{
		"PG_VERSION": "15", "base/1/1": stored, "pg_wal/0001": stored + one.Value(), "log/a.log": said, "pg_log/b.log": "nothing",
	})}
	for _, pl := range p.places() {
		if strings.HasSuffix(pl.name, "pg_log") {
			continue // its control does not come
		}
		if err := p.lookAt(t.Context(), &pl); err != nil {
			t.Fatal(err)
		}
	}
	want := []looked{{Kind: kindData, Files: 2, Control: true}, {Kind: kindWAL, Files: 1, Control: true, Found: 2}, {Kind: kindLog, Files: 1, Control: true}}
	for i, got := range p.report.Looked {
		if w := want[i]; got.Kind != w.Kind || got.Files != w.Files || got.Control != w.Control || got.Found != w.Found {
			t.Errorf("got %+v, want %+v", got, w)
		}
	}
	if len(p.report.Looked) != len(want) || len(p.report.Faults) > 0 {
		t.Errorf("got %+v", p.report)
	}
	p.judge()
	if p.report.Verdict != verdictFound {
		t.Errorf("the verdict is %q", p.report.Verdict)
	}
	for _, write := range []func(*bytes.Buffer) error{
		func(b *bytes.Buffer) error { return writeProof(b, &p.report) }, func(b *bytes.Buffer) error { return writeProofJSON(b, &p.report) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil || strings.Contains(b.String(), one.Head) || !strings.Contains(b.String(), "pg_wal/0001") || strings.Contains(b.String(), "null") {
			t.Errorf("%v: %s", err, b.String())
		}
	}
}

// TestLogThatIsLate: a control that is still on its way is waited for.
func TestLogThatIsLate(t *testing.T) {
	p, _ := lookAround(t)
	log := filepath.Join(t.TempDir(), "log")
	looks := 0
	pl := place{kindLog, log, p.controls.said, "", func(ctx context.Context, s *scan) error {
		if looks++; looks == 2 {
			s.scanner.Text(log, p.controls.said.Value())
		}
		return nil
	}}
	if err := p.lookAt(t.Context(), &pl); err != nil || looks != 2 || len(p.report.Faults) > 0 || !p.report.Looked[0].Control {
		t.Errorf("%v after %d looks: %+v", err, looks, p.report)
	}
}

// TestChangedFiles: --changed leaves out what was written before.
func TestChangedFiles(t *testing.T) {
	p, _ := lookAround(t)
	p.c.Changed = true
	dir := dataDirectory(t, map[string]string{"old": p.controls.said.Value(), "new": p.controls.said.Value()})
	earlier := p.began.Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "old"), earlier, earlier); err != nil {
		t.Fatal(err)
	}
	pl := place{kindLog, dir, p.controls.said, "", func(ctx context.Context, s *scan) error { return s.tree(ctx, dir) }}
	if err := p.lookAt(t.Context(), &pl); err != nil {
		t.Fatal(err)
	}
	if got := p.report.Looked[0]; got.Files != 1 || got.Skipped != 1 || !got.Control {
		t.Errorf("got %+v, want one file read, one left out", got)
	}
}

// TestNothingLookedAt is never a proof.
func TestNothingLookedAt(t *testing.T) {
	p, _ := lookAround(t)
	p.judge()
	if p.report.Verdict != verdictBlind {
		t.Errorf("the verdict is %q", p.report.Verdict)
	}
	p, _ = lookAround(t)
	p.report.Looked = []looked{{Kind: kindLog, Control: true}}
	p.report.Left = []string{"a schema"}
	p.judge()
	if p.report.Verdict != verdictBlind || !strings.Contains(strings.Join(p.report.Faults, ""), "a schema") {
		t.Errorf("something was left behind: %+v", p.report)
	}
}

// TestProgress tells bytes of a total, to who wants to know.
func TestProgress(t *testing.T) {
	p, _ := lookAround(t)
	s := &scan{p: p, scanner: p.scanner, name: "here", total: 3 << 30, began: time.Now().Add(-time.Second)}
	s.done = 1 << 30
	s.progress()
	said := p.std.err.(*bytes.Buffer)
	if said.Len() > 0 {
		t.Errorf("got %s, and nobody has asked", said)
	}
	p.c.Progress, p.lastTold = true, time.Time{}
	s.progress()
	if got := said.String(); !strings.HasPrefix(got, "hyperion-vault: here: 1.0 GB of 3.0 GB, ") {
		t.Errorf("got %q", got)
	}
	s.progress()
	if strings.Count(said.String(), "\n") != 1 {
		t.Errorf("got %q, want one line in %v", said, progressEvery)
	}
}

// TestHostileProof: whoever names a file, a role or a database does not write to the
// terminal.
func TestHostileProof(t *testing.T) {
	const hostile = "x\x1b[2Jy\tz\n"
	var b bytes.Buffer
	err := writeProof(&b, &proof{
		Logging: hostile, Settings: []string{hostile}, NotOpened: []unopened{{hostile, hostile}}, Looked: []looked{{Kind: kindLog, Place: hostile}},
		NotLooked: []notLooked{{kindLog, hostile, hostile}}, Findings: []foundCanary{{Place: hostile}}, Notes: []string{hostile}, Faults: []string{hostile},
	})
	if err != nil || strings.Contains(b.String(), "\x1b") || strings.Count(b.String(), `x\x1b[2Jy\tz\n`) != 10 {
		t.Errorf("%v: %s", err, b.String())
	}
}

func TestTail(t *testing.T) {
	e := &tail{}
	for range 3 {
		if _, err := e.Write(bytes.Repeat([]byte("x"), maxTail/2)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := e.Write([]byte("end"))
	if err != nil || len(e.text) != maxTail || !bytes.HasSuffix(e.text, []byte("xend")) {
		t.Errorf("%v, %d bytes", err, len(e.text))
	}
}

// TestProveFollowsNobody: a node that sends elsewhere gets the token, and nobody else.
func TestProveFollowsNobody(t *testing.T) {
	asked := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer other.Close()
	node := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer node.Close()
	c := &proveCommand{DataDir: []string{"x"}}
	c.Addr = node.URL
	p, err := c.prover(&streams{out: &bytes.Buffer{}, err: &bytes.Buffer{}, environ: []string{tokenVariable + "=hvt_x"}})
	if err != nil {
		t.Fatal(err)
	}
	if status, _, err := p.rest.Do(t.Context(), "GET", "/healthz", "", ""); err != nil || status != http.StatusTemporaryRedirect || asked {
		t.Errorf("got %d, %v; the other was asked: %t", status, err, asked)
	}
}

// TestDoorsOfALockedAddress: who has tried wrong tokens before is told to wait.
func TestDoorsOfALockedAddress(t *testing.T) {
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }))
	defer node.Close()
	p, _ := lookAround(t)
	p.rest = &canary.RESTClient{Base: node.URL, Token: "t", HTTP: node.Client()}
	if err := p.openREST(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.report.Faults, "\n"); !strings.Contains(got, "answered 429, want 401: this address is locked") {
		t.Errorf("got %s", got)
	}
}
