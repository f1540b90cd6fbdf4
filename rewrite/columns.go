// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxColumns bounds the columns that are looked at for the names of one statement,
// which can stand for any number. Behind it they are not followed.
const maxColumns = 100_000

// A column is one of a query, of a sub-select or of a WITH query.
type column struct {
	name string // "": not known, so any
	star bool   // it stands for any number of columns that are not known
	found
}

// A table is what FROM names. What the text does not tell of it, as the columns of
// the server's tables, is not known.
type table struct {
	name    string
	columns []column
}

var unknown = []column{{star: true}}

// A scope has the names that a query knows beside those of the one around it.
type scope struct {
	outer  *scope
	with   map[string][]column
	tables []table
	merged bool // a join has moved columns to the front
	// own are the query's own columns. Expressions of it cannot use them: it is tried.
	own []column
}

// name is a name as far as it can be compared: the content of quoted ones was
// overwritten.
func (c *comparison) name(s string) string {
	if c.quoted && strings.Trim(s, "x") == "" {
		return ""
	}
	return s
}

// may counts columns that are to be looked at.
func (c *comparison) may(n int) bool {
	if c.columns+n > maxColumns {
		return false
	}
	c.columns += n
	return true
}

// column is what a name stands for. Where the text does not tell, it is nothing.
func (c *comparison) column(ref *pg.ColumnRef, s *scope) (f found) {
	parts := strs(ref.Fields)
	name := c.name(parts[len(parts)-1])
	if name == "" {
		return found{}
	}
	switch len(parts) {
	case 1:
		f = c.lookUp("", name, s)
	case 2:
		if of := c.name(parts[0]); of != "" {
			f = c.lookUp(of, name, s)
		}
	}
	f.at = ref.Location
	return f
}

// lookUp goes from a scope outwards until a name is found, or may be one that is
// not known.
func (c *comparison) lookUp(of, name string, s *scope) (f found) {
	var own []column
	for ; s != nil; s = s.outer {
		known, any := false, false
		for _, t := range s.tables {
			if !c.may(1 + len(t.columns)) {
				return found{}
			}
			if of != "" && t.name != of {
				any = any || t.name == ""
				continue
			}
			known = known || of != ""
			for _, col := range t.columns {
				if col.name == name {
					f, known = f.and(col.found), true
				}
				any = any || col.name == ""
			}
		}
		if known || any || !c.may(1) {
			return f
		}
		if own == nil {
			own = s.own
		}
	}
	if of == "" && c.may(len(own)) {
		for _, col := range own {
			if col.name == name {
				f = f.and(col.found)
			}
		}
	}
	return f
}

// query looks at a statement that has rows, and returns their columns.
func (c *comparison) query(m protoreflect.Message, outer *scope) []column {
	but := []protoreflect.Name{"with_clause", "from_clause", "using_clause", "source_relation", "target_list", "returning_list", "values_lists", "larg", "rarg"}
	s := &scope{outer: outer}
	if q, ok := m.Interface().(interface{ GetWithClause() *pg.WithClause }); ok {
		s.outer = c.with(q.GetWithClause(), outer)
	}
	var targets []*pg.Node
	switch n := m.Interface().(type) {
	case *pg.SelectStmt:
		c.from(s, n.FromClause...)
		switch {
		case n.Larg != nil:
			s.own = c.rows(c.query(n.Larg.ProtoReflect(), s.outer), c.query(n.Rarg.ProtoReflect(), s.outer))
		case n.ValuesLists != nil:
			s.own = c.values(n.ValuesLists, s)
		}
		targets = n.TargetList
	case *pg.InsertStmt:
		c.written(s, n.Relation)
		targets = n.ReturningList
	case *pg.UpdateStmt:
		c.written(s, n.Relation)
		c.from(s, n.FromClause...)
		c.all(n.TargetList, s)
		targets = n.ReturningList
	case *pg.DeleteStmt:
		c.written(s, n.Relation)
		c.from(s, n.UsingClause...)
		targets = n.ReturningList
	case *pg.MergeStmt:
		c.written(s, n.Relation)
		c.from(s, n.SourceRelation)
	}
	for _, t := range targets {
		s.own = c.target(s.own, t.GetResTarget(), s)
	}
	c.rest(m, s, but...)
	return s.own
}

