// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package doors

import "github.com/jackc/pgx/v5/pgproto3"

// A transport is a way in which a text travels.
type transport struct {
	name string
	// simple: as a Query, else by the extended protocol.
	simple bool
	// param: the value is a parameter, in binary if binary.
	param, binary bool
	// cast stands around the parameter.
	cast string
	// types are declared for the parameter.
	types []uint32
	// prepared: as a named statement that is described, and runs twice if it can.
	prepared bool
	// batch: in one batch with other statements, before and after.
	batch bool
	// block: between BEGIN and COMMIT.
	block bool
	// before is what the session sends first.
	before []string
	// after runs when the text was not refused.
	after []string
	// failed: in a block that has failed.
	failed bool
}

const (
	oidText    = 25
	oidVarchar = 1043
	oidName    = 19
	oidBytea   = 17
)

var goodTransports = []transport{
	{name: "simple", simple: true},
	{name: "simple in a block", simple: true, block: true, before: []string{"BEGIN"}, after: []string{"COMMIT"}},
	{name: "simple behind a savepoint", simple: true, block: true, before: []string{"BEGIN", "SAVEPOINT a", "ROLLBACK TO a"}, after: []string{"RELEASE a", "COMMIT"}},
	{name: "literal in Parse"},
	{name: "literal in Parse, prepared", prepared: true},
	{name: "literal in Parse, in a batch", batch: true},
	{name: "literal in Parse, in a block", block: true, before: []string{"START TRANSACTION"}, after: []string{"COMMIT"}},
	{name: "parameter", param: true},
	{name: "binary parameter, prepared", param: true, binary: true, prepared: true},
	{name: "declared text under a cast", param: true, cast: "::varchar", types: []uint32{oidText}},
	{name: "declared varchar", param: true, types: []uint32{oidVarchar}, prepared: true},
	{name: "parameter in a batch", param: true, batch: true},
	{name: "parameter in a block", param: true, block: true, before: []string{"BEGIN"}, after: []string{"COMMIT"}},
}

var badTransports = []transport{
	{name: "simple in a failed block", simple: true, failed: true, block: true, before: []string{"BEGIN", "SELECT 1/0"}},
	{name: "literal in Parse in a failed block", failed: true, block: true, before: []string{"BEGIN", "SELECT 1/0"}},
	{name: "parameter in a failed block", param: true, failed: true, block: true, before: []string{"BEGIN", "SELECT 1/0"}},
	{name: "declared bytea", param: true, types: []uint32{oidBytea}},
	{name: "declared name", param: true, types: []uint32{oidName}},
}

// messages are those of the text, the last of which is answered by
// ReadyForQuery. ahead is a statement that goes in front in the same batch.
func (tr transport) messages(text, value, ahead string, twice bool) []pgproto3.FrontendMessage {
	var all []pgproto3.FrontendMessage
	add := func(m ...pgproto3.FrontendMessage) { all = append(all, m...) }
	if ahead != "" {
		add(&pgproto3.Parse{Query: ahead}, &pgproto3.Bind{}, &pgproto3.Execute{})
	}
	if tr.simple {
		return append(all, &pgproto3.Query{String: text})
	}
	if tr.batch {
		add(&pgproto3.Parse{Query: "SELECT 1"}, &pgproto3.Bind{}, &pgproto3.Execute{})
	}
	name := ""
	if tr.prepared {
		name = "door"
	}
	add(&pgproto3.Parse{Name: name, Query: text, ParameterOIDs: tr.types})
	if tr.prepared {
		add(&pgproto3.Describe{ObjectType: 'S', Name: name})
	}
	runs := 1
	if tr.prepared && twice {
		runs = 2
	}
	for range runs {
		bind := &pgproto3.Bind{PreparedStatement: name}
		if tr.param {
			bind.Parameters = [][]byte{[]byte(value)}
		}
		if tr.binary {
			bind.ParameterFormatCodes = []int16{1}
		}
		add(bind, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{})
	}
	if tr.batch {
		add(&pgproto3.Parse{Query: "SELECT 2"}, &pgproto3.Bind{}, &pgproto3.Execute{})
	}
	return append(all, &pgproto3.Sync{})
}
