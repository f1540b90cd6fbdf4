// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"slices"
	"sort"
	"strconv"
	"strings"

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

	stmts   int      // in the text
	stmt    int      // being visited
	node    *pg.Node // its root
	found   []int    // tokens at which a call of schema vault was found
	refused *Refusal // the one that stands first in the text
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
		b.statement(raw.Stmt)
		p.Direct = p.Direct || direct
		p.ReadOnly = p.ReadOnly && p.Stmts[i].Class == ClassRead
	}
	p.Utility = len(tree.Stmts) == 1 && utility(tree.Stmts[0].Stmt)
	slices.SortFunc(p.Calls, func(a, c Call) int { return a.Value.Start - c.Value.Start })
	b.crossCheck()
	b.limits()
	b.placement()
	if b.refused != nil {
		return b.refused
	}
	p.makeOps()
	return nil
}

// refuse keeps the refusal that stands first; one that the caller may lift
// (Unqualified) gives way to any that he may not.
func (b *builder) refuse(r *Refusal) {
	old := b.refused
	if old == nil || old.Unqualified && !r.Unqualified ||
		old.Unqualified == r.Unqualified && r.at < old.at {
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
	case *pg.ExecuteStmt:
		b.plan.Executes = append(b.plan.Executes, n.Name)
	case *pg.CreateTrigStmt:
		b.trigger(n.Funcname)
	case *pg.CreateEventTrigStmt:
		b.trigger(n.Funcname)
	case *pg.InsertStmt, *pg.UpdateStmt, *pg.DeleteStmt, *pg.MergeStmt, *pg.LockingClause, *pg.IntoClause:
		*class = max(*class, ClassWrite)
	}
}

// statement looks at what only concerns a whole statement.
func (b *builder) statement(n *pg.Node) {
	switch s := n.GetNode().(type) {
	case *pg.Node_DoStmt, *pg.Node_CreateFunctionStmt:
		b.code(keptWhere(n))
	case *pg.Node_PrepareStmt:
		if b.plan.Direct {
			b.plan.Prepares = append(b.plan.Prepares, s.PrepareStmt.Name)
		}
	case *pg.Node_DeclareCursorStmt:
		if b.plan.Direct {
			b.plan.Declares = append(b.plan.Declares, s.DeclareCursorStmt.Portalname)
		}
	}
	for _, t := range topTargets(n) {
		b.castEdits(t.GetResTarget().GetVal())
	}
}

// code looks into the string constants of a statement that makes code of one.
func (b *builder) code(where string) {
	b.cacheable = false
	s := b.plan.Stmts[b.stmt]
	for i := b.tokenFrom(s.Start); i < b.tokenFrom(s.End); i++ {
		t := b.lx.toks[i]
		if !t.literal() {
			continue
		}
		p := b.literalPatterns(i)
		switch {
		case p.value != 0:
			b.refuse(refuseKept(p.value, where, t.start))
		case p.unknown != "":
			b.refuse(refuseUnknown(p.unknown, nearest(p.unknown), "", t.start))
		case p.bare != 0 && !b.foreign(p.bare):
			r := refuseKept(p.bare, where, t.start)
			r.Unqualified = b.canAsk()
			b.refuse(r)
		}
	}
}

// literalPatterns looks for calls in the content of a literal, as written and,
// where that could differ, as decoded.
func (b *builder) literalPatterns(i int) patterns {
	t := b.lx.toks[i]
	p := loosePatterns(t.text(b.sql))
	if p.dangerous() || t.kind == kindDollar || t.kind == kindBits || t.kind == kindString && b.lx.std {
		return p
	}
	text, bad := b.literal(i).decode(nil, b.sql)
	if bad != nil {
		return p // the server will not read it either
	}
	p = loosePatterns(text)
	clear(text)
	return p
}

// tokenFrom is the index of the first token at or behind byte offset at.
func (b *builder) tokenFrom(at int) int {
	toks := b.lx.toks
	return sort.Search(len(toks), func(i int) bool { return toks[i].start >= at })
}

