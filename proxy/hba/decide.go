// SPDX-License-Identifier: GPL-3.0-or-later

package hba

import (
	"fmt"
	"net/netip"
	"strings"
)

// A Client is what the rules are applied to. Encryption by GSS is not among it:
// a node has none.
type Client struct {
	Addr           netip.Addr // zero: a unix socket
	User, Database string
	TLS            bool
	Physical       bool // a replication connection to no database
}

// Questions are what the rules need to know of a client and only others can
// tell: the server, and the host that the server is on.
type Questions struct {
	Roles      []string  // is the user a member of these, itself or through others?
	Matches    []Pattern // does the text match, as PostgreSQL's ~ has it?
	Interfaces bool      // which addresses does the server's host have?
}

// A Pattern is a name and the regular expression that it may match.
type Pattern struct{ Text, Expression string }

// Facts are the answers. What is not among them makes a line that depends on it
// one that cannot be applied.
type Facts struct {
	Roles      map[string]bool
	Matches    map[Pattern]bool
	Interfaces []netip.Prefix // address and mask of each interface; nil: not known
}

// Outcome is what the rules say.
type Outcome int

// The outcomes. The zero value refuses.
const (
	NoEntry    Outcome = iota // no line matches
	Admitted                  // a line matches whose method SCRAM can serve
	Rejected                  // a line with reject matches
	NotApplied                // the line may match, or does, and a node cannot apply it
)

// A Verdict is an outcome and the line it comes from.
type Verdict struct {
	Outcome Outcome
	Line    Line   // zero with NoEntry
	Reason  string // of NotApplied: what of the line cannot be applied
}

// Ask returns what Decide will have to know about this client.
func (r *Rules) Ask(c Client) Questions {
	s := search{client: c}
	for i := range r.rules {
		s.reason = ""
		if s.matches(&r.rules[i]) == yes {
			break // no later line is looked at, whatever the answers
		}
	}
	return s.asked
}

// Decide finds the first line that matches, as PostgreSQL does. A line that
// might match, for all we can tell, ends the search: what comes behind it may
// be weaker.
func (r *Rules) Decide(c Client, f Facts) Verdict {
	s := search{client: c, facts: f}
	for i := range r.rules {
		rule := &r.rules[i]
		s.reason = ""
		switch s.matches(rule) {
		case no:
		case maybe:
			return Verdict{Outcome: NotApplied, Line: rule.Line, Reason: s.reason}
		case yes:
			return rule.verdict()
		}
	}
	return Verdict{Outcome: NoEntry}
}

// An Unserved is a line that admits nobody through a node.
type Unserved struct {
	Line   Line
	Reason string
}

// Unserved returns the lines whose method a node cannot serve.
func (r *Rules) Unserved() []Unserved {
	var list []Unserved
	for i := range r.rules {
		if v := r.rules[i].verdict(); v.Outcome == NotApplied {
			list = append(list, Unserved{v.Line, v.Reason})
		}
	}
	return list
}

// verdict is what a line that matches means for a client that proves its
// password by SCRAM.
func (r *rule) verdict() Verdict {
	v := Verdict{Outcome: NotApplied, Line: r.Line}
	if r.certs != "" { // with reject, too: PostgreSQL looks at it first
		v.Reason = "it asks for a client certificate (" + r.certs + ")"
		return v
	}
	switch r.method {
	case "scram-sha-256", "md5", "password", "trust":
		v.Outcome = Admitted
	case "reject":
		v.Outcome = Rejected
	default:
		v.Reason = fmt.Sprintf("its method is %s", r.method)
	}
	return v
}

// answer is a truth value of which we may know too little. They are ordered:
// "and" is the least of them, "or" the greatest.
type answer int

const (
	no answer = iota
	maybe
	yes
)

func answerOf(b bool) answer {
	if b {
		return yes
	}
	return no
}

// A search is one look through the rules.
type search struct {
	client Client
	facts  Facts
	asked  Questions
	reason string // why the line at hand cannot be applied
}

// unsure notes why: the first reason of a line is the one that is told.
func (s *search) unsure(format string, args ...any) answer {
	if s.reason == "" {
		s.reason = fmt.Sprintf(format, args...)
	}
	return maybe
}

