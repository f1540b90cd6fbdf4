// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	pg "github.com/pganalyze/pg_query_go/v5"
)

// arg reads one argument of a call: a string constant, a parameter or NULL, in
// any number of parentheses (which the tree does not have) and casts to text or
// varchar.
func (b *builder) arg(a *Arg, f Func, what string, n *pg.Node, fc *pg.FuncCall) bool {
	if n == nil {
		return true // Absent
	}
	at := int(fc.Location)
	var outer *pg.TypeCast
	for n.GetTypeCast() != nil {
		outer = n.GetTypeCast()
		if !b.isText(outer.TypeName) && !b.national(outer) {
			b.refuse(refuseArg(f, what, "It is cast to another type than text.", "Leave out the cast.", at))
			return false
		}
		n = outer.Arg
	}
	if p := n.GetParamRef(); p != nil {
		t := b.lx.tokenAt(int(p.Location))
		if t < 0 {
			return b.disagree(at)
		}
		a.Mode, a.Param = Param, paramNumber(b.lx.toks[t].text(b.sql))
		a.Start, a.End = b.lx.toks[t].start, b.lx.toks[t].end
		return true
	}
	c := n.GetAConst()
	if c == nil {
		why, hint := "It is an expression.", "Compute the value in the client: the node must see it before the server does."
		if n.GetColumnRef() != nil {
			why, hint = "It is a column or variable.", "String constants stand in single quotes."
		}
		b.refuse(refuseArg(f, what, why, hint, at))
		return false
	}
	return b.constant(a, f, what, c, outer, at)
}

func (b *builder) disagree(at int) bool {
	b.refuse(refuseDisagreement(at))
	return false
}

// constant reads a constant argument; cast is the innermost cast around it.
func (b *builder) constant(a *Arg, f Func, what string, c *pg.A_Const, cast *pg.TypeCast, at int) bool {
	i := b.lx.tokenAt(int(c.Location))
	if i < 0 {
		return b.disagree(at)
	}
	t := b.lx.toks[i]
	if c.Isnull {
		if !t.word(b.sql, "null") {
			return b.disagree(at)
		}
		a.Mode, a.Start, a.End = Null, t.start, t.end
		return true
	}
	if c.GetSval() == nil {
		b.refuse(refuseArg(f, what, "It is a constant of another type.", "String constants stand in single quotes.", at))
		return false
	}
	if !t.literal() || t.kind == kindBits {
		return b.disagree(at)
	}
	a.Mode, a.Start, a.End, a.lit = Const, t.start, t.end, b.literal(i)
	// text '…' is one thing: its type goes with the literal, for no type can
	// stand in front of a parameter.
	if cast != nil && int(cast.TypeName.GetLocation()) < t.start && b.typeBefore(cast, i) {
		a.Start = int(cast.TypeName.Location)
	}
	return true
}

// typeBefore reports whether the cast is written as a type in front of the
// literal at token i.
func (b *builder) typeBefore(cast *pg.TypeCast, i int) bool {
	if cast.Location >= 0 {
		return false
	}
	first := b.lx.tokenAt(int(cast.TypeName.Location))
	return first >= 0 && (b.typeEnd(first) == i-1 || b.lx.toks[first].kind == kindNational && first == i-1)
}

// literal is the literal at token i.
func (b *builder) literal(i int) literal {
	t := b.lx.toks[i]
	return literal{
		start: t.start, end: t.body, kind: t.kind, escape: t.escape, std: b.lx.std,
		padded: i > 0 && b.lx.toks[i-1].kind == kindNational,
	}
}

// isText reports whether a type is text or varchar without a length.
func (b *builder) isText(t *pg.TypeName) bool {
	if len(t.GetTypmods()) > 0 || len(t.GetArrayBounds()) > 0 || t.GetSetof() || t.GetPctType() {
		return false
	}
	names := strs(t.GetNames())
	if len(names) == 2 && names[0] == "pg_catalog" {
		names = names[1:]
	}
	return len(names) == 1 && (names[0] == "text" || names[0] == "varchar")
}

