// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// compared refuses what read_secret returns, from a call or from a column that is
// made of one, in an expression beside a constant. vault.sealed has no operators, so
// the server would refuse the statement too, and log it with the constant: the value
// that somebody compares the secret with, or what he would fall back to.
func (b *builder) compared(stmt *pg.RawStmt) {
	c := comparison{refuse: b.refuse, quoted: slices.ContainsFunc(b.lx.toks, func(t token) bool {
		return t.kind == kindQuoted || t.kind == kindUnicodeIdent
	})}
	c.look(stmt.ProtoReflect(), nil)
}

const (
	hintVerify  = "Select vault.read_secret() as a column of its own; vault.verify_secret(name, value) compares."
	hintMissing = "With missing_ok => true it returns NULL, in a column of its own."
)

// A comparison looks at a statement, at each node of its tree once.
type comparison struct {
	refuse  func(*Refusal)
	quoted  bool // the text has quoted names
	nodes   int  // that it has looked at
	columns int  // the same, see maxColumns
}

// found is what an expression has to do with secrets and constants.
type found struct {
	sealed bool // it is a secret, or what the server would not make of one
	late   bool // but the server finds out only when it computes it
	part   bool // it is a row or an array that holds one
	text   bool // it is a constant, or holds one beside the secret
	inner  bool // a constant is in what it is computed from, in a way not known
	at     int32
}

func (f found) and(g found) found {
	if g.sealed || g.part {
		f.at = g.at
	}
	return found{f.sealed || g.sealed, f.late || g.late, f.part || g.part, f.text || g.text, f.inner || g.inner, f.at}
}

// secret is what is left to know of an expression that is one: its constants are
// its own.
func (f found) secret() found {
	if f.sealed {
		return found{sealed: true, late: f.late, at: f.at}
	}
	return found{text: f.text, inner: f.inner}
}

// textual are functions of PostgreSQL and pgcrypto that take texts, and no type
// that they do not know: none takes a secret.
var textual = func() map[string]bool {
	m := map[string]bool{}
	for _, name := range strings.Fields(`ascii bit_length btrim char_length character_length convert_to crypt decode digest
		encode hmac initcap left length like_escape lower lpad ltrim md5 max min normalize octet_length overlay position quote_ident
		regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
		regexp_split_to_table regexp_substr repeat replace reverse right rpad rtrim sha224 sha256 sha384 sha512
		similar_to_escape split_part starts_with string_agg string_to_array string_to_table strpos substr substring
		to_date to_number to_timestamp to_tsquery to_tsvector translate upper`) {
		m[name] = true
	}
	return m
}()

// look takes one node of the tree, in the names of a scope.
func (c *comparison) look(m protoreflect.Message, s *scope) found {
	c.nodes++
	switch n := m.Interface().(type) {
	case *pg.Node:
		return c.rest(m, s)
	case *pg.A_Const:
		return found{text: !n.Isnull}
	case *pg.ColumnRef:
		return c.column(n, s)
	case *pg.TypeCast:
		f := c.node(n.Arg, s).secret() // the server does make text of a row
		f.late = f.sealed
		return f
	case *pg.CollateClause:
		return c.node(n.Arg, s).secret()
	case *pg.FuncCall:
		return c.call(n, s)
	case *pg.A_Expr:
		f := c.operands(s, n.Lexpr, n.Rexpr).secret()
		f.late = f.sealed // there is a || of text and anything
		return f
	case *pg.MinMaxExpr:
		return c.operands(s, n.Args...).secret()
	case *pg.CoalesceExpr:
		return c.choice(hintMissing, true, c.all(n.Args, s)...)
	case *pg.CaseExpr:
		return c.cases(n, s)
	case *pg.List:
		return c.elements(n.Items, s)
	case *pg.RowExpr:
		return c.elements(n.Args, s)
	case *pg.A_ArrayExpr:
		return c.elements(n.Elements, s)
	case *pg.SubLink:
		return c.subLink(n, s)
	case *pg.SelectStmt, *pg.InsertStmt, *pg.UpdateStmt, *pg.DeleteStmt, *pg.MergeStmt:
		c.query(m, s)
		return found{}
	}
	f := c.rest(m, s)
	return found{inner: f.text || f.inner}
}

