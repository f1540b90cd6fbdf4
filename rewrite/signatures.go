// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import "strings"

// signature is one function of the extension as a caller sees it.
type signature struct {
	name string
	// args as written in a hint, in order; an argument with " = " may be left out.
	args []string
	// variadic: the last argument may be repeated.
	variadic bool
	// writes: a call changes something in the database.
	writes bool
	// rights: a call changes who may do what.
	rights bool
	// internal: never suggested.
	internal bool
}

// schemaVault is the schema of every object of the extension.
const schemaVault = "vault"

// signatures lists every function of the extension that a statement could
// call. A call in schema vault that no line here allows is refused, so the
// list must be complete: TestSignaturesMatchExtension compares it with the
// extension's install script.
var signatures = []signature{
	{name: "put_secret", args: []string{"name text", "value text", "description text = NULL"}, writes: true},
	{name: "create_secret", args: []string{"name text", "kind text", "value text = NULL", "rotation_interval interval = NULL", "grace_period interval = NULL", "description text = NULL"}, writes: true},
	{name: "rotate_secret", args: []string{"name text", "value text = NULL"}, writes: true},
	{name: "verify_secret", args: []string{"name text", "value text"}},
	{name: "read_secret", args: []string{"name text", "version int = NULL", "missing_ok bool = false"}},
	{name: "update_secret", args: []string{"name text", "rotation_interval interval = NULL", "grace_period interval = NULL", "description text = NULL", "next_rotation_at timestamptz = NULL"}, writes: true},
	{name: "delete_secret", args: []string{"name text"}, writes: true},
	{name: "list_secrets", args: []string{"prefix text = ''"}},
	{name: "list_versions", args: []string{"name text"}},
	{name: "grant_access", args: []string{"role regrole", "pattern text", "actions text[] = '{read}'"}, variadic: true, writes: true, rights: true},
	{name: "revoke_access", args: []string{"role regrole", "pattern text", "actions text[] = '{*}'"}, variadic: true, writes: true, rights: true},
	{name: "adopt_grants", writes: true, rights: true},
	{name: "grant_service_role", args: []string{"role regrole"}, writes: true, rights: true},
	{name: "allowed", args: []string{"action text", "name text"}},
	{name: "status"},
	{name: "tick", writes: true},
	{name: "enqueue_due_rotations", writes: true},
	{name: "expire_grace_versions", writes: true},
	{name: "next_version", args: []string{"name text", "n int", "action text"}, writes: true},
	{name: "verify_begin", args: []string{"name text"}},
	{name: "fail", args: []string{"sqlstate text", "message text", "detail text = NULL", "hint text = NULL"}},
	{name: "login_verifier", args: []string{"name text"}},
	{name: "hba_rules"},
	{name: "session_state"},
	{name: "client_addr"},
	{name: "replayed"},

	// Not for clients: what nodes serve REST, rotate and ship with, and tokens.
	{name: "token_role", args: []string{"sha256 bytea"}, internal: true},
	{name: "token_read", args: []string{"sha256 bytea", "name text", "wanted int"}, internal: true},
	{name: "add_token", args: []string{"name text", "role text", "sha256 bytea"}, writes: true, internal: true},
	{name: "node_read", args: []string{"name text", "wanted int", "actor text"}, internal: true},
	{name: "node_candidates", args: []string{"name text", "actor text"}, internal: true},
	{name: "node_list", args: []string{"prefix text", "after text", "page int"}, internal: true},
	{name: "node_next_version", args: []string{"name text", "action text", "actor text"}, writes: true, internal: true},
	{name: "node_write", args: []string{"record text", "action text", "kind text", "actor text"}, writes: true, internal: true},
	{name: "node_update", args: []string{"name text", "rotation_interval interval", "grace_period interval", "description text", "allowed_cidrs cidr[]", "actor text"}, writes: true, internal: true},
	{name: "node_delete", args: []string{"name text", "actor text"}, writes: true, internal: true},
	{name: "check_rest_admin", args: []string{"caller bytea"}, internal: true},
	{name: "rest_admin", args: []string{"caller bytea", "change text", "name text", "detail jsonb"}, writes: true, internal: true},
	{name: "rest_roles", args: []string{"caller bytea", "wanted text", "after text", "page int"}, internal: true},
	{name: "rest_tokens", args: []string{"caller bytea", "after text", "page int"}, internal: true},
	{name: "bootstrap_token", args: []string{"sha256 bytea"}, writes: true, internal: true},
	{name: "lockout", args: []string{"client inet", "secs int"}, writes: true, internal: true},
	{name: "node_reschedule", args: []string{"name text", "next_rotation_at timestamptz", "actor text"}, writes: true, internal: true},
	{name: "claim_rotation", args: []string{"node text", "most int"}, writes: true, internal: true},
	{name: "complete_rotation", args: []string{"job bigint", "token uuid", "seen int", "record text"}, writes: true, internal: true},
	{name: "fail_rotation", args: []string{"job bigint", "token uuid", "reason text"}, writes: true, internal: true},
	{name: "rotation_status", internal: true},
	{name: "audit_position", args: []string{"node uuid"}, internal: true},
	{name: "audit_append", args: []string{"node uuid", "first bigint", "n int", "prev bytea", "gap bool", "records bytea", "head_at timestamptz", "public_key bytea", "signature bytea"}, writes: true, internal: true},
	{name: "audit_store", args: []string{"node uuid", "first bigint", "n int", "prev bytea", "records bytea"}, writes: true, internal: true},
	{name: "prune_audit", args: []string{"before timestamptz"}, writes: true, internal: true},

	// Not for callers: parts of the type, of triggers and of constraints.
	{name: "valid_name", args: []string{"name text"}, internal: true},
	{name: "valid_pattern", args: []string{"pattern text"}, internal: true},
	{name: "log_change", args: []string{"action text", "subject text"}, writes: true, internal: true},
	{name: "forget_cached", internal: true},
	{name: "refuse_sealed_columns", internal: true},
	{name: "sealed_in", args: []string{"cstring"}, internal: true},
	{name: "sealed_out", args: []string{"sealed"}, internal: true},
	{name: "sealed_recv", args: []string{"internal"}, internal: true},
	{name: "sealed_send", args: []string{"sealed"}, internal: true},
	{name: "sealed_to_text", args: []string{"sealed"}, internal: true},
	{name: "sealed_to_varchar", args: []string{"sealed"}, internal: true},
	{name: "sealed_to_bpchar", args: []string{"sealed"}, internal: true},
	{name: "sealed_to_name", args: []string{"sealed"}, internal: true},
	{name: "sealed_to_bytea", args: []string{"sealed"}, internal: true},
	{name: "sealed_to_json", args: []string{"sealed"}, internal: true},
	{name: "sealed_to_jsonb", args: []string{"sealed"}, internal: true},
	{name: "sealed_to_xml", args: []string{"sealed"}, internal: true},
}

