// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"strings"
	"unicode/utf8"
)

// Refusal is what a client is told in place of an answer from the server: the
// fields of an ErrorResponse. It never quotes the text, except for names that
// the text itself uses as names of functions.
type Refusal struct {
	SQLState, Message, Detail, Hint string
	// Position counts characters of the text from 1; 0 is none.
	Position int
	// Unqualified: the text calls a function of ours by its bare name, which
	// may as well be somebody else's. If the server says so, the caller may
	// analyse again with [Options.Foreign].
	Unqualified bool
	// Table: the text only writes a table of schema vault that is none of
	// ours. Where the vault is not, it is somebody else's.
	Table bool
	// Function is the function of the vault that the text names first, wherever that
	// is; empty: none.
	Function string
	// Prepares are names that the text may PREPARE, if only in a string that is code.
	Prepares []string
	// Reason is a short word for an audit, if the SQLSTATE says too little.
	Reason string
	// Fingerprint is the text's, see [Plan]; 0: not known.
	Fingerprint uint64

	at int // byte offset, or nowhere
}

// weight orders refusals by how hard they are to lift.
func (r *Refusal) weight() int {
	switch {
	case r.Table:
		return 0
	case r.Unqualified:
		return 1
	}
	return 2
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message + " (SQLSTATE " + r.SQLState + ")" }

// SQLSTATEs used here.
const (
	stateNotSupported  = "0A000"
	stateSyntax        = "42601"
	stateNoFunction    = "42883"
	stateNoParameter   = "42P02"
	stateNoSchema      = "3F000"
	stateInvalidValue  = "22023"
	stateNullValue     = "22004"
	stateBadCharacters = "22021"
	stateTooLarge      = "54000"
	stateTooComplex    = "54001"
)

// notSent ends the details of refusals that a server would have made as well:
// it says why the node did not leave it to the server.
const notSent = "The statement was not sent: the server would have logged it together with its constants."

const ownMessage = "Send it as a statement of its own, with the value as a constant or a parameter."

// Hints about what a literal is written with.
const (
	hintParam = "A value that is sent as a parameter needs no quotes and no escapes."
	hintPair  = "Write the character itself, or both halves, one right behind the other."
	hintText  = "Values are text without NUL; REST takes binary ones, as value_base64."
)

// hintName is for those who gave a value, or nothing, for a name.
const hintName = "The first argument is the secret's name, as in vault.put_secret(name, value)."

// nowhere is the byte offset of a refusal that concerns the whole text.
const nowhere = -1

// place sets the byte offset.
func (r *Refusal) place(at int) *Refusal {
	r.at = at
	return r
}

// locate makes the position of the byte offset, once the refusal is chosen.
func (r *Refusal) locate(sql string) *Refusal {
	if r.at >= 0 && r.at <= len(sql) {
		r.Position = utf8.RuneCountInString(sql[:r.at]) + 1
	}
	return r
}

func refuseLiteral(bad *badLiteral) *Refusal {
	r := &Refusal{SQLState: bad.sqlState, Message: bad.message, Hint: bad.hint}
	return r.place(bad.at)
}

// badSyntax is the parser's error without the token that it quotes.
const badSyntax = "syntax error"

// refuseSyntax is the parser's error class and position; its words would quote
// the token at fault, which may be part of a value.
func refuseSyntax(message string, at int) *Refusal {
	r := &Refusal{SQLState: stateSyntax, Message: message, Detail: notSent}
	switch message {
	case badNUL:
		r.SQLState = stateBadCharacters
		r.Hint = hintText
	case badUnicode:
		r.SQLState = stateNotSupported
		r.Hint = "Write it as E'…', or SET standard_conforming_strings = on."
	case badSyntax:
		r.Hint = "Statements that call the vault are read with the grammar of PostgreSQL 16. " + ownMessage
	case badComment:
		r.Hint = "Comments nest: each /* needs a */ of its own."
	case badIdent, badZeroIdent:
		r.Hint = "Names stand in double quotes, constants in single ones."
	default:
		r.Hint = hintParam
	}
	return r.place(at)
}

