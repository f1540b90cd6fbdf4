// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Position is a place in the WAL: who shows what is before it shows a write. The
// timeline tells two apart that have one place: after a failover the new primary
// writes other things there than the old one did.
type Position struct {
	timeline uint32 // 0: none
	lsn      uint64 // math.MaxUint64: not known, so that of its timeline only the primary shows it
}

// ParsePosition reads what String returns, and no other spelling.
func ParsePosition(text string) (p Position, ok bool) {
	timeline, lsn, _ := strings.Cut(text, "/")
	n, err := strconv.ParseUint(timeline, 10, 32)
	if err != nil {
		return Position{}, false
	}
	p.timeline = uint32(n)
	if p.lsn, ok = parseLSN(lsn); !ok || n == 0 || p.String() != text {
		return Position{}, false
	}
	return p, true
}

// String returns the timeline, in decimal, and the place as PostgreSQL writes it:
// 5/0/3000148.
func (p Position) String() string {
	return fmt.Sprintf("%d/%X/%X", p.timeline, p.lsn>>32, p.lsn&math.MaxUint32)
}

// positionOf is where a primary is after a write: what it answered to SQLPosition.
func positionOf(timeline uint32, answer string) Position {
	lsn, ok := parsePosition(answer)
	if !ok {
		lsn = math.MaxUint64
	}
	return Position{timeline, lsn}
}

// before says whether who shows other shows p.
func (p Position) before(other Position) bool {
	return p.timeline < other.timeline || p.timeline == other.timeline && p.lsn <= other.lsn
}

// shown says whether the local server shows a position. One that has come to a later
// timeline has replayed the earlier one's WAL up to where they part, and what was
// written behind that is lost: there is no more of it anywhere.
func (r *replayed) shown(p Position) bool {
	return p.before(Position{r.timeline, r.position})
}