// foreign reports whether the bare name of f is somebody else's.
func (b *builder) foreign(f Func) bool {
	return b.canAsk() && slices.Contains(b.o.Foreign, f)
}

// canAsk reports whether what the server says about a bare name now will still
// hold when the statement runs: nothing may change the search path before.
func (b *builder) canAsk() bool { return b.stmts == 1 && b.o.Settled }

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

// strs are the strings of a list of names.
func strs(list []*pg.Node) []string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = n.GetString_().GetSval()
	}
	return out
}

// funcCall takes a call of any function.
func (b *builder) funcCall(fc *pg.FuncCall) {
	names := strs(fc.Funcname)
	n := len(names)
	name := names[n-1]
	class := &b.plan.Stmts[b.stmt].Class
	if n < 2 || names[n-2] != schemaVault {
		bare := n == 1 || names[n-2] == "pg_catalog"
		f := valueFuncs[name]
		switch {
		case n > 1 && b.nearVault(fc):
			b.refuse(refuseSchema(int(fc.Location)))
		case name == "set_config" && bare:
			*class = max(*class, ClassRights)
		case n == 1 && name == "read_secret":
			b.plan.Direct, b.plan.Reads = true, true
		case n == 1 && f != 0 && !b.foreign(f):
			r := refuseUnqualified(f, int(fc.Location))
			r.Unqualified = b.canAsk()
			b.refuse(r)
		}
		return
	}
	b.plan.Direct = true
	at := b.tokenAt(int(fc.Location))
	b.found = append(b.found, at)
	sig := signatureOf[name]
	if sig == nil {
		name = b.originalName(at, name)
		b.refuse(refuseUnknown(name, nearest(name), "", int(fc.Location)))
		return
	}
	args, why := matchArgs(sig, fc)
	if why != "" {
		b.refuse(refuseUnknown(name, sig, why, int(fc.Location)))
		return
	}
	switch {
	case sig.rights:
		*class = max(*class, ClassRights)
	case sig.writes:
		*class = max(*class, ClassWrite)
	}
	b.plan.Reads = b.plan.Reads || name == "read_secret"
	if name == "update_secret" && b.looksLikeValue(fc) {
		b.refuse(refuseUpdate(int(fc.Location)))
		return
	}
	if f := valueFuncs[name]; f != 0 {
		b.valueCall(f, sig, fc, args, at)
	}
}

// nearVault reports whether a call that is not in schema vault looks as if it
// should be: "VAULT"."Put_Secret"(…). The server would refuse and log it.
func (b *builder) nearVault(fc *pg.FuncCall) bool {
	at := b.tokenAt(int(fc.Location))
	schema := ""
	for at >= 0 && at+2 < len(b.lx.toks) && b.lx.toks[at+1].is(b.sql, '.') {
		schema, _ = identName(b.sql, b.lx.toks[at])
		at += 2
	}
	if !strings.EqualFold(schema, schemaVault) {
		return false
	}
	name, _ := identName(b.sql, b.lx.toks[at])
	return valueFuncs[strings.ToLower(name)] != 0
}

// originalName is the last part of the function's name at token at, as
// written: pg_query sees quoted names that are none of ours blanked.
func (b *builder) originalName(at int, name string) string {
	if at < 0 {
		return name
	}
	toks := b.lx.toks
	for at+2 < len(toks) && toks[at+1].is(b.sql, '.') {
		at += 2
	}
	if written, ok := identName(b.sql, toks[at]); ok {
		return written
	}
	return name
}

