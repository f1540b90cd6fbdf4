// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"slices"
	"strings"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// span is one name, or all that begin with it.
type span struct {
	begin string
	exact bool
}

// listed is where the names are that begin with prefix and that a may list, in byte
// order, none twice. What lies between is not even looked at, however much it is.
func (a *Access) listed(prefix string) []span {
	if a.admin {
		return []span{{begin: prefix}}
	}
	var all []span
	for _, r := range a.rules {
		begin, open := strings.CutSuffix(r.pattern, "*")
		switch {
		case !r.allows(audit.ActionList):
		case strings.HasPrefix(begin, prefix):
			all = append(all, span{begin, !open})
		case open && strings.HasPrefix(prefix, begin):
			all = append(all, span{begin: prefix})
		}
	}
	slices.SortFunc(all, func(x, y span) int {
		if x.begin == y.begin && x.exact != y.exact { // all of them go before the one
			if x.exact {
				return 1
			}
			return -1
		}
		return strings.Compare(x.begin, y.begin)
	})
	kept := all[:0]
	for _, s := range all {
		if last := len(kept) - 1; last >= 0 && kept[last].has(s.begin) {
			continue
		}
		kept = append(kept, s)
	}
	return kept
}

func (s span) has(name string) bool {
	return s.begin == name || !s.exact && strings.HasPrefix(name, s.begin)
}

// before says whether no name of s comes after another one.
func (s span) before(name string) bool {
	return name > s.begin && !s.has(name) || s.exact && name == s.begin
}