func (c *comparison) node(n *pg.Node, s *scope) found {
	if n == nil {
		return found{}
	}
	return c.look(n.ProtoReflect(), s)
}

func (c *comparison) all(list []*pg.Node, s *scope) []found {
	out := make([]found, len(list))
	for i, n := range list {
		out[i] = c.node(n, s)
	}
	return out
}

// rest looks at all that a node holds but for the fields that were looked at.
func (c *comparison) rest(m protoreflect.Message, s *scope, but ...protoreflect.Name) (f found) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.Kind() != protoreflect.MessageKind || slices.Contains(but, fd.Name()):
		case fd.IsList():
			for i := range v.List().Len() {
				f = f.and(c.look(v.List().Get(i).Message(), s))
			}
		default:
			f = f.and(c.look(v.Message(), s))
		}
		return true
	})
	return f
}

// refused refuses a secret beside a constant.
func (c *comparison) refused(hint string, f found, beside bool) {
	if (f.sealed || f.part) && beside {
		c.refuse(refuseCompared(hint, int(f.at)))
	}
}

// operands are those of an operator, which there is none of for secrets.
func (c *comparison) operands(s *scope, list ...*pg.Node) (f found) {
	for _, g := range c.all(list, s) {
		f = f.and(g)
	}
	c.refused(hintVerify, f, f.text || f.inner)
	return f
}

// choice is one of several values, all of which must be secrets if one is. What a
// function returns that is not known may be one. late: also if that is found out late.
func (c *comparison) choice(hint string, late bool, list ...found) (f found) {
	for _, g := range list {
		if late || !g.late {
			f = f.and(g.secret())
		}
	}
	c.refused(hint, f, f.text)
	return f.secret()
}

func (c *comparison) cases(n *pg.CaseExpr, s *scope) found {
	compared, results := c.node(n.Arg, s), []found{c.node(n.Defresult, s)}
	for _, a := range n.Args {
		w := a.GetCaseWhen()
		f := c.node(w.GetExpr(), s)
		if n.Arg != nil {
			compared = compared.and(f)
		}
		results = append(results, c.node(w.GetResult(), s))
	}
	c.refused(hintVerify, compared, compared.text || compared.inner)
	return c.choice(hintVerify, false, results...)
}

// elements are those of a list, a row or an array.
func (c *comparison) elements(list []*pg.Node, s *scope) (f found) {
	for _, g := range c.all(list, s) {
		f = f.and(g)
	}
	f.part, f.sealed = f.part || f.sealed, false
	return f
}

func (c *comparison) call(n *pg.FuncCall, s *scope) found {
	names := strs(n.Funcname)
	name, bare := names[len(names)-1], len(names) == 1 || names[0] == "pg_catalog"
	switch {
	case len(names) == 2 && names[0] == schemaVault && name == "read_secret":
		c.rest(n.ProtoReflect(), s)
		return found{sealed: true, at: n.Location}
	case bare && textual[name]:
		c.rest(n.ProtoReflect(), s, "args")
		return c.operands(s, n.Args...).secret()
	}
	f := c.rest(n.ProtoReflect(), s)
	return found{inner: f.text || f.inner}
}

func (c *comparison) subLink(n *pg.SubLink, s *scope) (f found) {
	test := c.node(n.Testexpr, s)
	for _, col := range c.statement(n.Subselect, s) {
		f = f.and(col.found)
	}
	switch n.SubLinkType { //nolint:exhaustive // the others compare
	case pg.SubLinkType_EXISTS_SUBLINK, pg.SubLinkType_MULTIEXPR_SUBLINK:
		return found{}
	case pg.SubLinkType_EXPR_SUBLINK:
		return f.secret()
	case pg.SubLinkType_ARRAY_SUBLINK:
		return found{part: f.sealed, text: f.text, inner: f.inner, at: f.at}
	}
	f = f.and(test)
	c.refused(hintVerify, f, f.text || f.inner)
	return f.secret()
}