func refuseTooComplex(what string) *Refusal {
	return &Refusal{
		SQLState: stateTooComplex, Message: "statement too complex for a statement that calls the vault",
		Detail: "It has " + what + ".", Hint: ownMessage, at: nowhere,
	}
}

func refuseTooLarge(what string) *Refusal {
	return &Refusal{
		SQLState: stateTooLarge, Message: "too many calls of the vault in one message",
		Detail: what, Hint: "Send them in several statements.", at: nowhere,
	}
}

func refuseDisagreement(at int) *Refusal {
	r := &Refusal{
		SQLState: stateNotSupported, Message: "cannot analyze a statement that calls the vault",
		Detail: "Two readings of its tokens differ. " + notSent, Hint: ownMessage,
	}
	return r.place(at)
}

// refuseNoCall answers a text that names one of ours where the tree has no call.
func refuseNoCall(at int) *Refusal {
	r := &Refusal{
		SQLState: stateNotSupported, Message: "cannot analyze a statement that calls the vault",
		Detail: "It names a function of the vault and does not call it. " + notSent, Hint: ownMessage,
	}
	return r.place(at)
}

func refuseUnsettled() *Refusal {
	return &Refusal{
		SQLState: stateNotSupported,
		Message:  "cannot read the constants of a statement that calls the vault before the settings are known",
		Detail:   "A constant holds a backslash or a character that is not ASCII, and an earlier message of the same batch may have changed how it is read.",
		Hint:     "Send the statement after Sync, or the value as a parameter.", at: nowhere,
	}
}

func refuseEncoding(encoding string) *Refusal {
	return &Refusal{
		SQLState: stateNotSupported,
		Message:  "values can be stored only while client_encoding is UTF8",
		Detail:   "It is " + encoding + ". " + notSent, Hint: "SET client_encoding = 'UTF8'", Reason: "encoding", at: nowhere,
	}
}

// refuseUnknown answers a call in schema vault that no signature allows. known
// is the function meant, or nil.
func refuseUnknown(name string, known *signature, why string, at int) *Refusal {
	r := &Refusal{SQLState: stateNoFunction, Detail: notSent}
	r.Message = "function " + schemaVault + "." + shortName(name) + " does not exist"
	if known != nil && known.name == name {
		r.Message = "function " + schemaVault + "." + name + " does not take these arguments"
		if why != "" {
			r.Message += ": " + why
		}
	}
	r.Hint = "vault.put_secret(name, value) stores a secret; the functions of the vault are listed by \\df vault.*"
	if known != nil {
		r.Hint = "Perhaps you meant " + known.String() + "."
	}
	return r.place(at)
}

// shortName bounds a name that is echoed and drops what is no part of an
// ordinary one.
func shortName(name string) string {
	const most = 63
	if len(name) > most {
		name = name[:most]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError || r == 0x7F {
			return '?'
		}
		return r
	}, name)
}

func refuseUnqualified(f Func, at int) *Refusal {
	r := &Refusal{
		SQLState: stateNotSupported, Message: f.String() + "() must be called with its schema",
		Detail: notSent, Hint: "Write vault." + f.String() + "(…).", Unqualified: true,
	}
	return r.place(at)
}

// refuseSpelling answers what looks like a call in schema vault and is none.
func refuseSpelling(at int) *Refusal {
	r := &Refusal{
		SQLState: stateNoSchema, Message: "this looks like a call of the vault and is none",
		Detail: notSent, Hint: "Write vault.put_secret(…): small letters, no quotes around both names, plain spaces (U+00A0 and U+200B are part of a name).",
	}
	return r.place(at)
}

// refuseUpdate answers a call of update_secret in supabase/vault's way.
func refuseUpdate(at int) *Refusal {
	r := &Refusal{
		SQLState: stateNotSupported, Message: "vault.update_secret() changes no value; its other arguments must be named",
		Detail: notSent, Hint: "Write vault.update_secret(name, rotation_interval => '1 day'), or vault.put_secret(name, value).",
	}
	return r.place(at)
}