// written adds the table that a statement writes, which is no query of WITH whatever
// its name.
func (c *comparison) written(s *scope, r *pg.RangeVar) {
	name := r.GetRelname()
	if r.GetAlias() != nil {
		name = r.Alias.Aliasname
	}
	s.tables = append(s.tables, table{c.name(name), c.renamed(unknown, r.GetAlias().GetColnames())})
}

// statement is query of what a node holds.
func (c *comparison) statement(n *pg.Node, s *scope) (out []column) {
	n.ProtoReflect().Range(func(_ protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		out = c.query(v.Message(), s)
		return true
	})
	return out
}

// with is the scope of the queries of WITH.
func (c *comparison) with(w *pg.WithClause, outer *scope) *scope {
	if w == nil {
		return outer
	}
	s := &scope{outer: outer, with: map[string][]column{}}
	for _, n := range w.Ctes {
		if w.Recursive { // each knows all
			s.with[c.name(n.GetCommonTableExpr().Ctename)] = unknown
		}
	}
	for _, n := range w.Ctes {
		e := n.GetCommonTableExpr()
		name := c.name(e.Ctename)
		s.with[name] = c.renamed(c.statement(e.Ctequery, s), e.Aliascolnames)
	}
	return s
}

// withQuery are the columns of what a FROM names.
func (c *comparison) withQuery(name string, s *scope) []column {
	for ; name != "" && s != nil && c.may(1); s = s.outer {
		if cols, ok := s.with[name]; ok {
			return cols
		}
	}
	return unknown
}

// rows puts the rows of two queries together.
func (c *comparison) rows(a, b []column) []column {
	for i := range min(len(a), len(b)) {
		if a[i].star || b[i].star {
			break
		}
		a[i].found = c.choice(hintVerify, false, a[i].found, b[i].found)
	}
	return a
}

func (c *comparison) values(lists []*pg.Node, s *scope) (out []column) {
	for _, l := range lists {
		var row []column
		for i, f := range c.all(l.GetList().GetItems(), s) {
			row = append(row, column{name: "column" + strconv.Itoa(i+1), found: f.secret()})
		}
		if out == nil {
			out = row
		}
		c.rows(out, row)
	}
	return out
}

// target adds what one of a query's targets is.
func (c *comparison) target(out []column, t *pg.ResTarget, s *scope) []column {
	fields := t.Val.GetColumnRef().GetFields()
	switch n := len(fields); {
	case n == 0 || fields[n-1].GetAStar() == nil:
		name := t.Name
		if name == "" {
			name = nameOf(t.Val)
		}
		return append(out, column{name: c.name(name), found: c.node(t.Val, s).secret()})
	case n == 1:
		return c.star(out, s.tables, s.merged)
	case n > 2: // of a table by its schema
		return append(out, unknown...)
	}
	of := c.name(fields[0].GetString_().GetSval())
	i := slices.IndexFunc(s.tables, func(t table) bool { return c.may(1) && of != "" && t.name == of })
	if i < 0 {
		return append(out, unknown...)
	}
	return c.star(out, s.tables[i:i+1], false)
}

// nameOf is the name of a column that is given none; "" for those of which nobody
// makes use.
func nameOf(n *pg.Node) string {
	for n.GetTypeCast() != nil || n.GetCollateClause() != nil {
		if n.GetCollateClause() != nil {
			n = n.GetCollateClause().Arg
		} else {
			n = n.GetTypeCast().Arg
		}
	}
	names := append(strs(n.GetColumnRef().GetFields()), strs(n.GetFuncCall().GetFuncname())...)
	if len(names) == 0 {
		return ""
	}
	return names[len(names)-1]
}

