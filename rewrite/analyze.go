// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"encoding/binary"
	"runtime"
	"slices"
	"sync"
	"unicode/utf8"
)

// Options say under which settings the server will read a text.
type Options struct {
	// Extended: the text is that of a Parse; else of a simple Query.
	Extended bool
	// StdStrings is standard_conforming_strings as the server last reported it.
	StdStrings bool
	// Settled: nothing forwarded since the last ReadyForQuery could have
	// changed a setting, so StdStrings and Encoding are what the server has.
	Settled bool
	// Encoding is client_encoding as reported.
	Encoding string
	// ParamTypes are the types that a Parse declares.
	ParamTypes []uint32
	// Foreign are functions whose bare name was found to be somebody else's.
	// It counts only for a lone statement: an earlier one could change the
	// search_path.
	Foreign []Func
}

// Config configures an [Analyzer].
type Config struct {
	// CacheBytes bounds the memory of the plan cache; 0 means none.
	CacheBytes int
	// CheckName says what is wrong with a secret's constant name; nil accepts
	// all. The error's text becomes the refusal's detail.
	CheckName func(string) error
}

// Analyzer analyses texts and remembers what it found. It is safe for
// concurrent use.
type Analyzer struct {
	checkName func(string) error
	plans     *planCache
	scratch   sync.Pool
	// slots bounds how many trees are built at the same time, so that the
	// bound on one text's tree also bounds the memory of all.
	slots chan struct{}
	// large has room for one text that is not short: for its tokens and tree, and
	// for the time that it takes. routed is the same for Route, whose texts need not
	// know of the vault.
	large, routed chan struct{}
}

// NewAnalyzer makes an Analyzer.
func NewAnalyzer(c Config) *Analyzer {
	return &Analyzer{
		checkName: c.CheckName,
		plans:     newPlanCache(c.CacheBytes),
		scratch:   sync.Pool{New: func() any { return new(scratch) }},
		slots:     make(chan struct{}, max(2, runtime.GOMAXPROCS(0))),
		large:     make(chan struct{}, 1),
		routed:    make(chan struct{}, 1),
	}
}

// scratch is what one analysis needs and the next can use again. It holds
// offsets and blanked text only.
type scratch struct {
	lx    lexed
	other lexed
	key   []byte
}

// Analyze says what to do with the text. A nil Plan and a nil Refusal mean
// that the text does not concern the vault. Call it for texts that [Mentions]
// or, where it matters, [MentionsPrepared] picked out.
func (a *Analyzer) Analyze(sql string, o Options) (*Plan, *Refusal) {
	plan, r := a.analyze(sql, o)
	if r != nil {
		r.Function, r.Prepares = a.named(sql, o.StdStrings)
		return nil, r.locate(sql)
	}
	return plan, nil
}

func (a *Analyzer) analyze(sql string, o Options) (*Plan, *Refusal) { //nolint:cyclop // one decision after another, read top to bottom
	defer enter(a.large, sql)()
	if len(sql) > maxText {
		return overlong(sql, &lexed{bad: badTooMany}, refuseTooComplex("more than 16 MiB"))
	}
	s := a.scratch.Get().(*scratch) //nolint:errcheck // the pool's New makes nothing else
	defer a.scratch.Put(s)

	lx := &s.lx
	lex(sql, o.StdStrings, lx)
	switch {
	case lx.bad == badTooMany:
		return overlong(sql, lx, refuseTooComplex("more than 100,000 tokens"))
	case !o.Settled && (lx.plainBackslash || lx.bad != ""):
		return s.unsettled(sql)
	case lx.bad != "":
		return unlexed(sql, lx)
	}
	seen := tokenPatterns(sql, lx.toks)
	if !seen.vault && !seen.dangerous() && !worthParsing(sql, lx.toks) && !loose(sql, lx.toks) {
		return nil, nil
	}
	// In some encodings the second byte of a character can be a backslash or a
	// dollar sign: where literals end is not known, so all is looked into.
	if !o.Settled && !isASCII(sql) && !seen.dangerous() && loose(sql, nil) {
		return nil, refuseUnsettled()
	}
	if bad := encodingBad(o); bad && !isASCII(sql) {
		if seen.suspect() || loose(sql, nil) {
			return nil, refuseEncoding(o.Encoding)
		}
		if writesVault(sql, lx.toks) {
			return nil, refuseEncoding(o.Encoding).ofTable()
		}
		return readsOnly(sql, lx, seen), nil
	}
	s.key = blank(s.key[:0], sql, lx)
	text := len(s.key)
	s.key = appendOptions(s.key, o)
	plan, ok := a.plans.get(s.key)
	if !ok {
		var keep bool
		var r *Refusal
		if plan, keep, r = a.plan(sql, s.key[:text], lx, o); r != nil {
			return nil, r
		}
		if keep {
			a.plans.put(s.key, plan)
		}
	}
	filled, r := a.fill(plan, sql, lx, o)
	if r != nil {
		r.Fingerprint = plan.Fingerprint
	}
	return filled, r
}

// enter waits until there is room for a text; what it returns makes room again.
func enter(room chan struct{}, sql string) (leave func()) {
	if len(sql) <= maxLooked {
		return func() {}
	}
	room <- struct{}{}
	return func() { <-room }
}