// Names that mean something to this package although they are no function's:
// see keepIdent.
var otherNames = append([]string{schemaVault, "text", "varchar", "pg_catalog", "set_config", "function", "procedure", "program"}, runsText...)

// maxKnownIdent is more than the longest known name takes as U&"…" with every
// character escaped (8 bytes each).
const maxKnownIdent = 8*maxFunction + 4

// maxFunction is more than the longest name of a function has.
const maxFunction = 28

var signatureOf = func() map[string]*signature {
	m := make(map[string]*signature, len(signatures))
	for i := range signatures {
		m[signatures[i].name] = &signatures[i]
	}
	return m
}()

// IsFunction reports whether the extension has a function of this name.
func IsFunction(name string) bool { return signatureOf[name] != nil }

var knownNames = func() map[string]bool {
	m := map[string]bool{}
	for _, s := range signatures {
		m[s.name] = true
		for _, a := range s.args {
			m[argName(a)] = true
		}
	}
	for _, n := range otherNames {
		m[n] = true
	}
	for table, columns := range tables {
		m[table] = true
		for _, c := range columns {
			m[c] = true
		}
	}
	return m
}()

// argName is the name in "name text = NULL".
func argName(arg string) string {
	name, _, _ := strings.Cut(arg, " ")
	return name
}

func optional(arg string) bool { return strings.Contains(arg, " = ") }

// String is the signature as shown in a hint.
func (s *signature) String() string {
	var b strings.Builder
	b.WriteString(schemaVault + "." + s.name + "(")
	for i, a := range s.args {
		if i > 0 {
			b.WriteString(", ")
		}
		if s.variadic && i == len(s.args)-1 {
			b.WriteString("VARIADIC ")
		}
		b.WriteString(a)
	}
	b.WriteString(")")
	return b.String()
}

// arg is the index of the argument called name, or -1.
func (s *signature) arg(name string) int {
	for i, a := range s.args {
		if argName(a) == name {
			return i
		}
	}
	return -1
}

// nearest is the function whose name is closest to name, or nil if none is
// close enough to be meant.
func nearest(name string) *signature {
	var best *signature
	name = strings.ToLower(name)
	least := len(name)/2 + 1
	for i := range signatures {
		if signatures[i].internal {
			continue
		}
		if d := distance(name, signatures[i].name, least); d < least {
			best, least = &signatures[i], d
		}
	}
	return best
}

// distance is the Levenshtein distance of a and b, or limit if it is not less.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return min(row[len(b)], limit)
}
