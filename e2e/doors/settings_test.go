// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package doors

// A setting is a way in which a session's settings were changed.
type setting struct {
	name string
	// user logs in; empty: the owner.
	user string
	// options are startup options.
	options string
	// before are statements that the session runs first; the first failing one
	// is the last.
	before []string
	// ahead is sent in front of the text in the same batch, without Sync.
	ahead string
	// block: the session stands in a block then.
	block bool
	// failed: that block has failed.
	failed bool
	// off: standard_conforming_strings is off.
	off bool
	// wasOff: it was off before.
	wasOff bool
	// encoding is client_encoding, empty: UTF8.
	encoding string
}

// foreign reports an encoding in which a value's bytes are not its UTF-8.
func (s setting) foreign() bool {
	return s.encoding != "" && s.encoding != "SQL_ASCII"
}

var goodSettings = []setting{
	{name: "none"},
	{name: "off by SET", before: []string{"SET standard_conforming_strings = off"}, off: true},
	{name: "off by SET SESSION and a string", before: []string{"SET SESSION standard_conforming_strings TO 'off'"}, off: true},
	{name: "off by SET LOCAL", before: []string{"BEGIN", "SET LOCAL standard_conforming_strings = 0"}, off: true, block: true},
	{name: "off by set_config", before: []string{"SELECT set_config('standard_conforming_strings', 'off', false)"}, off: true},
	{name: "off by a function", before: []string{"SELECT off_%w()"}, off: true},
	{name: "off by DO", before: []string{"DO $$ BEGIN PERFORM set_config('standard_conforming_' || 'strings', 'off', false); END $$"}, off: true},
	{name: "off by UPDATE pg_settings", before: []string{"UPDATE pg_settings SET setting = 'off' WHERE name = 'standard_conforming_strings'"}, off: true},
	{name: "off by options", options: "-c standard_conforming_strings=off", off: true},
	{name: "off by ALTER ROLE", user: "doors_off", off: true},
	{name: "off before, in one text", before: []string{"SELECT 1; SET standard_conforming_strings = off; SELECT 2"}, off: true},
	{name: "off and on again", before: []string{"SET standard_conforming_strings = off", "RESET standard_conforming_strings"}},
	{name: "off, and rolled back", before: []string{"BEGIN; SET standard_conforming_strings = off", "ROLLBACK"}},
	{name: "off, failed, and rolled back", before: []string{"BEGIN", "SET standard_conforming_strings = off", "SELECT 1/0", "ROLLBACK"}},
	{name: "off behind a savepoint that is gone", before: []string{"BEGIN", "SAVEPOINT s", "SET standard_conforming_strings = off", "ROLLBACK TO s"}, block: true},
	{name: "off by role, DISCARD ALL", user: "doors_off", before: []string{"SET standard_conforming_strings = on", "DISCARD ALL"}, off: true},
	{name: "SQL_ASCII by SET", before: []string{"SET client_encoding = 'sql_ascii'"}, encoding: "SQL_ASCII"},
	{name: "LATIN1 and UTF8 again", before: []string{"SET NAMES 'latin1'", "SET NAMES DEFAULT"}},
	{name: "LATIN1, rolled back", before: []string{"BEGIN", "SET LOCAL client_encoding = LATIN1", "SELECT latin_%w()", "ROLLBACK"}},
	{name: "UTF8 by options", options: "-c client_encoding=utf-8"},
	{name: "search_path to the vault", before: []string{"SET search_path = vault, public"}},
	{name: "hostile search_path", before: []string{"SET search_path = public, pg_catalog"}},
	{name: "backslash_quote off", before: []string{"SET backslash_quote = off"}},
	{name: "quoting and warnings", before: []string{"SET quote_all_identifiers = on; SET escape_string_warning = off; SET transform_null_equals = on"}},
	{name: "LATIN1 by SET LOCAL, failed, and rolled back", before: []string{"BEGIN", "SET LOCAL client_encoding = LATIN1", "SELECT 1/0", "ROLLBACK"}},
	{name: "LATIN1 behind a savepoint, failed, and back", before: []string{"BEGIN", "SAVEPOINT s", "SET LOCAL client_encoding = LATIN1", "SELECT 1/0", "ROLLBACK TO s"}, block: true},
	{name: "off by SET LOCAL, failed, and rolled back", before: []string{"BEGIN", "SET LOCAL standard_conforming_strings = off", "SELECT 1/0", "ROLLBACK"}},
	{name: "off by SET LOCAL, kept by a savepoint", before: []string{"BEGIN", "SET LOCAL standard_conforming_strings = off", "SAVEPOINT s", "SELECT 1/0", "ROLLBACK TO s"}, off: true, block: true},
	{name: "read committed, no jit", before: []string{"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SET plan_cache_mode = force_generic_plan"}},
}

