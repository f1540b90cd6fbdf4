// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"errors"

	pg "github.com/pganalyze/pg_query_go/v5"
	"github.com/pganalyze/pg_query_go/v5/parser"
)

// errDisagree is returned when pg_query's tokens are not ours.
type errDisagree struct{ at int }

func (errDisagree) Error() string { return "the lexers disagree" }

// parse returns pg_query's tree, provided that its scanner sees our tokens. It
// runs on a goroutine of its own: callers erase what they do with a value
// (runtime/secret), and a call into C crashes the process under that. The text
// is the blanked one, so nothing here needs erasing.
func parse(text string, lx *lexed) (tree *pg.ParseResult, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if recover() != nil {
				tree, err = nil, errParser
			}
		}()
		tree, err = parseHere(text, lx)
	}()
	<-done
	return tree, err
}

// errParser stands for a panic in the parser's Go half.
var errParser = errors.New("the parser failed")

func parseHere(text string, lx *lexed) (*pg.ParseResult, error) {
	tree, err := pg.Parse(text)
	if err != nil {
		return nil, err
	}
	scan, err := pg.Scan(text)
	if err != nil {
		return nil, err
	}
	if at := compareTokens(lx.toks, scan.Tokens); at >= 0 {
		return nil, errDisagree{at}
	}
	return tree, nil
}

// compareTokens returns the place of the first token about which the scanners
// differ, or -1.
func compareTokens(ours []token, theirs []*pg.ScanToken) int {
	for _, o := range ours {
		theirs = skipComments(theirs)
		n := 1
		if o.end != o.body {
			n = 3 // with UESCAPE and its argument
		}
		if len(theirs) < n || int(theirs[0].Start) != o.start {
			return o.start
		}
		// pg_query has no right end for U& tokens.
		unicode := o.kind == kindUnicode || o.kind == kindUnicodeIdent
		if (n == 3 || !unicode) && int(theirs[n-1].End) != o.end {
			return o.start
		}
		theirs = theirs[n:]
	}
	if theirs = skipComments(theirs); len(theirs) > 0 {
		return int(theirs[0].Start)
	}
	return -1
}

func skipComments(toks []*pg.ScanToken) []*pg.ScanToken {
	for len(toks) > 0 && (toks[0].Token == pg.Token_C_COMMENT || toks[0].Token == pg.Token_SQL_COMMENT) {
		toks = toks[1:]
	}
	return toks
}

// parseRefusal is the parser's error without its words, which quote the text.
func parseRefusal(text string, err error) *Refusal {
	switch e := err.(type) { //nolint:errorlint // both are returned as they are
	case errDisagree:
		return refuseDisagreement(e.at)
	case *parser.Error:
		// The position counts characters of the blanked text.
		return refuseSyntax(badSyntax, byteOffset(text, e.Cursorpos))
	}
	r := refuseTooComplex("a deeper tree than can be read")
	r.Detail = notSent
	return r
}

// byteOffset is the offset of the pos-th character of s, counted from 1; -1 if
// there is none.
func byteOffset(s string, pos int) int {
	if pos <= 0 {
		return -1
	}
	for i := range s {
		if pos--; pos == 0 {
			return i
		}
	}
	return len(s)
}