// matches looks at the parts in the order of their cost: a line that one of
// them rules out needs no answer about the others.
func (s *search) matches(r *rule) answer {
	sure := s.connection(r)
	for _, part := range []func() answer{
		func() answer { return s.address(r) },
		func() answer { return s.names(r.databases, s.database) },
		func() answer { return s.names(r.users, s.user) },
	} {
		if sure == no {
			return no
		}
		sure = min(sure, part())
	}
	return sure
}

func (s *search) connection(r *rule) answer {
	socket := !s.client.Addr.IsValid()
	switch r.conn {
	case connLocal:
		return answerOf(socket)
	case connHost, connNoGSS:
		return answerOf(!socket)
	case connSSL:
		return answerOf(!socket && s.client.TLS)
	case connNoSSL:
		return answerOf(!socket && !s.client.TLS)
	case connGSS:
		return no
	default:
		return s.unsure("its type %s is unknown", r.typeWord)
	}
}

func (s *search) address(r *rule) answer {
	if r.conn == connLocal {
		return yes
	}
	addr := s.client.Addr.WithZone("") // a mask knows no zones
	switch r.from.kind {
	case originAll:
		return yes
	case originMask:
		return answerOf(covers(r.from.addr, r.from.mask, addr))
	case originSameHost, originSameNet:
		s.asked.Interfaces = true
		if s.facts.Interfaces == nil {
			return s.unsure("samehost and samenet are not known of a server on another host")
		}
		for _, i := range s.facts.Interfaces {
			if i.Addr().WithZone("") == addr || r.from.kind == originSameNet && netip.PrefixFrom(i.Addr().WithZone(""), i.Bits()).Contains(addr) {
				return yes
			}
		}
		return no
	default:
		return s.unsure("it names clients by host name (%s)", r.from.text)
	}
}

// covers compares under a mask; a client of the other family never matches.
func covers(network, mask []byte, client netip.Addr) bool {
	b := client.AsSlice()
	if len(b) != len(network) {
		return false
	}
	for i := range b {
		if (b[i]^network[i])&mask[i] != 0 {
			return false
		}
	}
	return true
}

// names asks whether one of a list matches.
func (s *search) names(list []token, one func(token) answer) answer {
	best := no
	for _, t := range list {
		if best = max(best, one(t)); best == yes {
			return yes
		}
	}
	return best
}

// database follows check_db: a physical replication connection matches the word
// replication only, and nothing else does.
func (s *search) database(t token) answer {
	c := &s.client
	if c.Physical || t.kind == tokenReplication {
		return answerOf(c.Physical && t.kind == tokenReplication)
	}
	switch t.kind {
	case tokenSameUser:
		return answerOf(c.Database == c.User)
	case tokenSameRole:
		return s.member(c.Database)
	default:
		return s.name(t, c.Database)
	}
}

func (s *search) user(t token) answer {
	if t.kind == tokenMember {
		return s.member(t.text)
	}
	return s.name(t, s.client.User)
}

// name is what both lists know.
func (s *search) name(t token, have string) answer {
	switch t.kind {
	case tokenAll:
		return yes
	case tokenName:
		return answerOf(t.text == have)
	case tokenRegex:
		return s.expression(Pattern{Text: have, Expression: t.text})
	default:
		return s.unsure("it holds a name in another encoding than the database's")
	}
}

// member asks as PostgreSQL does it here: membership counts also without
// INHERIT, and a superuser is not a member of everything.
func (s *search) member(role string) answer {
	if role == s.client.User {
		return yes
	}
	s.asked.Roles = append(s.asked.Roles, role)
	is, known := s.facts.Roles[role]
	if !known {
		return s.unsure("the members of a role are not known")
	}
	return answerOf(is)
}

// expression has the server match: its expressions are not ours. At a log-in it
// knows no encoding yet and takes each byte for a character, which it does not
// when we ask; only of ASCII both are the same.
func (s *search) expression(p Pattern) answer {
	if !ascii(p.Text) || !ascii(p.Expression) {
		return s.unsure("it compares other characters than ASCII by a regular expression")
	}
	s.asked.Matches = append(s.asked.Matches, p)
	does, known := s.facts.Matches[p]
	if !known {
		return s.unsure("its regular expression was not compared")
	}
	return answerOf(does)
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 0x7f }) < 0
}
