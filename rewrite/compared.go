// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	pg "github.com/pganalyze/pg_query_go/v5"
)

// compared refuses a call of read_secret that stands in an expression beside a
// constant. vault.sealed has no operators, so the server would refuse the statement
// too, and log it with the constant: the value that somebody compares the secret
// with, or what he would fall back to.
func (b *builder) compared(m any) {
	switch n := m.(type) {
	case *pg.A_Expr:
		b.together(hintVerify, n.Lexpr, n.Rexpr)
	case *pg.CaseExpr:
		all := []*pg.Node{n.Arg}
		for _, w := range n.Args {
			all = append(all, w.GetCaseWhen().GetExpr())
		}
		if n.Arg != nil {
			b.together(hintVerify, all...)
		}
	case *pg.CoalesceExpr:
		b.together(hintMissing, n.Args...)
	case *pg.MinMaxExpr:
		b.together(hintVerify, n.Args...)
	case *pg.SubLink:
		if n.Testexpr == nil { // EXISTS, a value: nothing is compared
			return
		}
		all := []*pg.Node{n.Testexpr}
		for _, t := range n.Subselect.GetSelectStmt().GetTargetList() {
			all = append(all, t.GetResTarget().GetVal())
		}
		b.together(hintVerify, all...)
	}
}

const (
	hintVerify  = "Select vault.read_secret() as a column of its own; vault.verify_secret(name, value) compares."
	hintMissing = "With missing_ok => true it returns NULL, in a column of its own."
)

// together refuses operands of which one is a call of read_secret and another one
// holds a string.
func (b *builder) together(hint string, operands ...*pg.Node) {
	operands = elements(nil, operands)
	var call *pg.FuncCall
	for _, n := range operands {
		if c := sealedCall(n); c != nil {
			call = c
		}
	}
	if call == nil {
		return
	}
	for _, n := range operands {
		if sealedCall(n) == nil && holdsString(n) {
			b.refuse(refuseCompared(hint, int(call.Location)))
			return
		}
	}
}

// elements takes lists, arrays and rows apart.
func elements(out, list []*pg.Node) []*pg.Node {
	for _, n := range list {
		switch {
		case n.GetList() != nil:
			out = elements(out, n.GetList().Items)
		case n.GetAArrayExpr() != nil:
			out = elements(out, n.GetAArrayExpr().Elements)
		case n.GetRowExpr() != nil:
			out = elements(out, n.GetRowExpr().Args)
		default:
			out = append(out, n)
		}
	}
	return out
}

// sealedCall is the call of read_secret that an operand is, whatever it is cast to;
// or nil.
func sealedCall(n *pg.Node) *pg.FuncCall {
	for {
		switch {
		case n.GetTypeCast() != nil:
			n = n.GetTypeCast().Arg
		case n.GetCollateClause() != nil:
			n = n.GetCollateClause().Arg
		default:
			c := n.GetFuncCall()
			if names := strs(c.GetFuncname()); len(names) == 2 && names[0] == schemaVault && names[1] == "read_secret" {
				return c
			}
			return nil
		}
	}
}

func holdsString(n *pg.Node) (found bool) {
	if n == nil {
		return false
	}
	walk(n.ProtoReflect(), func(m any) {
		if c, ok := m.(*pg.A_Const); ok && c.GetSval() != nil {
			found = true
		}
	})
	return found
}