// worthParsing reports whether a text without a visible call still needs the
// parser: it may mean one, makes or executes a prepared statement, makes code out of a
// string, makes something of a function that calls it with values (an operator, an
// aggregate, an operator class), or writes a table of schema vault. (One reason
// more is a call inside a string, see loose: if a quote is missing, it is the
// other strings that are none.)
func worthParsing(sql string, toks []token) bool {
	code, caller := false, false
	for i, t := range toks {
		name := knownName(sql, t)
		called := i+1 < len(toks) && toks[i+1].is(sql, '(')
		switch {
		case t.word(sql, "execute"), t.word(sql, "prepare"), code && t.literal(), called && name == Update.String():
			return true
		case name == "program", t.word(sql, "system"), called && slices.Contains(runsText, name):
			code = true
		case t.word(sql, "aggregate"), t.word(sql, "class"), t.word(sql, "family"):
			code, caller = code || t.word(sql, "aggregate"), true // of which a string may name the function
		case t.word(sql, "do"), name == "function", name == "procedure":
			code = true
			caller = caller || i > 0 && (toks[i-1].is(sql, '(') || toks[i-1].is(sql, ','))
		case caller && valueFuncs[name] != 0:
			return true
		}
	}
	return writesVault(sql, toks) || meant(sql, toks)
}

// isName reports whether the token is an identifier that stands for name.
func isName(sql string, t token, name string) bool { return knownName(sql, t) == name }

// knownName is the name that an identifier stands for, if it can be one of ours: a
// longer one is not even copied.
func knownName(sql string, t token) string {
	if t.body-t.start > maxKnownIdent {
		return ""
	}
	name, _ := identName(sql, t)
	return name
}

// encodingBad reports whether client_encoding is one in which a value's bytes
// are not its UTF-8.
func encodingBad(o Options) bool {
	switch o.Encoding {
	case "", "UTF8", "SQL_ASCII":
		return false
	}
	return true
}

// appendOptions makes a cache key of a blanked text.
func appendOptions(key []byte, o Options) []byte {
	bits := byte(0)
	for i, b := range []bool{o.Extended, o.StdStrings} {
		if b {
			bits |= 1 << i
		}
	}
	for _, f := range o.Foreign {
		bits |= 1 << (3 + f - Put)
	}
	key = append(key, 0, bits)
	for _, t := range o.ParamTypes {
		key = binary.BigEndian.AppendUint32(key, t)
	}
	return key
}

// plan parses the blanked text and makes its plan; keep says whether the plan
// depends on nothing but the key.
func (a *Analyzer) plan(sql string, blanked []byte, lx *lexed, o Options) (p *Plan, keep bool, r *Refusal) {
	if tooDeep(sql, lx.toks) {
		p, r = unparsed(sql, lx, refuseTooComplex("more than 1,000 operators or parentheses in each other"))
		return p, false, r
	}
	text := string(blanked)
	if !utf8.ValidString(text) {
		p, r = unparsed(sql, lx, &Refusal{SQLState: stateBadCharacters, Message: `invalid byte sequence for encoding "UTF8"`, Detail: notSent, at: nowhere})
		return p, false, r
	}
	a.slots <- struct{}{}
	tree, err := parse(text, lx)
	<-a.slots
	if err != nil {
		p, r = unparsed(sql, lx, parseRefusal(text, err))
		return p, false, r
	}
	b := builder{sql: sql, o: o, lx: lx, plan: &Plan{}, cacheable: true, found: map[int]bool{}}
	if r := b.build(tree); r != nil {
		r.Fingerprint = a.fingerprint(blanked, lx)
		return nil, false, r
	}
	if b.plan.empty() {
		return nil, b.cacheable, nil
	}
	b.plan.Fingerprint = a.fingerprint(blanked, lx)
	return b.plan, b.cacheable, nil
}

// fill makes of a plan for a blanked text the plan for this one: constant
// names and kinds are read and checked, values only checked.
func (a *Analyzer) fill(p *Plan, sql string, lx *lexed, o Options) (*Plan, *Refusal) {
	if p == nil || len(p.Calls) == 0 {
		return p, nil
	}
	if !o.Settled && lx.touchy {
		return nil, refuseUnsettled()
	}
	if encodingBad(o) {
		return nil, refuseEncoding(o.Encoding)
	}
	if !p.decodes {
		return p, nil
	}
	own := *p
	own.Calls = make([]Call, len(p.Calls))
	copy(own.Calls, p.Calls)
	for i := range own.Calls {
		if r := a.fillCall(&own.Calls[i], sql, lx); r != nil {
			return nil, r
		}
	}
	return &own, nil
}

func (a *Analyzer) fillCall(c *Call, sql string, lx *lexed) *Refusal {
	for _, arg := range []*Arg{&c.Name, &c.Kind, &c.Value} {
		if arg.Mode == Const { // the plan may be that of a text with another UESCAPE
			arg.lit.escape = lx.toks[lx.tokenAt(arg.lit.start)].escape
		}
	}
	for _, arg := range []*Arg{&c.Name, &c.Kind} {
		if arg.Mode != Const {
			continue
		}
		text, bad := arg.lit.decode(nil, sql)
		if bad != nil {
			return refuseLiteral(bad)
		}
		arg.Text = string(text)
	}
	if c.Name.Mode == Const && a.checkName != nil {
		if err := a.checkName(c.Name.Text); err != nil {
			return refuseName(err, c.Name.lit.start)
		}
	}
	if c.Kind.Mode == Const && c.Kind.Text != "manual" && c.Kind.Text != "automatic" {
		return refuseKind(c.Kind.lit.start)
	}
	if c.Value.Mode == Const {
		if bad := c.Value.lit.check(sql); bad != nil {
			return refuseLiteral(bad)
		}
	}
	return nil
}
