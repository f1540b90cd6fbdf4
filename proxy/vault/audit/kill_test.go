// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

var (
	kills    = flag.Int("kills", 20, "how often TestKill kills")
	killDir  = flag.String("kill-dir", "", "set by TestKill for the processes that it starts")
	killMode = flag.Int("kill-mode", 0, "as above")
	killRun  = flag.Int("kill-run", 0, "as above")
)

// TestKilled is the process that TestKill kills: eight clients append as fast as
// they can, and say what was appended.
func TestKilled(t *testing.T) {
	if *killDir == "" {
		return // TestKill runs it
	}
	s, err := Open(*killDir, Options{Sync: Sync(*killMode), SegmentBytes: 100 << 10})
	if err != nil {
		t.Fatal(err)
	}
	var out sync.Mutex
	for client := range 8 {
		go func() {
			for n := 0; ; n++ {
				records := make([]Record, 1+n%5)
				for i := range records {
					records[i] = read(fmt.Sprintf("%d/%d/%d/%d", *killRun, client, n, i))
				}
				if err := s.Append(t.Context(), records); err != nil {
					panic(err)
				}
				out.Lock()
				for _, r := range records {
					_, _ = fmt.Fprintln(os.Stdout, "appended", r.Secret)
				}
				out.Unlock()
			}
		}()
	}
	select {}
}

// A process is killed at a random point of its work, again and again; each takes up
// the spool that the one before left. Every record that was appended is there, once.
func TestKill(t *testing.T) {
	for mode := range Sync(2) {
		t.Run(mode.String(), func(t *testing.T) {
			dir := t.TempDir()
			acked := map[string]bool{}
			for run := range *kills {
				kill(t, dir, mode, run, acked)
			}
			s := openOS(t, dir, Options{})
			rows := rowsOf(t, s)
			seen := map[string]bool{}
			for _, r := range rows {
				if r.Face != FaceSQL {
					continue
				}
				if seen[r.Secret] {
					t.Errorf("%s was recorded twice", r.Secret)
				}
				seen[r.Secret] = true
			}
			for name := range acked {
				if !seen[name] {
					t.Errorf("%s was appended and is not there", name)
				}
			}
			node, key, _ := s.Identity()
			source := func(yield func(Row, error) bool) {
				for _, r := range rows {
					if !yield(r, nil) {
						return
					}
				}
			}
			head := s.id.sign(rows[len(rows)-1].Position(), testTime)
			report, err := verifyChains(t.Context(), source, Trust{node: {key}}, []Head{head})
			if err != nil || !report.OK() || len(report.Notes) != 0 {
				t.Errorf("got %+v, %v, want a whole chain", report, err)
			}
			t.Logf("%d records, %d of them acknowledged, %d segments", len(rows), len(acked), s.Status().Segments)
		})
	}
}

func kill(t *testing.T, dir string, mode Sync, run int, acked map[string]bool) {
	t.Helper()
	p := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$", "-kill-dir="+dir,
		fmt.Sprintf("-kill-mode=%d", mode), fmt.Sprintf("-kill-run=%d", run))
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stderr = os.Stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	point := 1 + rand.IntN(300)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		name, ok := strings.CutPrefix(lines.Text(), "appended ")
		if !ok {
			t.Errorf("process %d says %q", run, lines.Text())
			continue
		}
		acked[name] = true
		if point--; point == 0 {
			if err := p.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = p.Wait() // it was killed
	if point > 0 {
		t.Fatalf("process %d ended by itself", run)
	}
}
