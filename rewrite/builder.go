// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"slices"
	"sort"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// builder makes the plan of one text from its tree.
type builder struct {
	sql  string
	o    Options
	lx   *lexed
	plan *Plan
	// cacheable: the plan depends on the blanked text and the options only.
	cacheable bool

	stmts   int          // in the text
	stmt    int          // being visited
	coded   int          // 1 + the statement whose strings were looked into
	node    *pg.Node     // its root
	runs    bool         // the text calls a function that may write
	namedAt int32        // where plan.Function stands
	found   map[int]bool // tokens at which a call of schema vault was found
	values  int          // calls that carry a value, as they are or refused
	strings []int32      // how many string constants stand in front of each token, and in all
	refused *Refusal     // the one that stands first in the text
}

// build fills the plan, or returns the refusal that stands first in the text.
func (b *builder) build(tree *pg.ParseResult) *Refusal {
	p := b.plan
	p.NumParams = b.numParams()
	p.ReadOnly = true
	b.stmts = len(tree.Stmts)
	for i, raw := range tree.Stmts {
		b.stmt, b.node = i, raw.Stmt
		start := int(raw.StmtLocation)
		end := start + int(raw.StmtLen)
		if raw.StmtLen == 0 {
			end = len(b.sql)
		}
		p.Stmts = append(p.Stmts, Stmt{Class: classify(raw.Stmt), Start: start, End: end})
		direct := p.Direct
		p.Direct = false
		walk(raw.ProtoReflect(), b.visit)
		if p.Reads {
			b.compared(raw)
		}
		b.statement(raw.Stmt)
		p.Direct = p.Direct || direct
		p.ReadOnly = p.ReadOnly && p.Stmts[i].Class == ClassRead
	}
	p.ReadOnly = p.ReadOnly && !b.runs
	p.Utility = len(tree.Stmts) == 1 && utility(tree.Stmts[0].Stmt)
	slices.SortFunc(p.Calls, func(a, c Call) int { return a.Value.Start - c.Value.Start })
	b.crossCheck()
	b.limits()
	b.placement()
	if r := b.refused; r != nil {
		r.Table = r.Table && !p.Direct
		return r
	}
	p.makeOps()
	return nil
}

// refuse keeps the refusal that stands first; one that the caller may lift
// gives way to any that he may not.
func (b *builder) refuse(r *Refusal) {
	old := b.refused
	if old == nil || old.weight() < r.weight() || old.weight() == r.weight() && r.at < old.at {
		b.refused = r
	}
}

// walk calls visit for every message of the tree, whatever its type, so that
// no kind of node can be forgotten.
func walk(m protoreflect.Message, visit func(any)) {
	visit(m.Interface())
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Kind() != protoreflect.MessageKind {
			return true
		}
		if !f.IsList() {
			walk(v.Message(), visit)
			return true
		}
		list := v.List()
		for i := range list.Len() {
			walk(list.Get(i).Message(), visit)
		}
		return true
	})
}

// visit takes one node.
func (b *builder) visit(m any) {
	class := &b.plan.Stmts[b.stmt].Class
	switch n := m.(type) {
	case *pg.FuncCall:
		b.funcCall(n)
	case *pg.TypeName:
		b.typeName(n)
	case *pg.ExecuteStmt:
		if !slices.Contains(b.plan.Prepares, n.Name) { // else it is what this text has made of it
			b.plan.Executes = append(b.plan.Executes, n.Name)
		}
	case *pg.CreateTrigStmt:
		b.trigger(n.Funcname)
	case *pg.CreateEventTrigStmt:
		b.trigger(n.Funcname)
	case *pg.DefElem:
		if n.Defname == "program" && b.coded != b.stmt+1 { // of file_fdw
			b.coded = b.stmt + 1
			b.code(commandText, false)
		}
	case *pg.DefineStmt:
		b.define(n)
	case *pg.CreateOpClassItem:
		b.caller(strs(n.GetName().GetObjname()), "an operator class", b.plan.Stmts[b.stmt].Start)
	case *pg.InsertStmt, *pg.UpdateStmt, *pg.MergeStmt:
		*class = max(*class, ClassWrite)
		b.writes(n)
	case *pg.DeleteStmt, *pg.LockingClause, *pg.IntoClause:
		*class = max(*class, ClassWrite)
	}
}

// statement looks at what only concerns a whole statement.
func (b *builder) statement(n *pg.Node) {
	switch s := n.GetNode().(type) {
	case *pg.Node_DoStmt, *pg.Node_CreateFunctionStmt:
		b.code(keptWhere(n), b.isSQL(n))
	case *pg.Node_CopyStmt:
		if s.CopyStmt.IsProgram {
			b.code(commandText, false)
		}
	case *pg.Node_AlterSystemStmt: // archive_command and its kin
		b.code(commandText, false)
	case *pg.Node_PrepareStmt:
		b.plan.Prepares = append(b.plan.Prepares, s.PrepareStmt.Name)
		if b.plan.Direct {
			b.plan.Keeps = append(b.plan.Keeps, s.PrepareStmt.Name)
		}
	case *pg.Node_DeclareCursorStmt:
		if b.plan.Direct {
			b.plan.Keeps = append(b.plan.Keeps, s.DeclareCursorStmt.Portalname)
		}
	}
	for _, t := range topTargets(n) {
		b.castEdits(t.GetResTarget().GetVal())
	}
}

