// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"slices"
	"strings"
	"unicode/utf8"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// Route says where a text can run if the server beside the node is a standby.
type Route int

// A text moves because it is a write, never because it might be one: what only
// the server can know (functions, EXECUTE, DO) runs locally, where a standby
// refuses each write before it has any effect.
const (
	// RouteLocal shows nothing that a standby refuses.
	RouteLocal Route = iota
	// RouteBlock begins a transaction block that may write.
	RouteBlock
	// RouteWrite is refused by a standby; or it succeeds there and guards
	// nothing, as a lock that nobody on the primary sees.
	RouteWrite
	// RouteVault is a write that calls a function of the vault which writes.
	RouteVault
)

// String is for tests and logs.
func (r Route) String() string { return [...]string{"local", "block", "write", "vault"}[r] }

// maxLooked is how long a text may be that MayMove looks into: more would hold up
// its caller.
const maxLooked = 16 << 10

// MayMove reports whether a text has to be given to Route: it holds a word that
// may make it move, if only in a string or a comment, or is too long to look. It
// allocates nothing.
func MayMove(text []byte) bool {
	if len(text) > maxLooked {
		return true
	}
	first := true
	var word [64]byte // longer than all that are looked for
	for i := 0; i < len(text); {
		if !isIdentCont(text[i]) {
			first = first || text[i] == ';'
			i++
			continue
		}
		n := 0
		for ; i < len(text) && isIdentCont(text[i]); i++ {
			if n < len(word) {
				word[n] = lower(text[i])
				n++
			}
		}
		w := word[:n]
		switch {
		case first && !localWords[string(w)], movingWords[string(w)], movingWord(w):
			return true
		case n == 1 && w[0] == 'u' && i < len(text) && text[i] == '&': // a name may be written in escapes
			return true
		}
		first = false
	}
	return false
}

// readingWords are all that may stand in the begin of a block that only reads.
var readingWords = wordSet("begin start transaction work isolation level read only committed uncommitted repeatable deferrable not")

// BeginsReading reports whether a text begins a block that only reads, and does
// nothing else. It does not parse: nothing may rest on it but when a session goes
// back. It allocates nothing.
func BeginsReading(text []byte) bool {
	if len(text) > maxLooked {
		return false
	}
	first, read, only := true, false, false
	var word [16]byte // longer than all that are looked for
	for i := 0; i < len(text); {
		if !isIdentCont(text[i]) {
			if text[i] == '-' || text[i] == '/' { // a comment
				return false
			}
			i++
			continue
		}
		n := 0
		for ; i < len(text) && isIdentCont(text[i]); i++ {
			if n == len(word) {
				return false
			}
			word[n] = lower(text[i])
			n++
		}
		w := word[:n]
		if !readingWords[string(w)] || first && string(w) != "begin" && string(w) != "start" {
			return false
		}
		only = only || read && string(w) == "only"
		read, first = string(w) == "read", false
	}
	return only
}

// Route returns where the text can run. It parses only texts that hold a word
// that may make it move. A text that cannot be read is local: the server says
// what is wrong with it.
func (a *Analyzer) Route(sql string, o Options) Route {
	if len(sql) > maxText {
		return RouteLocal
	}
	defer enter(a.routed, sql)()
	s := a.scratch.Get().(*scratch) //nolint:errcheck // the pool's New makes nothing else
	defer a.scratch.Put(s)
	lx := &s.lx
	lex(sql, o.StdStrings, lx)
	if lx.bad != "" || !o.Settled && lx.plainBackslash || !mayMove(sql, lx.toks) {
		return RouteLocal
	}
	s.key = append(blank(s.key[:0], sql, lx), routeKey...)
	if p, ok := a.plans.get(s.key); ok {
		return p.route
	}
	text := string(s.key[:len(sql)])
	if tooDeep(sql, lx.toks) || !utf8.ValidString(text) {
		return RouteLocal
	}
	a.slots <- struct{}{}
	tree, err := parse(text, lx)
	<-a.slots
	p := &Plan{}
	if err == nil {
		r := router{sql: sql, lx: lx}
		for _, raw := range tree.Stmts {
			r.statement(raw.Stmt)
		}
		if p.route = r.route; r.quoted {
			return p.route
		}
	}
	a.plans.put(s.key, p)
	return p.route
}

// routeKey tells a key of Route's from one of Analyze's, which has options there.
const routeKey = "\x00route"

// localWords begin the statements that are local whatever follows, unless a word
// of movingWords stands in them.
var localWords = wordSet("select with values table show set reset fetch move close deallocate discard execute explain commit end rollback " +
	"abort savepoint release declare prepare do call load checkpoint unlisten")

// movingWords make a text worth parsing wherever they stand; so do names of
// functions that movesByName tells.
var movingWords = wordSet("insert update delete merge into for prepared analyze")

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		set[w] = true
	}
	return set
}

// mayMove looks at the words of a text.
func mayMove(sql string, toks []token) bool {
	first := true
	for _, t := range toks {
		switch {
		case t.is(sql, ';'):
			first = true
			continue
		case t.is(sql, '('):
			continue // (SELECT …) FOR UPDATE
		}
		if name, ok := identName(sql, t); ok {
			if t.kind == kindIdent && (first && !localWords[name] || movingWords[name]) || movingWord([]byte(name)) {
				return true
			}
		}
		first = false
	}
	return false
}

// moving are built-in functions that a standby refuses or, of locks, grants for
// nothing. Their kin are told by their first letters.
var moving = wordSet("nextval setval currval lastval pg_notify pg_current_xact_id txid_current")

