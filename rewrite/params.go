// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"strconv"

	pg "github.com/pganalyze/pg_query_go/v5"
)

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
