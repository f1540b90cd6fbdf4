// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// strs are the strings of a list of names.
func strs(list []*pg.Node) []string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = n.GetString_().GetSval()
	}
	return out
}

// harmless are built-in functions that often stand beside a read and write
// nothing. Any other may be somebody's own, which writes: what the tree cannot
// show counts as a write.
var harmless = map[string]bool{
	"read_secret": true, "count": true, "max": true, "min": true, "sum": true, "now": true, "lower": true, "upper": true,
	"length": true, "concat": true, "format": true, "generate_series": true, "unnest": true, "array_agg": true,
	"row_number": true, "pg_typeof": true, "version": true, "current_setting": true, "pg_backend_pid": true,
}

// funcCall takes a call of any function.
func (b *builder) funcCall(fc *pg.FuncCall) { //nolint:cyclop // a table of cases
	names := strs(fc.Funcname)
	n := len(names)
	name := names[n-1]
	class := &b.plan.Stmts[b.stmt].Class
	if n < 2 || names[n-2] != schemaVault {
		b.codeOfFunction(name)
		bare := n == 1 || names[n-2] == "pg_catalog"
		b.runs = b.runs || !bare || !harmless[name]
		f := valueFuncs[name]
		near := b.near(fc)
		switch {
		case near != nil:
			b.refuse(near)
		case name == "set_config" && bare:
			*class = max(*class, ClassRights)
		case n == 1 && name == "read_secret":
			b.plan.Direct, b.plan.Reads = true, true
			b.names(name, fc)
		case n == 1 && f != 0 && !b.foreign(f):
			b.unqualified(f, fc)
		case n == 1 && name == Update.String() && !b.foreign(Update) && len(fc.Args) > 1 && holdsString(fc.Args[1]):
			b.unqualified(Update, fc)
		}
		return
	}
	b.plan.Direct = true
	at := b.lx.tokenAt(int(fc.Location))
	b.found[at] = true
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
	b.plan.Writes = b.plan.Writes || sig.writes
	b.names(name, fc)
	switch {
	case sig.rights:
		*class = max(*class, ClassRights)
	case sig.writes:
		*class = max(*class, ClassWrite)
	}
	b.plan.Reads = b.plan.Reads || name == "read_secret"
	if name == Update.String() && b.looksLikeValue(fc) {
		b.refuse(refuseUpdate(int(fc.Location)))
		return
	}
	if f := valueFuncs[name]; f != 0 {
		b.valueCall(f, sig, fc, args, at)
	}
}

// unqualified refuses a call of f by its bare name.
func (b *builder) unqualified(f Func, fc *pg.FuncCall) {
	r := refuseUnqualified(f, int(fc.Location))
	r.Unqualified = b.canAsk()
	b.refuse(r)
}

// names notes the function of a call. The tree is walked in no order.
func (b *builder) names(function string, fc *pg.FuncCall) {
	if b.plan.Function == "" || fc.Location < b.namedAt {
		b.plan.Function, b.namedAt = function, fc.Location
	}
	if !slices.Contains(b.plan.Functions, function) {
		b.plan.Functions = append(b.plan.Functions, function)
	}
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
// is an interval, could be meant as a value, as it is in supabase/vault: a constant or
// parameter without a name that no cast makes an interval, or an expression with a
// string. The server's error would quote it.
func (b *builder) looksLikeValue(fc *pg.FuncCall) bool {
	if len(fc.Args) < 2 {
		return false
	}
	n := fc.Args[1]
	for n.GetTypeCast() != nil && !isInterval(n.GetTypeCast().TypeName) {
		n = n.GetTypeCast().Arg
	}
	if p := n.GetParamRef(); p != nil {
		i := int(p.Number) - 1
		return i < 0 || i >= len(b.o.ParamTypes) || b.o.ParamTypes[i] != oidInterval
	}
	if c := n.GetAConst(); c != nil {
		return !c.Isnull
	}
	return holdsString(n)
}

// isInterval reports whether a type is interval, of whatever fields.
func isInterval(t *pg.TypeName) bool {
	names := strs(t.GetNames())
	n := len(names)
	return n > 0 && names[n-1] == "interval" && (n == 1 || names[n-2] == "pg_catalog")
}

// holdsString reports whether an argument without a name holds a string constant that is
// not cast to interval.
func holdsString(n *pg.Node) bool {
	if n.GetNamedArgExpr() != nil {
		return false
	}
	found := 0
	walk(n.ProtoReflect(), func(m any) {
		switch m := m.(type) {
		case *pg.A_Const:
			if m.GetSval() != nil {
				found++
			}
		case *pg.TypeCast:
			if isInterval(m.TypeName) && m.Arg.GetAConst().GetSval() != nil {
				found--
			}
		}
	})
	return found > 0
}

// valueCall takes a call that needs the node.
func (b *builder) valueCall(f Func, sig *signature, fc *pg.FuncCall, args []*pg.Node, at int) {
	if b.values++; b.values > maxCalls { // refused by limits, if not for something else
		return
	}
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
	b.plan.Calls = append(b.plan.Calls, c)
}

// checkNulls refuses NULLs that mean nothing; a NULL value of create and
// rotate means a value made by the node.
func (b *builder) checkNulls(c *Call, fc *pg.FuncCall) bool {
	at := int(fc.Location)
	switch {
	case c.Name.Mode == Null:
		b.refuse(refuseNull(c.Func, "name", hintName, at))
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
