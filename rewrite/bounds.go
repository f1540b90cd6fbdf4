// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

// pg_query walks the parse tree by recursion on the C stack without a check:
// an expression of 25,000 terms ends the process, and no recover helps. So the
// depth that a text can reach is bounded before pg_query sees it. The bounds
// are far below what crashed (see TestBounds) and far above what people write;
// maxTokens (lexer.go) bounds the memory of the tree.
const (
	// maxText is more than eight values of 512 KiB written with escapes.
	maxText = 16 << 20
	// maxDepth bounds open parentheses, brackets and CASEs plus the operators
	// that can nest at the same time. protobuf itself stops at 10,000
	// messages, which is about 5,000 operators; with a stack of 8 MiB the
	// process died somewhere above 20,000.
	maxDepth = 1_000
	// maxCalls bounds the calls of one message: each needs a data key.
	maxCalls = 256
	// maxVerify bounds the guesses of one statement.
	maxVerify = 16
)

// level is what one open parenthesis, bracket or CASE has gathered.
type level struct {
	// ops can nest until a comma, AND or OR starts the next expression.
	ops int
	// joins nest to the end of the level: set operations and joins are
	// left-deep, commas or not.
	joins int
	// ranges are BETWEENs whose AND is still to come: that starts no expression.
	ranges int
	isCase bool
}

// tooDeep reports whether the tree of the text could be deeper than maxDepth.
// It over-estimates: every operator is taken to nest in the one before.
func tooDeep(sql string, toks []token) bool {
	levels := []level{{}}
	depth := 0 // sum over levels of 1 + ops + joins
	for i, t := range toks {
		top := &levels[len(levels)-1]
		switch nestingOf(sql, toks, i) {
		case nestOpen:
			levels = append(levels, level{isCase: t.kind == kindIdent})
			depth++
		case nestClose:
			if isCase := t.kind == kindIdent; len(levels) > 1 && isCase == top.isCase {
				depth -= 1 + top.ops + top.joins
				levels = levels[:len(levels)-1]
			}
		case nestOp:
			top.ops++
			depth++
			if t.word(sql, "between") {
				top.ranges++
			}
		case nestJoin:
			top.joins++
			depth++
		case nestReset:
			if top.ranges > 0 && t.word(sql, "and") {
				top.ranges--
				continue
			}
			depth -= top.ops
			top.ops, top.ranges = 0, 0
		case nestEnd:
			if len(levels) == 1 {
				depth -= top.ops + top.joins
				*top = level{}
			}
		case nestNone:
		}
		if depth > maxDepth {
			return true
		}
	}
	return false
}

// nesting is what a token does to the depth of the tree.
type nesting uint8

const (
	nestNone nesting = iota
	nestOpen
	nestClose
	nestOp
	nestJoin
	nestReset
	nestEnd
)

// nestWords are the keywords that nest. Those not listed only ever stand a
// fixed number of times in an expression or clause.
var nestWords = map[string]nesting{
	"case": nestOpen, "end": nestClose,
	"and": nestReset, "or": nestReset, "when": nestReset, "then": nestReset, "else": nestReset,
	"union": nestJoin, "intersect": nestJoin, "except": nestJoin, "join": nestJoin,
	"not": nestOp, "is": nestOp, "isnull": nestOp, "notnull": nestOp, "collate": nestOp,
	"at": nestOp, "like": nestOp, "ilike": nestOp, "similar": nestOp, "between": nestOp,
	"in": nestOp, "overlaps": nestOp, "operator": nestOp, "escape": nestOp, "explain": nestOp,
}

func nestingOf(sql string, toks []token, i int) nesting {
	t := toks[i]
	switch t.kind { //nolint:exhaustive // what nests; all else does not
	case kindPunct:
		switch sql[t.start] {
		case '(', '[':
			return nestOpen
		case ')', ']':
			return nestClose
		case ',':
			return nestReset
		case ';':
			return nestEnd
		case '+', '-', '*', '/', '%', '^', '<', '>', '=':
			return nestOp
		}
	case kindOperator:
		return nestOp
	case kindIdent:
		if i > 0 && toks[i-1].is(sql, '.') {
			return nestNone // a field's name
		}
		if n := t.end - t.start; n >= 2 && n <= 9 {
			var buf [9]byte
			for i := range n {
				buf[i] = lower(sql[t.start+i])
			}
			return nestWords[string(buf[:n])]
		}
	}
	return nestNone
}
