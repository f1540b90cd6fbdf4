// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"bytes"
	"slices"
)

// Texts without a tree: too long, not valid, of a later grammar, or read under settings
// that are not known. What can be seen of them decides, and errs towards a refusal.

// loose reports whether the text, literals included, may hold a call that
// carries a value. In comments none does, if the tokens are known.
func loose(sql string, toks []token) bool {
	p := loosePatterns(sql)
	if p.dangerous() && toks != nil {
		p = uncommented(sql, toks)
	}
	return p.dangerous()
}

// uncommented are the calls that a text seems to hold outside of comments.
func uncommented(sql string, toks []token) patterns {
	bare := bytes.Repeat([]byte{' '}, len(sql))
	for _, t := range toks {
		copy(bare[t.start:t.end], t.text(sql))
	}
	p := loosePatterns(bare)
	clear(bare)
	return p
}

// readsOnly is the plan of a text of which only the words are known.
func readsOnly(sql string, lx *lexed, p patterns) *Plan {
	plan := Plan{
		Direct: p.vault, Reads: p.reads,
		Executes: namesBehind("execute", sql, lx.toks, true),
		Prepares: namesBehind("prepare", sql, lx.toks, true),
	}
	sure := map[string]bool{}
	for _, name := range plan.Executes {
		sure[name] = true
	}
	guessed := append(namesBehind("execute", sql, lx.toks, false), namesIn("execute", sql, lx)...)
	slices.Sort(guessed)
	plan.Guessed = slices.DeleteFunc(slices.Compact(guessed), func(name string) bool { return sure[name] })
	if plan.empty() {
		return nil
	}
	return &plan
}

// unsettled decides about a text whose tokens depend on a setting that may have changed:
// neither reading may hold a call, nor a string that may be code. One of them may be no
// SQL.
func (s *scratch) unsettled(sql string) (*Plan, *Refusal) {
	one, other := &s.lx, &s.other
	lex(sql, !one.std, other)
	if one.bad != "" {
		if other.bad != "" {
			return unlexed(sql, one)
		}
		one, other = other, one
	}
	seen, both := tokenPatterns(sql, one.toks), tokenPatterns(sql, other.toks)
	if seen.suspect() || both.suspect() || loose(sql, nil) {
		return nil, refuseUnsettled()
	}
	cut := other.bad != "" // of this reading only a part is known
	if cut && (meant(sql, one.toks) || meant(sql, other.toks)) {
		return nil, refuseUnsettled()
	}
	if writesVault(sql, one.toks) || writesVault(sql, other.toks) || cut && looseWrites(sql) {
		return nil, refuseUnsettled().ofTable()
	}
	return readsOnly(sql, one, seen), nil
}

// overlong decides about a text that is too long to be taken apart: what its first tokens
// do not show is looked for wherever it may stand.
func overlong(sql string, lx *lexed, r *Refusal) (*Plan, *Refusal) {
	seen, everywhere := tokenPatterns(sql, lx.toks), loosePatterns(sql)
	if seen.suspect() || everywhere.suspect() || meant(sql, lx.toks) {
		return nil, r
	}
	if looseWrites(sql) {
		return nil, r.ofTable()
	}
	return readsOnly(sql, lx, seen), nil
}

// unlexed decides about a text that is not even lexically valid. The server
// would refuse it too, but log it with whatever it holds.
func unlexed(sql string, lx *lexed) (*Plan, *Refusal) {
	// An identifier with escapes can spell anything; to be called or written it
	// has to stand beside one of these.
	if mentionsText(sql) || holds(sql, `u&"`) && (holds(sql, "(") || holds(sql, "into") || holds(sql, "update")) {
		return nil, refuseSyntax(lx.bad, lx.badAt)
	}
	return readsOnly(sql, lx, patterns{}), nil
}

// unparsed decides about a text that has no tree: it passes only if nothing in
// it, strings included, looks like a call that could carry a value.
func unparsed(sql string, lx *lexed, r *Refusal) (*Plan, *Refusal) {
	seen := tokenPatterns(sql, lx.toks)
	if seen.suspect() || meant(sql, lx.toks) || loose(sql, lx.toks) {
		return nil, r
	}
	if writesVault(sql, lx.toks) {
		return nil, r.ofTable()
	}
	return readsOnly(sql, lx, seen), nil
}

// writeWords stand in front of a table that is written.
var writeWords = []string{"into", "update", "only"}

// writesVault reports whether the text writes a table of schema vault.
func writesVault(sql string, toks []token) bool {
	for i, t := range toks {
		if !slices.ContainsFunc(writeWords, func(w string) bool { return t.word(sql, w) }) {
			continue
		}
		name := i + 1
		if name < len(toks) && toks[name].is(sql, '(') { // ONLY (vault.t)
			name++
		}
		if name+1 < len(toks) && toks[name+1].is(sql, '.') && isName(sql, toks[name], schemaVault) {
			return true
		}
	}
	return false
}

// looseWrites is writesVault for a text that cannot be taken apart into tokens.
func looseWrites(sql string) bool {
	for i := range len(sql) {
		for _, w := range writeWords {
			if lower(sql[i]) == w[0] && looseWord(sql, i, w) && begins(sql, i) && vaultMember(sql, i+len(w)) {
				return true
			}
		}
	}
	return false
}

// vaultMember reports whether a name in schema vault, or in one that is spelled in
// escapes, stands behind i.
func vaultMember(sql string, i int) bool {
	at := deepGap(sql, i)
	if at < len(sql) && sql[at] == '(' {
		at = deepGap(sql, at+1)
	}
	if at >= len(sql) || looseUnicode(sql, at) {
		return at < len(sql)
	}
	if !deepWord(sql, at, schemaVault) {
		return false
	}
	at = deepGap(sql, at+len(schemaVault))
	return at < len(sql) && sql[at] == '.'
}
