// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"slices"
	"strings"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// noteDenied notes what the server denies and does not tell of. e is nil if nothing is
// owed. mu is held.
func (ss *session) noteDenied(e *owed, body []byte) {
	if e == nil {
		return
	}
	ss.noteReservation(e.task, body)
	ss.noteUncallable(e, body)
}

// noteUncallable notes that the role may not call a function of the vault: the server
// says so before any code of the extension's runs, which tells of all else that it
// denies. mu is held.
func (ss *session) noteUncallable(e *owed, body []byte) {
	if !ss.direct(e) || e.task != nil && e.task.pre != nil {
		return
	}
	function := uncallable(body)
	if plan := planOf(e); function == "" || plan != nil && plan.Function != "" && !slices.Contains(plan.Functions, function) {
		return // a table may be called so
	}
	a := asks(function, statementOf(e))
	r := ss.who(a.statement).Record(a.action, vault.OutcomeDenied)
	r.Direct, r.Reason = true, stateKinds[statePrivilege]
	ss.noted = append(ss.noted, r)
}

// uncallable is the function of the vault that an ErrorResponse says may not be called;
// empty: it says something else. It has the name in its message alone, whose language
// lc_messages says; the routine, of src/backend/catalog/aclchk.c, is that of a right on
// any object that is missing.
func uncallable(body []byte) string {
	var code, message, routine string
	for _, f := range parseFields(body) {
		switch f.Code {
		case 'C':
			code = f.Text
		case 'M':
			message = f.Text
		case 'R':
			routine = f.Text
		}
	}
	if code != statePrivilege || routine != "aclcheck_error" {
		return ""
	}
	inName := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '$'
	}
	for word := range strings.FieldsFuncSeq(message, func(r rune) bool { return !inName(r) }) {
		if rewrite.IsFunction(word) {
			return word
		}
	}
	return ""
}