// matchArgs assigns a call's arguments to a signature's by PostgreSQL's rules:
// positional ones first, then named ones, each once, and all that have no
// default. why says what is wrong.
func matchArgs(sig *signature, fc *pg.FuncCall) (args []*pg.Node, why string) {
	if fc.AggStar || fc.AggDistinct || fc.AggWithinGroup || fc.AggFilter != nil || fc.AggOrder != nil || fc.Over != nil {
		return nil, "it is no aggregate or window function"
	}
	if fc.FuncVariadic && !sig.variadic {
		return nil, "it takes no VARIADIC argument"
	}
	args = make([]*pg.Node, len(sig.args))
	for i, n := range fc.Args {
		named := n.GetNamedArgExpr()
		if named == nil {
			switch {
			case i < len(args):
				args[i] = n
			case !sig.variadic:
				return nil, "too many"
			}
			continue
		}
		at := sig.arg(named.Name)
		if at < 0 {
			return nil, "an argument has a name that it does not know"
		}
		if args[at] != nil {
			return nil, "an argument is given twice"
		}
		args[at] = named.Arg
	}
	for i, a := range sig.args {
		if args[i] == nil && !optional(a) {
			return nil, "its " + argName(a) + " is missing"
		}
	}
	return args, ""
}

// looksLikeValue reports whether the second argument of update_secret, which
// is an interval, could be meant as a value, as it is in supabase/vault: a bare
// string or parameter without a name. The server's error would quote it.
func (b *builder) looksLikeValue(fc *pg.FuncCall) bool {
	if len(fc.Args) < 2 {
		return false
	}
	n := fc.Args[1]
	for b.isText(n.GetTypeCast().GetTypeName()) {
		n = n.GetTypeCast().Arg
	}
	if p := n.GetParamRef(); p != nil {
		i := int(p.Number) - 1
		return i < 0 || i >= len(b.o.ParamTypes) || b.o.ParamTypes[i] != oidInterval
	}
	return n.GetAConst() != nil && !n.GetAConst().Isnull
}

// valueCall takes a call that needs the node.
func (b *builder) valueCall(f Func, sig *signature, fc *pg.FuncCall, args []*pg.Node, at int) {
	if !immediate(b.node) {
		b.refuse(refuseKept(f, keptWhere(b.node), int(fc.Location)))
		return
	}
	if b.o.Extended && !takesParams(b.node) {
		b.refuse(refuseNoParams(f, int(fc.Location)))
		return
	}
	closing := b.closing(at)
	if closing < 0 {
		b.refuse(refuseDisagreement(int(fc.Location)))
		return
	}
	c := Call{Func: f, Stmt: b.stmt}
	ok := b.arg(&c.Name, f, "name", args[sig.arg("name")], fc) &&
		b.arg(&c.Value, f, "value", args[sig.arg("value")], fc)
	if f == Create {
		ok = ok && b.arg(&c.Kind, f, "kind", args[sig.arg("kind")], fc)
	}
	if !ok || !b.checkNulls(&c, fc) || !b.checkParams(&c, fc) {
		return
	}
	if c.Value.Mode == Absent {
		end := b.lx.toks[closing].start
		c.Value = Arg{Mode: Generated, Start: end, End: end, Insert: ", value => "}
	}
	if len(b.plan.Calls) <= maxCalls {
		b.plan.Calls = append(b.plan.Calls, c)
	}
}

// checkNulls refuses NULLs that mean nothing; a NULL value of create and
// rotate means a value made by the node.
func (b *builder) checkNulls(c *Call, fc *pg.FuncCall) bool {
	at := int(fc.Location)
	switch {
	case c.Name.Mode == Null:
		b.refuse(refuseNull(c.Func, "name", "", at))
	case c.Func == Create && c.Kind.Mode == Null:
		b.refuse(refuseNull(c.Func, "kind", "It is 'manual' or 'automatic'.", at))
	case c.Value.Mode != Null:
		return true
	case c.Func == Create || c.Func == Rotate:
		c.Value.Mode = Generated
		return true
	default:
		b.refuse(refuseNull(c.Func, "value", "vault.delete_secret(name) removes a secret.", at))
	}
	return false
}

// Types that a parameter may be declared with (pg_type.dat).
const (
	oidName     = 19
	oidText     = 25
	oidUnknown  = 705
	oidInterval = 1186
	oidVarchar  = 1043
)

