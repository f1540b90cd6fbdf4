// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// auditCommand is what can be done with the audit without a node.
type auditCommand struct {
	Verify auditVerifyCommand `cmd:"" help:"Find what was done to the audit: records removed, changed, moved or put in, chains cut off or written anew, changes without a record. Exit code 0: nothing is wrong; 1: something is; 2: a flag is; 3: it could not be read."`
	Export auditExportCommand `cmd:"" help:"Write the audit as lines of JSON on stdout, to be carried off and verified elsewhere or later."`
	Tail   auditTailCommand   `cmd:"" help:"Show the last records, one a line, and with -f those that come."`
}

// auditSource is where the audit is read.
type auditSource struct {
	Database string `placeholder:"NAME" help:"The vault's database; the server is what PGHOST, PGPORT or PGSERVICE name. Default: PGDATABASE. Who reads must be a superuser, or have BYPASSRLS and the rights of pg_read_all_data."`
	Spool    string `placeholder:"DIR" help:"Read the files of a node of this host (its VAULT_AUDIT_DIR, or a directory set aside by --new-identity) in place of the vault. Nothing is locked or changed."`
}

func (s *auditSource) check() error {
	if s.Spool != "" && s.Database != "" {
		return faultf("--spool and --database are two places: name one")
	}
	return nil
}

// gather begins to read; the caller closes.
func (s *auditSource) gather(ctx context.Context, since time.Time, std *streams) (*audit.Evidence, io.Closer, error) {
	if err := s.check(); err != nil {
		return nil, nil, err
	}
	if s.Spool != "" {
		r, err := audit.OpenReader(s.Spool)
		if err != nil {
			return nil, nil, err
		}
		e, err := r.Evidence(ctx)
		return e, closer(r.Close), err
	}
	tables, err := openAuditTables(ctx, s.Database)
	if err != nil {
		return nil, nil, err
	}
	e, err := tables.evidence(ctx, since)
	if err == nil && e.Changes == nil {
		_, _ = fmt.Fprintln(std.err, "hyperion-vault: the extension is older than 1.7, or somebody has altered vault.changes: changes without a record are not looked for") // nobody to tell
	}
	return e, tables, err
}

// closer is something to be closed that cannot fail.
type closer func()

// Close calls it.
func (c closer) Close() error {
	c()
	return nil
}

// gatherExport begins to read what audit export has written.
func gatherExport(path string, std *streams) (*audit.Evidence, io.Closer, error) {
	if path == "-" {
		e, err := audit.ReadExport(std.in)
		return e, io.NopCloser(nil), err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	e, err := audit.ReadExport(f)
	if err != nil {
		err = errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return e, f, err
}

// progressEvery is how often a long run says how far it is.
const progressEvery = 5 * time.Second

// watched tells on stderr how many rows went by.
func watched(rows iter.Seq2[audit.Row, error], std *streams) iter.Seq2[audit.Row, error] {
	return func(yield func(audit.Row, error) bool) {
		began := time.Now()
		told, n := began, 0
		for row, err := range rows {
			if n++; n%1024 == 0 && time.Since(told) >= progressEvery {
				told = time.Now()
				_, _ = fmt.Fprintf(std.err, "hyperion-vault: %d records, %.0f a second; at record %d of node %v\n", // nobody to tell
					n, float64(n)/time.Since(began).Seconds(), row.Seq, row.Node)
			}
			if !yield(row, err) {
				return
			}
		}
	}
}
