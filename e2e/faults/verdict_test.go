// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package faults

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/history"
)

// A promotion is when a timeline had begun for sure, and where it left the one
// before.
type promotion struct {
	at       time.Duration
	timeline int
	fork     uint64
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
	w.promoted = append(w.promoted, promotion{at: w.log.Now(), timeline: timeline + 1, fork: fork})
	if !w.synchronous {
		w.lost = append(w.lost, history.Lost{Timeline: timeline, Fork: fork})
	}
	t.Logf("%s is primary: timeline %d left at %X/%X", primary.Name, timeline, fork>>32, uint32(fork))
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

// sealed looks through all that the servers have written.
func (w *world) sealed(t *testing.T) {
	t.Helper()
	for _, n := range w.c.Nodes {
		if !unsealed(t, n.DataDir) {
			t.Errorf("%s: not even a description was found in its data", n.Name)
		}
	}
	for _, path := range logs(t, w.c) {
		unsealed(t, path)
	}
}

// unsealed fails the test where a value is found, and tells whether a description
// was.
func unsealed(t *testing.T, root string) (described bool) {
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
		if err != nil {
			return err
		}
		if !bytes.Contains(content, []byte(" of run ")) {
			return nil
		}
		if found := secretText.Find(content); found != nil {
			t.Errorf("%s holds %q", path, found)
		}
		described = described || plainText.Match(content)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return described
}
