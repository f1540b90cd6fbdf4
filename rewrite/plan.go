// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

// Func is a function whose call needs the node, or Update.
type Func int

// The functions that take a secret's value; Update takes none, but supabase/vault's
// function of that name does.
const (
	Put Func = iota + 1
	Create
	Rotate
	Verify
	Update
)

// String is the function's name in SQL, without the schema.
func (f Func) String() string {
	switch f {
	case Put:
		return "put_secret"
	case Create:
		return "create_secret"
	case Rotate:
		return "rotate_secret"
	case Verify:
		return "verify_secret"
	case Update:
		return "update_secret"
	}
	return "none"
}

// valueFuncs are the functions that take a value, by name.
var valueFuncs = map[string]Func{
	Put.String(): Put, Create.String(): Create, Rotate.String(): Rotate, Verify.String(): Verify,
}

// ArgMode says where an argument comes from.
type ArgMode int

// An argument is not there, is the constant NULL, a string constant, a
// parameter, or (a value only) to be made by the node.
const (
	Absent ArgMode = iota
	Null
	Const
	Param
	Generated
)

// String is for tests and messages.
func (m ArgMode) String() string {
	switch m {
	case Absent:
		return "absent"
	case Null:
		return "null"
	case Const:
		return "const"
	case Param:
		return "param"
	case Generated:
		return "generated"
	}
	return "unknown"
}

// Arg is one argument of a [Call].
type Arg struct {
	Mode ArgMode
	// Param is the parameter's number, 1 for $1.
	Param int
	// Text is the decoded constant; of a name or a kind only, never a value.
	Text string
	// Start and End are the bytes of the text that a replacement overwrites;
	// equal where an argument is to be added.
	Start, End int
	// Insert goes in front of the replacement, ", value => " where the
	// argument was left out.
	Insert string

	lit literal // of a Const
}

// Call is one call that needs the node, in text order.
type Call struct {
	Func Func
	// Stmt is the index of the call's statement in the text, from 0.
	Stmt int
	// Name, Value and Kind are the arguments of these names; Kind is create's.
	Name, Value, Kind Arg
}

// Edit removes the bytes [Start, End) of the text.
type Edit struct{ Start, End int }

// Stmt is one statement of a text.
type Stmt struct {
	Class Class
	// Start and End are the statement's bytes, without the semicolon.
	Start, End int
}

// Plan says what to do with a text. It holds offsets and names, never a value,
// and belongs to exactly the text it was made for. It may be shared with other
// sessions: callers must not change it.
type Plan struct {
	// Calls need the node: put, create, rotate, verify, in text order.
	Calls []Call
	// Direct: the text itself calls a function of the vault, so what it
	// returns is opened as asked for by the user.
	Direct bool
	// Reads: the text calls read_secret.
	Reads bool
	// Writes: the text calls a function of the vault that changes something.
	Writes bool
	// Function is the first function of the vault that the text calls; empty: none, or
	// it is not known.
	Function string
	// Functions are all that it calls, in no order.
	Functions []string
	// Fingerprint is the same for all texts that differ in constants only; 0: not
	// known.
	Fingerprint uint64
	// ReadOnly: no statement can have changed anything, as far as the tree
	// shows: it neither writes nor calls functions but the vault's and a few
	// built-in ones. A failed opening leaves nothing to undo.
	ReadOnly bool
	// Utility: one statement alone whose row shape may change between
	// executions (FETCH, EXECUTE, CALL, SHOW, EXPLAIN).
	Utility bool
	// Edits are fixed removals: a cast of read_secret at the top of a target list.
	Edits []Edit
	// NumParams is the highest $n in the text.
	NumParams int
	// Executes and Prepares are the names of prepared statements that the text
	// EXECUTEs (at top level, under EXPLAIN and CREATE TABLE AS) and PREPAREs, in
	// text order. Keeps are those, and cursors, that it makes from a query that
	// calls the vault.
	Executes, Prepares, Keeps []string
	// Guessed are names that it may EXECUTE: they stand behind the word in code that a
	// string holds, or anywhere in a text that has no tree. [AnyName] may be among them.
	Guessed []string
	// Stmts are the statements of the text; empty if it could not be parsed.
	Stmts []Stmt

	route   Route // of Route's plans, which have nothing else
	ops     []op
	decodes bool // some Name, Kind or Value is a constant that needs a look
}

// op is one edit of the text, in text order: a removal, or the replacement of
// a call's value.
type op struct {
	start, end int
	call       int // index of the call, or -1
}

// empty reports whether the plan asks for nothing at all.
func (p *Plan) empty() bool {
	return len(p.Calls) == 0 && !p.Direct && len(p.Executes) == 0 && len(p.Prepares) == 0 && len(p.Guessed) == 0
}

// DecodeValue appends the value literal of Calls[i], decoded from the text's
// own bytes. The error is a [*Refusal]. dst is grown once before anything is
// written; what it held is then copied. The caller erases the result.
func (p *Plan) DecodeValue(dst []byte, sql string, i int) ([]byte, error) {
	out, bad := p.Calls[i].Value.lit.decode(dst, sql)
	if bad != nil {
		return dst, refuseLiteral(bad).locate(sql)
	}
	return out, nil
}