// star adds all columns of tables.
func (c *comparison) star(out []column, tables []table, merged bool) []column {
	if merged {
		out = append(out, unknown...)
	}
	for _, t := range tables {
		if !c.may(1 + len(t.columns)) {
			return append(out, unknown...)
		}
		out = append(out, t.columns...)
	}
	return out
}

// from adds to a scope what a FROM names.
func (c *comparison) from(s *scope, list ...*pg.Node) {
	for _, n := range list {
		var t table
		var alias *pg.Alias
		switch r := n.GetNode().(type) {
		case *pg.Node_JoinExpr:
			c.join(s, r.JoinExpr)
			continue
		case *pg.Node_RangeVar:
			alias, t = r.RangeVar.Alias, table{c.name(r.RangeVar.Relname), unknown}
			if r.RangeVar.Schemaname == "" {
				t.columns = c.withQuery(t.name, s.outer)
			}
		case *pg.Node_RangeSubselect:
			alias = r.RangeSubselect.Alias
			around := s.outer
			if r.RangeSubselect.Lateral {
				around = s
			}
			t.columns = c.statement(r.RangeSubselect.Subquery, around)
		case *pg.Node_RangeFunction:
			alias = r.RangeFunction.Alias
			t = c.function(r.RangeFunction, s)
		default:
			c.node(n, s)
			t.columns = unknown
		}
		if alias != nil {
			t = table{c.name(alias.Aliasname), c.renamed(t.columns, alias.Colnames)}
		}
		s.tables = append(s.tables, t)
	}
}

// renamed are columns under other names.
func (c *comparison) renamed(cols []column, names []*pg.Node) []column {
	if len(names) == 0 {
		return cols
	}
	if !c.may(len(cols)) {
		return unknown
	}
	cols = slices.Clone(cols)
	lost := false // which name is whose
	for i := range cols {
		lost = lost || cols[i].star
		switch {
		case lost:
			cols[i].name = ""
		case i < len(names):
			cols[i].name = c.name(names[i].GetString_().GetSval())
		}
	}
	return cols
}

// function is a function as a table: of one that returns a secret, a column of the
// table's name.
func (c *comparison) function(r *pg.RangeFunction, s *scope) table {
	var f found
	var first *pg.Node
	for _, fn := range r.Functions {
		for _, n := range fn.GetList().GetItems() {
			if first == nil {
				first = n
			}
			f = f.and(c.node(n, s))
		}
	}
	if !f.sealed || len(r.Functions) > 1 {
		return table{columns: unknown}
	}
	name := nameOf(first)
	if r.Alias != nil {
		name = r.Alias.Aliasname
	}
	cols := []column{{name: c.name(name), found: f.secret()}}
	if r.Ordinality {
		cols = append(cols, column{name: "ordinality"})
	}
	return table{c.name(name), cols}
}

// join adds what a join joins, and compares what it compares.
func (c *comparison) join(s *scope, j *pg.JoinExpr) {
	first := len(s.tables)
	c.from(s, j.Larg)
	second := len(s.tables)
	c.from(s, j.Rarg)
	left, right := s.tables[first:second], s.tables[second:]
	c.node(j.Quals, &scope{outer: s.outer, tables: s.tables[first:]})
	names := strs(j.UsingClause)
	if j.IsNatural {
		for _, col := range c.star(nil, left, false) {
			names = append(names, col.name)
		}
	}
	for _, name := range names {
		if name = c.name(name); name != "" {
			f := c.lookUp("", name, &scope{tables: left}).and(c.lookUp("", name, &scope{tables: right}))
			c.refused(hintVerify, f, f.text || f.inner)
		}
	}
	s.merged = s.merged || len(names) > 0
	if j.Alias != nil {
		cols := c.renamed(c.star(nil, s.tables[first:], s.merged), j.Alias.Colnames)
		s.tables = append(s.tables[:first], table{c.name(j.Alias.Aliasname), cols})
	}
}