// tokenFrom is the index of the first token at or behind byte offset at.
func (lx *lexed) tokenFrom(at int) int {
	return sort.Search(len(lx.toks), func(i int) bool { return lx.toks[i].start >= at })
}

// tokenAt is the index of the token that starts at byte offset at, or -1.
func (lx *lexed) tokenAt(at int) int {
	if i := lx.tokenFrom(at); i < len(lx.toks) && lx.toks[i].start == at {
		return i
	}
	return -1
}

// closing is the index of the parenthesis that closes the call whose name
// begins at token at, or -1.
func (b *builder) closing(at int) int {
	toks := b.lx.toks
	if at < 0 {
		return -1
	}
	for at+2 < len(toks) && toks[at+1].is(b.sql, '.') {
		at += 2
	}
	depth := 0
	for i := at + 1; i < len(toks); i++ {
		switch {
		case toks[i].is(b.sql, '('):
			depth++
		case toks[i].is(b.sql, ')'):
			if depth--; depth == 0 {
				return i
			}
		case depth == 0:
			return -1
		}
	}
	return -1
}

// crossCheck compares the calls of the tree with what the tokens show: a statement
// that runs now, and holds a string, may name no function in schema vault that the
// tree does not call: a type, a setting or a column is not what was meant.
func (b *builder) crossCheck() {
	toks := b.lx.toks
	for i := 2; i < len(toks); i++ {
		if !toks[i-1].is(b.sql, '.') {
			continue
		}
		schema, _ := identName(b.sql, toks[i-2])
		name, _ := identName(b.sql, toks[i])
		if schema != schemaVault || valueFuncs[name] == 0 || b.found[i-2] {
			continue
		}
		if i >= 4 && toks[i-3].is(b.sql, '.') && b.found[i-4] {
			continue
		}
		if !b.namesOnly(i + 1) {
			b.refuse(refuseNoCall(toks[i-2].start))
		}
	}
}

// namesOnly reports whether the name in front of token behind belongs to a statement
// that only names functions, as GRANT and DROP FUNCTION do, and has no string constant
// in its parenthesis: a type can have arguments too. Without a parenthesis it is one
// without a string.
func (b *builder) namesOnly(behind int) bool {
	toks := b.lx.toks
	open := behind < len(toks) && toks[behind].is(b.sql, '(')
	for i, depth := behind, 0; open && i < len(toks); i++ {
		switch {
		case toks[i].literal():
			return false
		case toks[i].is(b.sql, '('):
			depth++
		case toks[i].is(b.sql, ')'):
			depth--
		}
		if depth == 0 {
			break
		}
	}
	s := b.statementAt(toks[behind-1].start)
	if s == nil {
		return false
	}
	first, end := b.lx.tokenFrom(s.Start), b.lx.tokenFrom(s.End)
	for _, w := range []string{"grant", "revoke", "create", "alter", "drop", "comment", "security"} {
		if toks[first].word(b.sql, w) {
			return true
		}
	}
	return !open && b.stringsIn(first, end) == 0
}

// statementAt is the statement in which a byte offset lies, or nil.
func (b *builder) statementAt(at int) *Stmt {
	all := b.plan.Stmts
	i := sort.Search(len(all), func(i int) bool { return all[i].End > at })
	if i == len(all) || all[i].Start > at {
		return nil
	}
	return &all[i]
}

// stringsIn is the number of string constants among tokens. It is asked for many
// ranges of one text, which is counted once.
func (b *builder) stringsIn(from, to int) int {
	if b.strings == nil {
		b.strings = make([]int32, len(b.lx.toks)+1)
		for i, t := range b.lx.toks {
			b.strings[i+1] = b.strings[i]
			if t.literal() {
				b.strings[i+1]++
			}
		}
	}
	return int(b.strings[to] - b.strings[from])
}

// limits bounds the number of calls.
func (b *builder) limits() {
	if b.values > maxCalls {
		b.refuse(refuseTooLarge("At most 256 can store or verify a secret."))
	}
	verify := map[int]int{}
	for _, c := range b.plan.Calls {
		if c.Func == Verify {
			if verify[c.Stmt]++; verify[c.Stmt] == maxVerify+1 {
				b.refuse(refuseTooLarge("At most 16 of one statement can verify a secret."))
			}
		}
	}
}

// placement refuses a put behind a statement after which the reserved version
// would be gone, or the rights checked would be another's.
func (b *builder) placement() {
	p := b.plan
	if b.o.Extended {
		if len(p.Calls) > 0 && len(p.Stmts) > 1 {
			b.refuse(refuseMany())
		}
		return
	}
	for _, c := range p.Calls {
		for _, s := range p.Stmts[:c.Stmt] {
			switch {
			case s.Class == ClassRights:
				b.refuse(refusePlacement("changes the role or rights", c.Name.Start))
			case s.Class == ClassTransaction && c.Func != Verify:
				b.refuse(refusePlacement("controls the transaction", c.Name.Start))
			}
		}
	}
}
