// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"strings"
	"testing"
	"time"
)

// Numbers that lie close together take little memory, and those that do not have a
// bound: then nothing is said of changes but that.
func TestNamingsAreBounded(t *testing.T) {
	var s namings
	for id := int64(1); id <= 100_000; id++ {
		s.add(id, testTime)
	}
	if len(s.pages) > 100_000/pageIDs+1 {
		t.Errorf("got %d pages", len(s.pages))
	}
	if n, text := s.list(5); n != 99_996 || text != "5–100000" {
		t.Errorf("got %d, %s", n, text)
	}
	for id := int64(1); id <= 2*maxListed; id++ {
		s.take(2*id, testTime)
	}
	if n, text := s.list(1); n != 100_000-2*maxListed || !strings.HasPrefix(text, "1, 3, 5, ") || !strings.HasSuffix(text, ", 39, …") {
		t.Errorf("got %d, %s", n, text)
	}
	for _, id := range []int64{2, 1 << 62, -1, 0} {
		if s.take(id, testTime) {
			t.Errorf("%d was never there, or was taken", id)
		}
	}

	one := new([pageIDs]uint32)
	v := verifier{evidence: &Evidence{At: testTime.Add(time.Hour)}, report: &Report{}, chains: map[NodeID]*chain{testNode: {NodeReport: NodeReport{Last: 1, First: 1}, began: testTime}}}
	v.named.pages = map[int64]*[pageIDs]uint32{}
	for i := range int64(maxPages) {
		v.named.pages[i] = one
	}
	v.named.add(1<<40, testTime)
	v.named.add(1<<62, testTime)
	if len(v.named.pages) != maxPages {
		t.Errorf("got %d pages, want %d", len(v.named.pages), maxPages)
	}
	if err := v.compare(t.Context(), each([]Change{{ID: 1 << 40, At: testTime}, {ID: 1 << 41, At: testTime}})); err != nil {
		t.Fatal(err)
	}
	if f := v.report.Findings; len(f) != 1 || f[0].Kind != NotCompared {
		t.Errorf("got %+v, want that they cannot be compared", f)
	}
}
