// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package doors

// A call is a spelling of a call with holes for the name's and the value's
// literal: %n and %v. %d is the database's name.
type call struct {
	name, text string
	// setup is a statement with the secret's name as $1, and its value as $2 if
	// it has one, that somebody else runs before.
	setup string
	// once: it cannot run twice for one secret.
	once bool
	// lost: it stores nothing.
	lost bool
	// states are those with which a node refuses it.
	states []string
	// bare: the call has no schema in front of it.
	bare bool
	// supabase: it is one of supabase/vault's.
	supabase bool
}

var goodCalls = []call{
	{name: "put", text: "vault.put_secret(%n, %v)"},
	{name: "put with description", text: "vault.put_secret(%n, %v, 'what it is')"},
	{name: "named", text: "vault.put_secret(value => %v, name => %n)"},
	{name: "named the old way", text: "vault.put_secret(name := %n, value := %v, description := NULL)"},
	{name: "mixed", text: "vault.put_secret(%n, description => 'd', value => %v)"},
	{name: "upper case", text: "VAULT.Put_Secret(%n, %v)"},
	{name: "quoted", text: `"vault"."put_secret"(%n, "value" => %v)`},
	{name: "U& names", text: `U&"\0076ault".U&"put!005fsecret" UESCAPE '!'(%n, %v)`},
	{name: "comments between", text: "vault/*.x*/ . --put_secret(\n\tput_secret /**/ (\r\n%n -- ,'\n , /*'*/ %v /* $a$ */ )"},
	{name: "database in front", text: "%d.vault.put_secret(%n, %v)"},
	{name: "create", text: "vault.create_secret(%n, 'manual', %v)", once: true},
	{name: "create by names", text: "vault.create_secret(kind => 'manual', name => %n, value => %v, description => '')", once: true},
	{name: "create automatic", text: "vault.create_secret(%n, 'automatic', %v, '1 day', INTERVAL '1 hour')", once: true},
	{name: "rotate", text: "vault.rotate_secret(%n, %v)", setup: "SELECT vault.create_secret($1, 'automatic', rotation_interval => '1 day')"},
	{name: "verify", text: "vault.verify_secret(%n, %v)", setup: "SELECT vault.put_secret($1, $2)"},
	{name: "verify by names", text: "vault.verify_secret(value => %v, name => %n)", setup: "SELECT vault.put_secret($1, 'another')", lost: true},
}

var badCalls = []call{
	{name: "no schema", text: "put_secret(%n, %v)", states: []string{"0A000"}, bare: true},
	{name: "no schema, create", text: "create_secret(%n, 'manual', %v)", states: []string{"0A000"}, bare: true},
	{name: "no schema, U&", text: `U&"put\005fsecret"(%n, %v)`, states: []string{"0A000"}, bare: true},
	{name: "mistyped", text: "vault.putsecret(%n, %v)", states: []string{"42883"}},
	{name: "plural", text: "vault.put_secrets(%n, %v)", states: []string{"42883"}},
	{name: "other word", text: "vault.set(%n, %v)", states: []string{"42883"}},
	{name: "supabase's new_secret", text: "vault.create_secret(new_secret => %v, new_name => %n)", states: []string{"42883"}, supabase: true},
	{name: "supabase's order", text: "vault.create_secret(%v, %n)", states: []string{"22023"}, supabase: true},
	{name: "supabase's order, described", text: "vault.create_secret(%v, %n, 'described')", states: []string{"22023"}, supabase: true},
	{name: "supabase's update", text: "vault.update_secret('0', %v, %n)", states: []string{"0A000"}, supabase: true},
	{name: "supabase's update by names", text: "vault.update_secret(%n, new_secret => %v)", states: []string{"42883"}, supabase: true},
	{name: "one argument", text: "vault.put_secret(%v)", states: []string{"42883"}},
	{name: "too many arguments", text: "vault.put_secret(%n, %v, 'd', 'e')", states: []string{"42883"}},
	{name: "twice the value", text: "vault.put_secret(%n, %v, value => 'x')", states: []string{"42883"}},
	{name: "variadic", text: "vault.put_secret(%n, VARIADIC ARRAY[%v])", states: []string{"42883"}},
	{name: "window", text: "vault.put_secret(%n, %v) OVER ()", states: []string{"42883", "42601"}},
	{name: "distinct", text: "vault.put_secret(DISTINCT %n, %v)", states: []string{"42883", "42601"}},
	{name: "filter", text: "vault.put_secret(%n, %v) FILTER (WHERE true)", states: []string{"42883", "42601"}},
	{name: "quoted capitals", text: `"VAULT"."PUT_SECRET"(%n, %v)`, states: []string{"3F000"}},
	{name: "quoted capital schema", text: `"Vault".put_secret(%n, %v)`, states: []string{"3F000"}},
	{name: "quoted capital name", text: `vault."Put_Secret"(%n, %v)`, states: []string{"42883"}},
	{name: "bad kind", text: "vault.create_secret(%n, 'secret', %v)", states: []string{"22023"}},
	{name: "bad name", text: "vault.put_secret('a//b', %v)", states: []string{"22023"}},
	{name: "name of an expression", text: "vault.put_secret(concat(%n), %v)", states: []string{"0A000"}},
	{name: "NULL name", text: "vault.put_secret(NULL, %v)", states: []string{"22004"}},
	{name: "internal function", text: "vault.next_version(%n, %v)", states: []string{"42883"}},
}

// chosen are the bad calls of one kind.
func chosen(is func(call) bool) (some []call) {
	for _, c := range badCalls {
		if is(c) {
			some = append(some, c)
		}
	}
	return some
}