// checkParams refuses parameters that cannot carry what they should.
func (b *builder) checkParams(c *Call, fc *pg.FuncCall) bool {
	at := int(fc.Location)
	for _, a := range []struct {
		name string
		arg  *Arg
	}{{"name", &c.Name}, {"value", &c.Value}, {"kind", &c.Kind}} {
		if a.arg.Mode != Param {
			continue
		}
		if !b.o.Extended || a.arg.Param < 1 || a.arg.Param > maxParam {
			r := &Refusal{SQLState: stateNoParameter, Message: "there is no parameter $" + strconv.Itoa(a.arg.Param)}
			b.refuse(r.place(a.arg.Start))
			return false
		}
		if !b.declaredText(a.arg.Param, a.name != "value") {
			b.refuse(refuseParamType(c.Func, a.name, a.arg.Start))
			return false
		}
	}
	if c.Value.Mode == Param && b.uses(c.Value.Param) > 1 {
		b.refuse(refuseParamUse(c.Func, at))
		return false
	}
	return true
}

// declaredText reports whether the Parse leaves the parameter's type open or
// declares a kind of text. Type name cuts at 63 bytes, which a sealed text
// would not survive.
func (b *builder) declaredText(n int, name bool) bool {
	if n > len(b.o.ParamTypes) {
		return true
	}
	switch b.o.ParamTypes[n-1] {
	case 0, oidText, oidUnknown, oidVarchar:
		return true
	case oidName:
		return name
	}
	return false
}

// maxParam is the highest parameter number of the protocol.
const maxParam = 65535

// uses counts how often the text uses a parameter.
func (b *builder) uses(n int) (count int) {
	for _, t := range b.lx.toks {
		if t.kind == kindParam && paramNumber(t.text(b.sql)) == n {
			count++
		}
	}
	return count
}

func (b *builder) numParams() (most int) {
	for _, t := range b.lx.toks {
		if t.kind == kindParam {
			most = max(most, paramNumber(t.text(b.sql)))
		}
	}
	return most
}

// paramNumber is the n of $n, bounded.
func paramNumber(s string) int {
	n := 0
	for i := 1; i < len(s) && n <= maxParam; i++ {
		n = n*10 + int(s[i]-'0')
	}
	return n
}

// tokenAt is the index of the token that starts at byte offset at, or -1.
func (b *builder) tokenAt(at int) int {
	if i := b.tokenFrom(at); i < len(b.lx.toks) && b.lx.toks[i].start == at {
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

// crossCheck compares the calls of the tree with those that the tokens show: a
// statement that runs now may hold none that the tree has not.
func (b *builder) crossCheck() {
	toks := b.lx.toks
	for i := 3; i < len(toks); i++ {
		if !toks[i].is(b.sql, '(') || !toks[i-2].is(b.sql, '.') {
			continue
		}
		schema, _ := identName(b.sql, toks[i-3])
		name, _ := identName(b.sql, toks[i-1])
		if schema != schemaVault || valueFuncs[name] == 0 || slices.Contains(b.found, i-3) {
			continue
		}
		if i >= 5 && toks[i-4].is(b.sql, '.') && slices.Contains(b.found, i-5) {
			continue
		}
		if !b.namesOnly(toks[i].start) {
			b.refuse(refuseDisagreement(toks[i-3].start))
		}
	}
}

// namesOnly reports whether the statement at byte offset at only names
// functions, as GRANT and DROP FUNCTION do.
func (b *builder) namesOnly(at int) bool {
	for _, s := range b.plan.Stmts {
		if at >= s.Start && at < s.End {
			first := b.tokenFrom(s.Start)
			for _, w := range []string{"grant", "revoke", "create", "alter", "drop", "comment", "security"} {
				if b.lx.toks[first].word(b.sql, w) {
					return true
				}
			}
		}
	}
	return false
}

// limits bounds the number of calls.
func (b *builder) limits() {
	if len(b.plan.Calls) > maxCalls {
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
			b.refuse(&Refusal{SQLState: stateSyntax, Message: "cannot insert multiple commands into a prepared statement", Detail: notSent, at: nowhere})
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
