// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// Which function it is stands in a message of any language.
func TestUncallable(t *testing.T) {
	for _, tt := range []struct{ code, message, routine, want string }{
		{"42501", "permission denied for function add_token", "aclcheck_error", "add_token"},
		{"42501", "keine Berechtigung für Funktion add_token", "aclcheck_error", "add_token"},
		{"42501", "関数add_tokenへのアクセスが拒否されました", "aclcheck_error", "add_token"},
		{"42501", "permission denied for function my_add_token", "aclcheck_error", ""},
		{"42501", "permission denied for table hidden", "aclcheck_error", ""},
		{"42501", "permission denied for function add_token", "exec_stmt_raise", ""},
		{"P0001", "permission denied for function add_token", "aclcheck_error", ""},
		{"42501", "permission denied for function add_token", "", ""},
	} {
		msg := wire.AppendFields(nil, wire.ErrorResponse, wire.Field{Code: 'C', Text: tt.code}, wire.Field{Code: 'M', Text: tt.message}, wire.Field{Code: 'R', Text: tt.routine})
		if got := uncallable(msg[wire.HeaderSize:]); got != tt.want {
			t.Errorf("%+v: got %q", tt, got)
		}
	}
}