var badSettings = []setting{
	{name: "LATIN1 by SET", before: []string{"SET client_encoding = 'LATIN1'"}, encoding: "LATIN1"},
	{name: "LATIN1 by SET LOCAL", before: []string{"BEGIN", "SET LOCAL client_encoding TO latin1"}, encoding: "LATIN1", block: true},
	{name: "LATIN1 by a function", before: []string{"SELECT latin_%w()"}, encoding: "LATIN1"},
	{name: "LATIN1 by options", options: "-c client_encoding=LATIN1", encoding: "LATIN1"},
	{name: "LATIN1 by ALTER ROLE", user: "doors_latin", encoding: "LATIN1"},
	{name: "SJIS by SET NAMES", before: []string{"SET NAMES 'SJIS'"}, encoding: "SJIS"},
	{name: "GB18030", before: []string{"SET client_encoding = GB18030"}, encoding: "GB18030"},
	{name: "WIN1252 by set_config", before: []string{"SELECT set_config('client_encoding', 'windows-1252', false)"}, encoding: "WIN1252"},
	{name: "EUC_JP by options, off too", options: "-c client_encoding=EUC_JP -c standard_conforming_strings=off", encoding: "EUC_JP", off: true},
	// An error takes back at once what its transaction has set.
	{name: "LATIN1 by SET LOCAL, failed", before: []string{"BEGIN", "SET LOCAL client_encoding = LATIN1", "SELECT 1/0"}, block: true, failed: true},
	{name: "off by SET LOCAL, failed", before: []string{"BEGIN", "SET LOCAL standard_conforming_strings = off", "SELECT 1/0"}, block: true, failed: true},
}

// pathSettings are ways for a name without a schema to mean the vault's function.
var pathSettings = []setting{
	{name: "search_path by SET", before: []string{"SET search_path = vault, public"}},
	{name: "search_path by SET LOCAL", before: []string{"BEGIN", "SET LOCAL search_path = public, vault"}, block: true},
	{name: "search_path by set_config", before: []string{"SELECT set_config('search_path', 'vault', false)"}},
	{name: "search_path by options", options: "-c search_path=vault,public"},
	{name: "search_path in the batch", ahead: "SET search_path = vault, public"},
	{name: "search_path in the batch by set_config", ahead: "SELECT set_config('search_path', '\"vault\"', false)"},
}

// aheadSettings are changed in the batch in which the text is, before it: the
// node has not heard of it then.
var aheadSettings = []setting{
	{name: "off in the batch", ahead: "SET standard_conforming_strings = off", off: true},
	{name: "off in the batch by a function", ahead: "SELECT off_%w()", off: true},
	{name: "LATIN1 in the batch", ahead: "SET client_encoding = LATIN1", encoding: "LATIN1"},
	{name: "SJIS in the batch by set_config", ahead: "SELECT set_config('client_encoding', 'SJIS', false)", encoding: "SJIS"},
	{name: "on in the batch", before: []string{"SET standard_conforming_strings = off"}, ahead: "SET standard_conforming_strings = on", wasOff: true},
	{name: "UTF8 in the batch", before: []string{"SET client_encoding = LATIN1"}, ahead: "SET client_encoding = UTF8"},
	{name: "nothing in the batch", ahead: "SELECT 1"},
}

// databases by name: in all but the first a call of the vault's is refused.
var databases = []string{"app", "postgres", "supabase_plain", "squatted"}
