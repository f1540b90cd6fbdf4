// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// Class is what a statement does, as far as its tree shows.
type Class int

// The classes, from harmless to not.
const (
	// ClassRead cannot have changed anything: SELECT without a writing CTE,
	// locking clause or INTO, SHOW, FETCH, EXPLAIN without ANALYZE.
	ClassRead Class = iota
	// ClassWrite is everything that is no other class.
	ClassWrite
	// ClassBegin is BEGIN or START TRANSACTION without options.
	ClassBegin
	// ClassTransaction controls the transaction in any other way.
	ClassTransaction
	// ClassRights changes the role or somebody's rights.
	ClassRights
)

// String is for tests.
func (c Class) String() string {
	return [...]string{"read", "write", "begin", "transaction", "rights"}[c]
}

// classify is the class of a statement by its node alone; the calls and nodes
// inside it may raise it (see builder.visit).
func classify(n *pg.Node) Class {
	switch s := n.GetNode().(type) {
	case *pg.Node_SelectStmt, *pg.Node_VariableShowStmt, *pg.Node_FetchStmt:
		return ClassRead
	case *pg.Node_ExplainStmt:
		return classifyExplain(s.ExplainStmt)
	case *pg.Node_TransactionStmt:
		t := s.TransactionStmt
		begin := t.Kind == pg.TransactionStmtKind_TRANS_STMT_BEGIN || t.Kind == pg.TransactionStmtKind_TRANS_STMT_START
		if begin && len(t.Options) == 0 {
			return ClassBegin
		}
		return ClassTransaction
	case *pg.Node_VariableSetStmt:
		return classifySet(s.VariableSetStmt)
	case *pg.Node_GrantStmt, *pg.Node_GrantRoleStmt, *pg.Node_CreateRoleStmt, *pg.Node_AlterRoleStmt,
		*pg.Node_AlterRoleSetStmt, *pg.Node_DropRoleStmt, *pg.Node_DropOwnedStmt, *pg.Node_ReassignOwnedStmt,
		*pg.Node_AlterDefaultPrivilegesStmt, *pg.Node_AlterOwnerStmt, *pg.Node_DiscardStmt:
		return ClassRights
	}
	return ClassWrite
}

// classifyExplain takes any option as ANALYZE, but for the common ones that
// only shape the output.
func classifyExplain(e *pg.ExplainStmt) Class {
	for _, o := range e.Options {
		switch o.GetDefElem().GetDefname() {
		case "verbose", "costs", "format", "settings", "generic_plan", "summary":
		default:
			return ClassWrite
		}
	}
	return ClassRead
}

func classifySet(s *pg.VariableSetStmt) Class {
	name := strings.ToLower(s.Name)
	switch {
	case name == "role", name == "session_authorization":
		return ClassRights
	case strings.HasPrefix(name, "transaction"), strings.HasPrefix(name, "session characteristics"),
		strings.HasPrefix(name, "default_transaction"):
		return ClassTransaction
	}
	return ClassWrite
}

// immediate reports whether the server runs the statement's expressions now
// and keeps nothing of them: only there can a sealed value be used. It is a
// list of what is known to be so; anything else is taken to keep its text.
func immediate(n *pg.Node) bool {
	switch s := n.GetNode().(type) {
	case *pg.Node_SelectStmt, *pg.Node_InsertStmt, *pg.Node_UpdateStmt, *pg.Node_DeleteStmt,
		*pg.Node_MergeStmt, *pg.Node_CallStmt, *pg.Node_ExecuteStmt:
		return true
	case *pg.Node_ExplainStmt:
		return immediate(s.ExplainStmt.Query)
	case *pg.Node_CopyStmt:
		return s.CopyStmt.Query == nil || immediate(s.CopyStmt.Query)
	case *pg.Node_CreateTableAsStmt:
		return s.CreateTableAsStmt.Objtype == pg.ObjectType_OBJECT_TABLE && immediate(s.CreateTableAsStmt.Query)
	}
	return false
}

// takesParams reports whether the server lets an immediate statement use
// parameters: COPY and EXECUTE read their expressions too late for that.
func takesParams(n *pg.Node) bool {
	switch s := n.GetNode().(type) {
	case *pg.Node_CopyStmt, *pg.Node_ExecuteStmt:
		return false
	case *pg.Node_ExplainStmt:
		return takesParams(s.ExplainStmt.Query)
	case *pg.Node_CreateTableAsStmt:
		return takesParams(s.CreateTableAsStmt.Query)
	}
	return true
}

// keptWhere names the statement for a refusal.
func keptWhere(n *pg.Node) string {
	switch s := n.GetNode().(type) {
	case *pg.Node_PrepareStmt:
		return "PREPARE"
	case *pg.Node_DeclareCursorStmt:
		return "DECLARE CURSOR"
	case *pg.Node_ViewStmt:
		return "a view"
	case *pg.Node_CreateTableAsStmt:
		return "a materialized view"
	case *pg.Node_RuleStmt:
		return "a rule"
	case *pg.Node_CreateFunctionStmt:
		return "the body of a function"
	case *pg.Node_DoStmt:
		return "DO"
	case *pg.Node_CreateTrigStmt, *pg.Node_CreateEventTrigStmt:
		return "a trigger"
	case *pg.Node_ExplainStmt:
		return keptWhere(s.ExplainStmt.Query)
	}
	return "a statement whose text the server keeps"
}

// utility reports whether the rows of the statement can have another shape at
// each execution.
func utility(n *pg.Node) bool {
	switch n.GetNode().(type) {
	case *pg.Node_FetchStmt, *pg.Node_ExecuteStmt, *pg.Node_CallStmt, *pg.Node_VariableShowStmt, *pg.Node_ExplainStmt:
		return true
	}
	return false
}
