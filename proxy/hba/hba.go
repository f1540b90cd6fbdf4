// SPDX-License-Identifier: GPL-3.0-or-later

// Package hba applies the lines of a server's pg_hba.conf, as the extension's
// vault.hba_rules() shows them, to a client that the server does not see: one
// behind a node. It does no I/O and decides as PostgreSQL's check_hba (hba.c)
// does, or says which line it cannot apply; it never guesses.
package hba

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"unicode/utf8"
)

// A Row is one row of vault.hba_rules(), NULL as the zero value.
type Row struct {
	File      string   `json:"file_name"` // before PostgreSQL 16 there is none
	Line      int      `json:"line_number"`
	Type      string   `json:"type"` // empty: the line could not be read
	Databases []string `json:"database"`
	Users     []string `json:"user_name"`
	Address   string   `json:"address"`
	Netmask   string   `json:"netmask"`
	Method    string   `json:"auth_method"`
	Options   []string `json:"options"`
	Error     string   `json:"error"` // of a line that has a type: only a remark
}

// A Line names a line of the server's configuration.
type Line struct {
	File   string
	Number int
}

// String is "line 7 of pg_hba.conf". Of the path it shows the last part: where
// the server's files are is no client's business.
func (l Line) String() string {
	file := "pg_hba.conf"
	if l.File != "" {
		file = path.Base(l.File)
	}
	return fmt.Sprintf("line %d of %s", l.Number, file)
}

// An UnreadableError says that the server itself cannot read its file as it is
// now. It then goes on with the lines that it has, and so must the caller.
type UnreadableError struct {
	Line Line
	Kind string // what is wrong, without what the line says
}

// Error names the line.
func (e *UnreadableError) Error() string {
	return fmt.Sprintf("%s cannot be read: %s", e.Line, e.Kind)
}

// ErrEmpty is a file without a line: the server refuses to load it.
var ErrEmpty = errors.New("pg_hba.conf has no line")

// Rules are the lines of one file in the order in which they are tried. They do
// not change: any number of goroutines may use them.
type Rules struct{ rules []rule }

// A rule is one line.
type rule struct {
	Line
	conn      connType
	typeWord  string // as in the file, for a type that is not known
	databases []token
	users     []token
	from      origin
	method    string
	certs     string // the option clientcert=…, empty: none
}

// connType is the first word of a line.
type connType int

const (
	connUnknown connType = iota // of a later PostgreSQL
	connLocal
	connHost
	connSSL
	connNoSSL
	connGSS
	connNoGSS
)

var connTypes = map[string]connType{
	"local": connLocal, "host": connHost, "hostssl": connSSL, "hostnossl": connNoSSL, "hostgssenc": connGSS, "hostnogssenc": connNoGSS,
}

// A token is one name of a list.
type token struct {
	kind tokenKind
	text string // the name, or the expression behind the slash
}

type tokenKind int

const (
	tokenName tokenKind = iota
	tokenAll
	tokenSameUser
	tokenSameRole
	tokenReplication
	tokenMember     // +role
	tokenRegex      // from PostgreSQL 16
	tokenUnreadable // not in the encoding that the server told it in
)

// An origin is the address part of a line.
type origin struct {
	kind       originKind
	addr, mask []byte // originMask: 4 or 16 bytes each
	text       string // originUnknown: as in the file
}

type originKind int

const (
	originUnknown originKind = iota // a host name, which we do not look up
	originAll
	originMask
	originSameHost
	originSameNet
)

// Parse reads the rows. If one of them, or all of them together, are what the
// server does not load either, the error is an *UnreadableError or ErrEmpty.
func Parse(rows []Row) (*Rules, error) {
	if len(rows) == 0 {
		return nil, ErrEmpty
	}
	r := &Rules{rules: make([]rule, len(rows))}
	for i := range rows {
		row := &rows[i]
		line := Line{File: row.File, Number: row.Line}
		if row.Type == "" {
			return nil, &UnreadableError{Line: line, Kind: row.Error}
		}
		expressions := row.File != "" // 16 brought the column and the expressions
		r.rules[i] = rule{
			Line: line, conn: connTypes[row.Type], typeWord: row.Type,
			databases: tokens(row.Databases, databaseWords, "", expressions),
			users:     tokens(row.Users, userWords, "+", expressions),
			from:      parseOrigin(row.Address, row.Netmask),
			method:    row.Method,
		}
		for _, o := range row.Options {
			if strings.HasPrefix(o, "clientcert=") {
				r.rules[i].certs = o
			}
		}
	}
	return r, nil
}

// The words that mean something. Whether one stood in quotation marks, which
// make a name of it, is not shown; PostgreSQL's own view calls that ambiguity
// the problem of whoever uses such names (hbafuncs.c), and so do we.
var (
	databaseWords = map[string]tokenKind{
		"all": tokenAll, "sameuser": tokenSameUser, "samerole": tokenSameRole, "samegroup": tokenSameRole, "replication": tokenReplication,
	}
	userWords = map[string]tokenKind{"all": tokenAll}
)

// tokens reads a list. member is the sign of a role whose members are meant,
// empty: there is none.
func tokens(names []string, words map[string]tokenKind, member string, expressions bool) []token {
	list := make([]token, len(names))
	for i, name := range names {
		kind, word := words[name]
		switch {
		case word:
			list[i] = token{kind: kind}
		case !utf8.ValidString(name) || strings.ContainsRune(name, utf8.RuneError):
			list[i] = token{kind: tokenUnreadable}
		case member != "" && strings.HasPrefix(name, member):
			list[i] = token{kind: tokenMember, text: name[len(member):]}
		case expressions && strings.HasPrefix(name, "/"):
			list[i] = token{kind: tokenRegex, text: name[1:]}
		default:
			list[i] = token{kind: tokenName, text: name}
		}
	}
	return list
}

// parseOrigin reads an address as the server shows it: a word, a host name, or
// an address with its mask. A mask need not be that of a network.
func parseOrigin(address, netmask string) origin {
	switch address {
	case "all":
		return origin{kind: originAll}
	case "samehost":
		return origin{kind: originSameHost}
	case "samenet":
		return origin{kind: originSameNet}
	}
	addr, err := netip.ParseAddr(address)
	mask, errMask := netip.ParseAddr(netmask)
	if err != nil || errMask != nil || addr.BitLen() != mask.BitLen() {
		return origin{text: address}
	}
	return origin{kind: originMask, addr: addr.AsSlice(), mask: mask.AsSlice()}
}
