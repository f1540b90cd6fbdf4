// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/history"
)

// A promotion is when a timeline had begun for sure.
type promotion struct {
	at       time.Duration
	timeline int
}

// failover has another server promoted, and knows what PostgreSQL may have lost.
func (w *world) failover(t *testing.T) *cluster.Node {
	t.Helper()
	primary := w.manager.Failover(t)
	w.know(t, primary)
	return primary
}

// know keeps what the history of a new primary tells.
func (w *world) know(t *testing.T, primary *cluster.Node) {
	t.Helper()
	timeline, fork := w.c.Fork(t, primary)
	w.promoted = append(w.promoted, promotion{at: w.log.Now(), timeline: timeline + 1})
	// A server that waits for another in vain may still show what its clients were
	// never told to be done: to those who read there, until it is a standby that
	// follows the new primary.
	w.lost = append(w.lost, history.Lost{Timeline: timeline, Fork: fork, Unconfirmed: w.synchronous})
	t.Logf("%s is primary: timeline %d left at %X/%X", primary.Name, timeline, fork>>32, uint32(fork))
}

// whole waits until the next fault may come.
func (w *world) whole(t *testing.T) {
	t.Helper()
	w.manager.Whole(t)
	for i := range w.lost {
		if w.lost[i].To == 0 {
			w.lost[i].To = w.log.Now()
		}
	}
}

// fenced judges that a primary that was replaced has acknowledged nothing that
// began later.
func (w *world) fenced(t *testing.T) {
	t.Helper()
	for _, op := range w.run.Ops() {
		if text := unfenced(&op, w.promoted); text != "" {
			t.Errorf("%s: %s", text, &op)
			return // one tells enough
		}
	}
}

func unfenced(op *history.Op, promoted []promotion) string {
	if op.Outcome != history.OK || op.Timeline == 0 {
		return ""
	}
	for _, p := range promoted {
		if op.Timeline < p.timeline && op.Begin > p.at {
			return "a write went to a primary that was replaced"
		}
	}
	return ""
}

// The texts that history's clients store. A description is no secret: that it is
// found shows that the search finds things.
var (
	secretText = regexp.MustCompile(`value [0-9]+ of run [0-9a-f]`)
	plainText  = regexp.MustCompile(`description [0-9]+ of run [0-9a-f]`)
)

// sealed looks through all that servers, nodes and managers have written.
func (w *world) sealed(t *testing.T) {
	t.Helper()
	roots := logs(t, w.c)
	for _, n := range w.c.Nodes {
		roots = append(roots, n.DataDir)
	}
	described := 0
	for _, root := range roots {
		found, plain := search(t, root)
		for _, text := range found {
			t.Error(text)
		}
		if plain {
			described++
		}
	}
	if described < len(w.c.Nodes) {
		t.Errorf("descriptions were found in %d places, want each server's data", described)
	}
}

// search returns where values are in files, and whether there is a description.
func search(t *testing.T, root string) (found []string, described bool) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // a running server renames and removes files
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || !bytes.Contains(content, []byte(" of run ")) {
			return err
		}
		if text := secretText.Find(content); text != nil {
			found = append(found, fmt.Sprintf("%s holds %q", path, text))
		}
		described = described || plainText.Match(content)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return found, described
}
