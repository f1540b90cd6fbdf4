// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// runsText are functions that run a text as SQL, or make a part of one of it: of
// PostgreSQL itself, of its contrib modules, and of pg_cron. Calls of the same name in
// another schema are taken for them.
var runsText = []string{
	"query_to_xml", "query_to_xmlschema", "query_to_xml_and_xmlschema", "ts_stat", "ts_rewrite",
	"dblink", "dblink_exec", "dblink_open", "dblink_send_query",
	"crosstab", "crosstab2", "crosstab3", "crosstab4", "connectby", "xpath_table",
	"schedule", "schedule_in_database", "alter_job",
}

// codeOfFunction looks into the string constants of a statement that calls one.
func (b *builder) codeOfFunction(name string) {
	if slices.Contains(runsText, name) && b.coded != b.stmt+1 {
		b.coded = b.stmt + 1
		b.code("a text that a function runs", false) // a part of one, maybe
	}
}

// isSQL reports whether a DO's or a function's body is in SQL or in plpgsql, which have
// the same comments.
func (b *builder) isSQL(n *pg.Node) bool {
	options := n.GetCreateFunctionStmt().GetOptions()
	language := ""
	if do := n.GetDoStmt(); do != nil {
		options, language = do.Args, "plpgsql"
	}
	for _, o := range options {
		if e := o.GetDefElem(); e.GetDefname() == "language" {
			language = b.languageAt(int(e.Location))
		}
	}
	return language == "plpgsql" || language == "sql"
}

// languageAt is the name behind the word LANGUAGE, which may be a string.
func (b *builder) languageAt(at int) string {
	i := b.lx.tokenAt(at) + 1
	if i < 1 || i >= len(b.lx.toks) {
		return ""
	}
	if t := b.lx.toks[i]; !t.literal() {
		name, _ := identName(b.sql, t)
		return name
	}
	b.cacheable = false
	name, _ := b.literal(i).decode(nil, b.sql) // what cannot be read, the server does not read either
	return string(name)
}

// code looks into the string constants of a statement that makes code of one: SQL has
// comments, in which nothing is called.
func (b *builder) code(where string, sql bool) {
	b.cacheable = false
	s := b.plan.Stmts[b.stmt]
	ask := b.canAsk() && !setsPath(b.sql)
	for i := b.lx.tokenFrom(s.Start); i < b.lx.tokenFrom(s.End); i++ {
		t := b.lx.toks[i]
		if !t.literal() {
			continue
		}
		p := b.literalPatterns(i, sql)
		b.guess(looseNames(t.text(b.sql), "execute"))
		switch {
		case p.value != 0:
			b.refuse(refuseKept(p.value, where, t.start))
		case p.unknown != "":
			b.refuse(refuseUnknown(p.unknown, nearest(p.unknown), "", t.start))
		case p.update:
			b.refuse(refuseUpdate(t.start))
		case p.table:
			b.refuse(refuseTable(t.start))
		}
		for _, f := range p.bare {
			if !ask || !slices.Contains(b.o.Foreign, f) {
				r := refuseKept(f, where, t.start)
				r.Unqualified = ask
				b.refuse(r)
				break
			}
		}
	}
}

// setsPath reports whether code may look for names in schema vault, whatever the session's
// search_path is: SET, set_config() and a function's own setting all name it.
func setsPath(sql string) bool { return holds(sql, "search_path") && holds(sql, schemaVault) }

// guess adds names to those that the text may execute.
func (b *builder) guess(names []string) {
	if b.plan.Guessed = append(b.plan.Guessed, names...); len(b.plan.Guessed) > maxNames {
		b.plan.Guessed = []string{AnyName}
	}
}