// vaultWrites are the vault's own. True: a client's, also without the schema; the others
// have names that a client's own functions may have.
var vaultWrites = func() map[string]bool {
	set := map[string]bool{}
	for _, s := range signatures {
		if s.writes {
			set[s.name] = !s.internal
		}
	}
	return set
}()

// builtinMoves reports whether a function of this name in pg_catalog makes its
// caller move. Unlocking does not: asyncpg does it when it gives a connection
// back.
func builtinMoves(name []byte) bool {
	has := func(prefix string) bool { return len(name) >= len(prefix) && string(name[:len(prefix)]) == prefix }
	return moving[string(name)] || has("lo_") || has("pg_advisory_") && !has("pg_advisory_unlock") || has("pg_try_advisory_")
}

// movingWord reports whether a text with this name is worth parsing.
func movingWord(name []byte) bool {
	_, ours := vaultWrites[string(name)]
	return ours || builtinMoves(name)
}

// router finds the route of one text.
type router struct {
	sql    string
	lx     *lexed
	route  Route
	quoted bool // a name was read that the blanked text does not show
}

func (r *router) statement(n *pg.Node) {
	switch s := n.GetNode().(type) {
	case *pg.Node_SelectStmt, *pg.Node_DeclareCursorStmt:
		r.inside(n)
	case *pg.Node_ExplainStmt:
		if slices.ContainsFunc(s.ExplainStmt.Options, analyzes) {
			r.statement(s.ExplainStmt.Query)
		}
	case *pg.Node_CopyStmt:
		if s.CopyStmt.IsFrom {
			r.write()
		}
		r.inside(n)
	case *pg.Node_TransactionStmt:
		r.transaction(s.TransactionStmt)
	case *pg.Node_CallStmt:
		r.inside(n) // its arguments
	case *pg.Node_VariableSetStmt, *pg.Node_VariableShowStmt, *pg.Node_FetchStmt, *pg.Node_ClosePortalStmt, *pg.Node_PrepareStmt,
		*pg.Node_ExecuteStmt, *pg.Node_DeallocateStmt, *pg.Node_DiscardStmt, *pg.Node_ConstraintsSetStmt, *pg.Node_DoStmt, *pg.Node_LoadStmt,
		*pg.Node_CheckPointStmt, *pg.Node_UnlistenStmt, *pg.Node_AlterSystemStmt:
	default:
		r.write()
	}
}

// analyzes reports whether an option of EXPLAIN has the statement run.
func analyzes(o *pg.Node) bool {
	d := o.GetDefElem()
	if d.GetDefname() != "analyze" {
		return false
	}
	switch arg := d.GetArg().GetNode().(type) {
	case nil:
		return true
	case *pg.Node_String_:
		return arg.String_.Sval == "true" || arg.String_.Sval == "on"
	case *pg.Node_Integer:
		return arg.Integer.Ival != 0
	}
	return true
}

func (r *router) write() { r.route = max(r.route, RouteWrite) }

// inside looks for what writes in any part of a statement.
func (r *router) inside(n *pg.Node) {
	walk(n.ProtoReflect(), func(m any) {
		switch n := m.(type) {
		case *pg.InsertStmt, *pg.UpdateStmt, *pg.DeleteStmt, *pg.MergeStmt, *pg.LockingClause, *pg.IntoClause:
			r.write()
		case *pg.FuncCall:
			r.call(n)
		}
	})
}

// call looks at the name of a function that is called, in pg_catalog or the vault.
func (r *router) call(fc *pg.FuncCall) {
	names := strs(fc.Funcname)
	if at := r.lx.tokenAt(int(fc.Location)); at >= 0 {
		for i := 0; i < len(names) && at+2*i < len(r.lx.toks); i++ { // as written: pg_query sees quoted names blanked
			t := r.lx.toks[at+2*i]
			if written, ok := identName(r.sql, t); ok {
				r.quoted = r.quoted || t.kind != kindIdent
				names[i] = written
			}
		}
	}
	n := len(names)
	last := names[n-1]
	bare, ours := vaultWrites[last]
	switch {
	case ours && (n == 1 && bare || n > 1 && names[n-2] == schemaVault):
		r.route = RouteVault
	case (n == 1 || names[n-2] == "pg_catalog") && builtinMoves([]byte(last)):
		r.write()
	}
}

// transaction looks at transaction control. What ends a block, or is inside one,
// runs where the block is.
func (r *router) transaction(t *pg.TransactionStmt) {
	switch t.Kind { //nolint:exhaustive // the rest is local
	case pg.TransactionStmtKind_TRANS_STMT_COMMIT_PREPARED, pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_PREPARED:
		r.write()
	case pg.TransactionStmtKind_TRANS_STMT_BEGIN, pg.TransactionStmtKind_TRANS_STMT_START:
		if !readOnlyBlock(t) {
			r.route = max(r.route, RouteBlock)
		}
	}
}

// readOnlyBlock reports whether a block says that it only reads; a serializable
// one cannot run on a standby.
func readOnlyBlock(t *pg.TransactionStmt) bool {
	only := false
	for _, o := range t.Options {
		d := o.GetDefElem()
		value := d.GetArg().GetAConst()
		switch d.GetDefname() {
		case "transaction_read_only":
			if value.GetIval().GetIval() == 0 { // a standby refuses the words READ WRITE
				return false
			}
			only = true
		case "transaction_isolation":
			if value.GetSval().GetSval() == "serializable" {
				return false
			}
		}
	}
	return only
}