// refuseTable answers a write of a table that the extension does not have, as
// supabase/vault's is written.
func refuseTable(at int) *Refusal {
	r := &Refusal{
		SQLState: stateNotSupported, Message: "a secret is not stored by writing a table of schema vault", Table: true,
		Detail: "The extension has no such table or column. " + notSent, Hint: "Write vault.put_secret(name, value).",
	}
	return r.place(at)
}

// ofTable marks a refusal whose only reason is a table of schema vault.
func (r *Refusal) ofTable() *Refusal {
	r.Table = true
	return r
}

// refuseKept answers a call in a text that the server keeps and runs later.
func refuseKept(f Func, where string, at int) *Refusal {
	r := &Refusal{
		SQLState: stateNotSupported, Message: "vault." + f.String() + "() cannot be used in " + where,
		Detail: "The server would keep or run that text without the node, which must seal the value first.", Hint: ownMessage,
	}
	return r.place(at)
}

// refuseNoParams answers a call in a statement that takes no parameters, in
// the protocol in which a value travels as one.
func refuseNoParams(f Func, at int) *Refusal {
	r := &Refusal{
		SQLState: stateNotSupported, Message: "vault." + f.String() + "() cannot be used in COPY or EXECUTE in the extended query protocol",
		Detail: notSent, Hint: "Send it as a simple query, or as a statement of its own.",
	}
	return r.place(at)
}

// refuseArg answers a name, value or kind that the node cannot read.
func refuseArg(f Func, arg, why, hint string, at int) *Refusal {
	r := &Refusal{
		SQLState: stateNotSupported,
		Message:  "the " + arg + " of vault." + f.String() + "() must be a string constant or a parameter",
		Detail:   why + " " + notSent, Hint: hint,
	}
	return r.place(at)
}

func refuseNull(f Func, arg, hint string, at int) *Refusal {
	r := &Refusal{SQLState: stateNullValue, Message: "the " + arg + " of vault." + f.String() + "() must not be NULL", Hint: hint}
	return r.place(at)
}

func refuseParamUse(f Func, at int) *Refusal {
	r := &Refusal{
		SQLState: stateNotSupported,
		Message:  "the parameter that is the value of vault." + f.String() + "() is used elsewhere in the statement",
		Detail:   "The other use would receive the sealed text.", Hint: "Pass the value in a parameter of its own.",
	}
	return r.place(at)
}

func refuseParamType(f Func, arg string, at int) *Refusal {
	r := &Refusal{
		SQLState: stateNotSupported,
		Message:  "the parameter that is the " + arg + " of vault." + f.String() + "() is declared with another type than text",
		Hint:     "Declare it as text, or leave its type open.",
	}
	return r.place(at)
}

func refuseKind(at int) *Refusal {
	r := &Refusal{
		SQLState: stateInvalidValue, Message: "the kind of a secret is 'manual' or 'automatic'",
		Detail: notSent,
		Hint:   "The order is vault.create_secret(name, kind, value); supabase/vault's create_secret(value, name) has another one.",
	}
	return r.place(at)
}

func refuseName(rule error, at int) *Refusal {
	r := &Refusal{SQLState: stateInvalidValue, Message: "invalid name of a secret", Detail: rule.Error(), Hint: hintName}
	return r.place(at)
}

// refuseMany answers a Parse of several statements, as the server would.
func refuseMany() *Refusal {
	return &Refusal{
		SQLState: stateSyntax, Message: "cannot insert multiple commands into a prepared statement",
		Detail: notSent, Hint: "Prepare each on its own, or send them as a simple query.", at: nowhere,
	}
}

func refusePlacement(why string, at int) *Refusal {
	r := &Refusal{
		SQLState: stateNotSupported, Message: "a secret cannot be stored or verified behind a statement that " + why + " in the same message",
		Detail: "The version is reserved, and the right checked, before the first statement of the message runs.",
		Hint:   "Send the call as a message of its own.",
	}
	return r.place(at)
}

// refuseCompared answers a call of read_secret as an operand beside a constant.
func refuseCompared(hint string, at int) *Refusal {
	r := &Refusal{
		SQLState: stateNotSupported, Message: "a secret cannot be compared or combined with a constant in SQL",
		Detail: notSent, Hint: hint,
	}
	return r.place(at)
}
