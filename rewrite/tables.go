// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// tables are those of the extension, with their columns. A statement that
// writes another one in schema vault, or another column, is meant for another
// vault (supabase/vault's has a column "secret"); the server would refuse and
// log it. What these take holds no value. TestTablesMatchExtension compares
// them with the extension's scripts.
var tables = map[string][]string{
	"meta": strings.Fields("vault_id kms_key_ids bootstrapped_at last_tick_at"),
	"secrets": strings.Fields("id name kind format description rotation_interval grace_period current_version " +
		"next_rotation_at allowed_cidrs deleted_at created_at updated_at"),
	"secret_versions": strings.Fields("secret_id version envelope_format value_format kms_key_id wrapped_dek nonce " +
		"ciphertext stage created_at expires_at rewrapped_at"),
	"grants":           strings.Fields("role_oid role_name pattern actions granted_at granted_by"),
	"rotation_jobs":    strings.Fields("id secret_id enqueued_at claimed_at claimed_by claim_token attempts completed_at error retry_at"),
	"roles":            strings.Fields("id name description is_admin created_at"),
	"role_permissions": strings.Fields("role_id action path_pattern"),
	"admin_tokens":     strings.Fields("id name role_id token_sha256 created_at last_used_at revoked_at"),
	"auth_lockouts":    strings.Fields("client_ip failures window_start locked_until"),
	"audit_log": strings.Fields("node_id seq at actor session_role client_ip face action secret_name version outcome " +
		"prev_hash hash database direct reason change statement"),
	"audit_heads":   strings.Fields("node_id seq hash public_key signature at"),
	"audit_anchors": strings.Fields("node_id seq hash public_key signature at kept_at"),
	"changes":       strings.Fields("id secret_id version action session_role current_role at subject"),
}

// writes looks at the table and the columns that a statement writes.
func (b *builder) writes(n any) {
	var table *pg.RangeVar
	var targets []*pg.Node
	width := 0 // of the rows of an INSERT without a list of columns
	switch s := n.(type) {
	case *pg.InsertStmt:
		table = s.Relation
		targets = append(slices.Clone(s.Cols), s.OnConflictClause.GetTargetList()...)
		if len(s.Cols) == 0 {
			width = rowWidth(s.SelectStmt.GetSelectStmt())
		}
	case *pg.UpdateStmt:
		table, targets = s.Relation, s.TargetList
	case *pg.MergeStmt:
		table = s.Relation
		for _, w := range s.MergeWhenClauses {
			targets = append(targets, w.GetMergeWhenClause().GetTargetList()...)
		}
	}
	if table.GetSchemaname() != schemaVault {
		return
	}
	columns := tables[table.Relname]
	known := columns != nil && (width == 0 || width == len(columns))
	for _, t := range targets {
		known = known && slices.Contains(columns, t.GetResTarget().GetName())
	}
	if !known {
		b.refuse(refuseTable(int(table.Location)))
	}
}

// rowWidth is how many columns a query gives; 0 if its text does not tell.
func rowWidth(s *pg.SelectStmt) int {
	for s.GetLarg() != nil {
		s = s.GetLarg()
	}
	if lists := s.GetValuesLists(); len(lists) > 0 {
		return len(lists[0].GetList().GetItems())
	}
	for _, t := range s.GetTargetList() {
		fields := t.GetResTarget().GetVal().GetColumnRef().GetFields()
		if n := len(fields); n > 0 && fields[n-1].GetAStar() != nil || t.GetResTarget().GetVal().GetAIndirection() != nil {
			return 0
		}
	}
	return len(s.GetTargetList())
}