// national reports whether the cast is the one to bpchar that an N in front of
// a literal means.
func (b *builder) national(c *pg.TypeCast) bool {
	i := b.lx.tokenAt(int(c.TypeName.GetLocation()))
	return i >= 0 && b.lx.toks[i].kind == kindNational && c.Arg.GetAConst().GetSval() != nil
}

// topTargets are the targets that become columns of the statement's result.
func topTargets(n *pg.Node) []*pg.Node {
	switch s := n.GetNode().(type) {
	case *pg.Node_SelectStmt:
		return s.SelectStmt.TargetList // none for a set operation
	case *pg.Node_InsertStmt:
		return s.InsertStmt.ReturningList
	case *pg.Node_UpdateStmt:
		return s.UpdateStmt.ReturningList
	case *pg.Node_DeleteStmt:
		return s.DeleteStmt.ReturningList
	case *pg.Node_ExplainStmt:
		return topTargets(s.ExplainStmt.Query)
	case *pg.Node_PrepareStmt:
		return topTargets(s.PrepareStmt.Query)
	case *pg.Node_DeclareCursorStmt:
		return topTargets(s.DeclareCursorStmt.Query)
	}
	return nil
}

// castEdits removes the casts to text around a call of read_secret, which ORMs
// add: a cast would take the type away by which the column is known. Casts that
// it does not understand it leaves to the server, whose error has a hint.
func (b *builder) castEdits(n *pg.Node) {
	var edits []Edit
	for n.GetTypeCast() != nil {
		c := n.GetTypeCast()
		e, ok := b.castEdit(c)
		if !ok || !b.isText(c.TypeName) {
			return
		}
		edits = append(edits, e...)
		n = c.Arg
	}
	names := strs(n.GetFuncCall().GetFuncname())
	if k := len(names); k < 2 || names[k-1] != "read_secret" || names[k-2] != schemaVault {
		return
	}
	b.plan.Edits = append(b.plan.Edits, edits...)
}

// castEdit finds the bytes of x::type or CAST(x AS type) that are not x; the
// latter's parentheses stay.
func (b *builder) castEdit(c *pg.TypeCast) ([]Edit, bool) {
	toks := b.lx.toks
	i, k := b.lx.tokenAt(int(c.Location)), b.lx.tokenAt(int(c.TypeName.GetLocation()))
	if i < 0 || k <= i {
		return nil, false
	}
	last := b.typeEnd(k)
	if last < 0 {
		return nil, false
	}
	if toks[i].text(b.sql) == "::" && k == i+1 {
		return []Edit{{toks[i].start, toks[last].end}}, true
	}
	closing := b.closing(i)
	if !toks[i].word(b.sql, "cast") || last+1 != closing || !toks[k-1].word(b.sql, "as") {
		return nil, false
	}
	return []Edit{{toks[i].start, toks[i].end}, {toks[k-1].start, toks[last].end}}, true
}

// typeEnd is the index of the last token of the type text or varchar whose
// name begins at token k, or -1.
func (b *builder) typeEnd(k int) int {
	toks := b.lx.toks
	word := func(i int, w ...string) bool {
		for _, w := range w {
			if i < len(toks) && toks[i].word(b.sql, w) {
				return true
			}
		}
		return false
	}
	switch {
	case word(k, "national") && word(k+1, "character", "char") && word(k+2, "varying"):
		return k + 2
	case word(k, "character", "char", "nchar") && word(k+1, "varying"):
		return k + 1
	}
	if k+2 < len(toks) && toks[k+1].is(b.sql, '.') {
		k += 2
	}
	if name, ok := identName(b.sql, toks[k]); ok && (name == "text" || name == "varchar") {
		return k
	}
	return -1
}
