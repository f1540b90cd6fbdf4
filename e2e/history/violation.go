// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Promise is what a violation breaks.
type Promise string

// The promises. What each means is said where it is checked.
const (
	// LostWrite: an acknowledged put, create or update is gone.
	LostWrite Promise = "lost write"
	// LostDelete: what an acknowledged delete removed is there again.
	LostDelete Promise = "lost delete"
	// TwoValues: one version of a name has two values.
	TwoValues Promise = "two values"
	// VersionOrder: a version is lower than one that was there before.
	VersionOrder Promise = "version order"
	// NeverPut: a value was read that was not put under that name and version.
	NeverPut Promise = "never put"
	// OwnWrite: a session does not read what it wrote.
	OwnWrite Promise = "own write"
	// BackInTime: a session reads what is older than what it has read.
	BackInTime Promise = "back in time"
	// WrongSettings: a statement ran under settings that are not its session's.
	WrongSettings Promise = "wrong settings"
	// Hang: an operation was not answered in time.
	Hang Promise = "hang"
	// Malformed: the record contradicts itself and cannot be judged.
	Malformed Promise = "malformed"
)

// A Violation is one promise broken, or, among a report's Excused, one that
// PostgreSQL did not make.
type Violation struct {
	Promise Promise
	Name    string // of the secret, if it is about one
	Text    string
	Ops     []*Op // concerned, in the order in which the text names them
}

// String is the promise and the text, and each operation on a line.
func (v Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", strings.ToUpper(string(v.Promise)))
	if v.Name != "" {
		fmt.Fprintf(&b, "%s: ", v.Name)
	}
	b.WriteString(v.Text)
	for _, op := range v.Ops {
		fmt.Fprintf(&b, "\n    %s", op)
	}
	return b.String()
}

// A Report is what Check has found.
type Report struct {
	Violations []Violation
	// Excused are writes in a lost range that are gone.
	Excused []Violation
	// Counts are operations by kind and outcome, "put ok": a record in which
	// nothing happened proves nothing.
	Counts map[string]int
}

// Err is nil if no promise is broken.
func (r *Report) Err() error {
	if len(r.Violations) == 0 {
		return nil
	}
	return fmt.Errorf("%d violations:\n%s", len(r.Violations), listed(r.Violations))
}

// String is all of the report.
func (r *Report) String() string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(&b, "%s: %d\n", key, r.Counts[key])
	}
	if len(r.Excused) > 0 {
		fmt.Fprintf(&b, "%d lost by PostgreSQL:\n%s\n", len(r.Excused), listed(r.Excused))
	}
	fmt.Fprintf(&b, "%d violations\n%s", len(r.Violations), listed(r.Violations))
	return b.String()
}

// maxListed keeps a text readable; what came first tells most.
const maxListed = 20

func listed(violations []Violation) string {
	var lines []string
	for i, v := range violations {
		if i == maxListed {
			lines = append(lines, fmt.Sprintf("and %d more", len(violations)-i))
			break
		}
		lines = append(lines, v.String())
	}
	return strings.Join(lines, "\n")
}

// sort brings violations into the order in which they happened.
func (r *Report) sort() {
	last := func(v Violation) int {
		id := 0
		for _, op := range v.Ops {
			id = max(id, op.ID)
		}
		return id
	}
	for _, list := range [][]Violation{r.Violations, r.Excused} {
		slices.SortStableFunc(list, func(a, b Violation) int {
			return cmp.Or(cmp.Compare(last(a), last(b)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Text, b.Text))
		})
	}
}
