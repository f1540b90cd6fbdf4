// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import pg "github.com/pganalyze/pg_query_go/v5"

// fingerprint is pg_query's of a blanked text, which tells nothing of its constants:
// not even how long they are, or which numbers. Some of them count for pg_query, as
// the body of a DO or the number of a FETCH. 0: there is none.
func (a *Analyzer) fingerprint(blanked []byte, lx *lexed) (f uint64) {
	text := string(withoutConstants(make([]byte, 0, len(blanked)), blanked, lx.toks))
	a.slots <- struct{}{}
	defer func() { <-a.slots }()
	done := make(chan struct{})
	go func() { // as in parse
		defer close(done)
		defer func() {
			if recover() != nil {
				f = 0
			}
		}()
		var err error
		if f, err = pg.FingerprintToUInt64(text); err != nil {
			f = 0
		}
	}()
	<-done
	return f
}

// withoutConstants appends a text with the same string and the same number in place
// of each.
func withoutConstants(dst, text []byte, toks []token) []byte {
	at := 0
	for _, t := range toks {
		var constant string
		switch {
		case t.literal():
			constant = "''"
		case t.kind == kindNumber:
			constant = "1"
		default:
			continue
		}
		dst = append(append(dst, text[at:t.start]...), constant...)
		at = t.end
	}
	return append(dst, text[at:]...)
}
