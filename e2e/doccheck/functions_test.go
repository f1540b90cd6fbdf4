// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package doccheck

import (
	"regexp"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// internal are functions that nobody calls: parts of the type, of triggers and
// of constraints.
const internal = `'sealed_|^valid_|^forget_cached$|^refuse_sealed_columns$'`

var function = regexp.MustCompile("(?m)^### `(vault\\.[a-z_]+\\(.*)`$")

// TestFunctionsListed compares the headings of docs/SQL.md with the functions
// that the extension makes: names, arguments, defaults, results.
func TestFunctionsListed(t *testing.T) {
	listed := map[string]bool{}
	for _, m := range function.FindAllStringSubmatch(readFile(t, "docs/SQL.md"), -1) {
		listed[m[1]] = true
	}
	conn := shared.Connect(t, shared.SuperDSN(0))
	rows, err := conn.Query(t.Context(), `SELECT proname, pg_get_function_arguments(oid), pg_get_function_result(oid) FROM pg_proc
		WHERE pronamespace = 'vault'::regnamespace AND proname !~ `+internal)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var name, args, result string
		if err := rows.Scan(&name, &args, &result); err != nil {
			t.Fatal(err)
		}
		want := signature(name, args, result)
		if !listed[want] {
			t.Errorf("docs/SQL.md has no heading `%s`", want)
		}
		delete(listed, want)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for s := range listed {
		t.Errorf("docs/SQL.md has a heading `%s`, but there is no such function", s)
	}
	if got := cluster.Text(t, conn, "SELECT count(*)::text FROM vault.effective_access WHERE role = current_user"); got != "1" {
		t.Errorf("effective_access of the superuser: got %s rows, want 1", got)
	}
}

// signature writes a function as the document does.
func signature(name, args, result string) string {
	short := strings.NewReplacer("integer", "int", "boolean", "bool", "timestamp with time zone", "timestamptz", " DEFAULT ", " = ",
		"NULL::text", "NULL", "NULL::integer", "NULL", "NULL::interval", "NULL", "NULL::timestamp with time zone", "NULL",
		"''::text", "''", "'::text[]", "'")
	args, result = short.Replace(args), short.Replace(result)
	out := ""
	if i := strings.Index(args, "OUT "); i >= 0 && result == "SETOF record" {
		out = " → SETOF (" + strings.ReplaceAll(args[i+len("OUT "):], ", OUT ", ", ") + ")"
		args = strings.TrimSuffix(args[:i], ", ")
	} else if i < 0 {
		out = " → " + result
	}
	return "vault." + name + "(" + args + ")" + out
}
