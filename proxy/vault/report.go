// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"strconv"
	"strings"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// ReportName is under which name the extension tells a node at once, by a
// ParameterStatus, what a function of the vault has done or refused (docs/AUDIT.md).
const ReportName = "hyperion_vault.did"

// RoleName is under which name it tells the node in which role the session runs: before
// anything is done or read, whenever SET ROLE has chosen another one.
const RoleName = "hyperion_vault.role"

// BypassesName is under which name it tells, behind that, whether that role is a superuser
// or has BYPASSRLS: on or off.
const BypassesName = "hyperion_vault.bypasses"

// ReadReport makes a record of what the extension has told: ACTION OUTCOME REASON
// VERSION CHANGE SUBJECT, with - for no reason. false: that is no report.
func (a Actor) ReadReport(text string, direct bool) (r Record, ok bool) {
	words := strings.SplitN(text, " ", 6)
	if len(words) != 6 || !isWord(words[0]) || !isWord(words[1]) || words[2] != "-" && !isWord(words[2]) {
		return Record{}, false
	}
	version, err := strconv.ParseUint(words[3], 10, 31)
	if err != nil {
		return Record{}, false
	}
	change, err := strconv.ParseUint(words[4], 10, 63)
	if err != nil {
		return Record{}, false
	}
	r = a.Record(audit.Action(words[0]), audit.Outcome(words[1]))
	r.Version, r.Change, r.Secret, r.Direct = int32(version), int64(change), words[5], direct
	if words[2] != "-" {
		r.Reason = words[2]
	}
	if r.Reason == "denied" { // it has one rule for each action
		r.Reason = byGrant
		if r.Action == audit.ActionGrant || r.Action == audit.ActionRevoke {
			r.Reason = byAdmin
		}
	}
	return r, true
}

// isWord says whether s can be an action or an outcome.
func isWord(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}
