// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// settle writes down what came of an operation whose statement, sent alone or
// with its COMMIT, ended with err. pgconn.SafeToRetry does not help: of a
// connection that is lost while pgx waits for the answer to a simple Query, as
// COMMIT is one, it says that nothing was sent (v5.12, "conn closed").
func (o *Op) settle(err error) {
	if err == nil {
		o.Outcome = OK
		return
	}
	o.Outcome, o.Error = Unknown, err.Error()
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg):
		o.SQLSTATE = pg.Code
		if rolledBack(pg) {
			o.Outcome = Failed
		}
	case errors.Is(err, pgx.ErrTxCommitRollback):
		o.Outcome = Failed
	}
}

// settleUncommitted is settle for a transaction whose COMMIT was never sent: it
// has failed, whatever became of the connection.
func (o *Op) settleUncommitted(err error) {
	o.settle(err)
	if o.Outcome == Unknown {
		o.Outcome = Failed
	}
}

// rolledBack: after this error the statement has had no effect. The end of a
// session tells nothing: a server that shuts down ends those too that wait for a
// standby's confirmation, with their commit done.
func rolledBack(e *pgconn.PgError) bool {
	const completionUnknown = "40003"
	ends := e.SeverityUnlocalized == "FATAL" || e.SeverityUnlocalized == "PANIC"
	return !ends && e.Code != completionUnknown && !strings.HasPrefix(e.Code, "08") && !strings.HasPrefix(e.Code, "57P")
}