// literalPatterns looks for calls in the content of a literal, as written and,
// where that could differ, as decoded.
func (b *builder) literalPatterns(i int, sql bool) patterns {
	t := b.lx.toks[i]
	p := loosePatterns(t.text(b.sql))
	l := b.literal(i)
	l.code = true
	text, bad := l.decode(nil, b.sql)
	if bad != nil {
		return p // the server will not read it either
	}
	defer clear(text)
	if p.value == 0 && p.unknown == "" && !p.update && t.kind != kindDollar {
		decoded := loosePatterns(text)
		decoded.bare = append(decoded.bare, p.bare...)
		p = decoded
	}
	if sql && p.coded() && commented(string(text)) {
		return patterns{}
	}
	return p
}

// commented reports whether the calls that code seems to hold are all in comments,
// whichever way it reads its strings.
func commented(code string) bool {
	var lx lexed
	for _, std := range []bool{true, false} {
		if lex(code, std, &lx); lx.bad != "" {
			return false
		}
		if p := uncommented(code, lx.toks); p.coded() {
			return false
		}
	}
	return true
}

// foreign reports whether the bare name of f is somebody else's.
func (b *builder) foreign(f Func) bool {
	return b.canAsk() && slices.Contains(b.o.Foreign, f)
}

// canAsk reports whether what the server says about a bare name now will still
// hold when the statement runs: nothing may change the search path before. Of what is
// prepared, or kept as code, that is not known.
func (b *builder) canAsk() bool { return b.stmts == 1 && b.o.Settled }

// commandText is what the server hands to a shell.
const commandText = "a command that the server runs"

// define refuses an operator or aggregate that calls one of ours.
func (b *builder) define(d *pg.DefineStmt) {
	what := "an operator"
	switch d.Kind {
	case pg.ObjectType_OBJECT_OPERATOR:
	case pg.ObjectType_OBJECT_AGGREGATE:
		what = "an aggregate"
	default:
		return
	}
	for _, n := range d.Definition {
		e := n.GetDefElem()
		if name := e.GetDefname(); d.Kind == pg.ObjectType_OBJECT_OPERATOR && name != "function" && name != "procedure" {
			continue
		}
		at := int(e.GetLocation())
		names := strs(e.GetArg().GetTypeName().GetNames())
		if e.GetArg().GetString_() != nil {
			names = b.stringName(at)
		}
		b.caller(names, what, at)
	}
}

// caller refuses what calls one of ours: its arguments would be values that no text
// shows.
func (b *builder) caller(names []string, what string, at int) {
	n := len(names)
	if n == 0 {
		return
	}
	f := valueFuncs[names[n-1]]
	if f == 0 || n > 1 && names[n-2] != schemaVault || n == 1 && b.foreign(f) {
		return
	}
	r := refuseKept(f, what, at)
	r.Unqualified = n == 1 && b.canAsk()
	b.refuse(r)
}

// stringName is the name that the string behind an option's name and = stands for.
func (b *builder) stringName(at int) []string {
	b.cacheable = false
	i := b.lx.tokenAt(at) + 2
	if i < 2 || i >= len(b.lx.toks) || !b.lx.toks[i].literal() {
		return nil
	}
	name, _ := b.literal(i).decode(nil, b.sql) // what cannot be read, the server does not read either
	return []string{string(name)}
}

// trigger refuses a trigger that calls one of ours: its arguments are strings
// that the server keeps.
func (b *builder) trigger(name []*pg.Node) {
	names := strs(name)
	n := len(names)
	f := valueFuncs[names[n-1]]
	at := b.plan.Stmts[b.stmt].Start
	switch {
	case n >= 2 && names[n-2] == schemaVault:
		if f == 0 && signatureOf[names[n-1]] == nil {
			b.refuse(refuseUnknown(names[n-1], nil, "", at))
			return
		}
		b.refuse(refuseKept(max(f, Put), "a trigger", at))
	case n == 1 && f != 0 && !b.foreign(f):
		r := refuseKept(f, "a trigger", at)
		r.Unqualified = b.canAsk()
		b.refuse(r)
	}
}
