// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestSettle: what is not surely undone is unknown.
func TestSettle(t *testing.T) {
	server := func(severity, code string) error {
		return fmt.Errorf("put: %w", &pgconn.PgError{SeverityUnlocalized: severity, Code: code})
	}
	for _, test := range []struct {
		err  error
		want Outcome
	}{
		{nil, OK},
		{server("ERROR", "40001"), Failed},
		{server("ERROR", "57014"), Failed},
		{server("ERROR", "25006"), Failed},
		{server("ERROR", "40003"), Unknown},
		{server("ERROR", "08006"), Unknown},
		{server("FATAL", "08007"), Unknown},
		{server("FATAL", "57P01"), Unknown},
		{server("FATAL", "25P03"), Unknown},
		{server("PANIC", "XX000"), Unknown},
		{pgx.ErrTxCommitRollback, Failed},
		{io.ErrUnexpectedEOF, Unknown},
		{fmt.Errorf("commit: %w", pgconn.ErrConnClosed), Unknown},
		{context.DeadlineExceeded, Unknown},
	} {
		var op Op
		op.settle(test.err)
		if op.Outcome != test.want {
			t.Errorf("%v: got %s, want %s", test.err, op.Outcome, test.want)
		}
		if test.err == nil {
			continue
		}
		if op.settleUncommitted(test.err); op.Outcome != Failed {
			t.Errorf("%v before COMMIT: got %s, want %s", test.err, op.Outcome, Failed)
		}
	}
}
