// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tools

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/report"
)

// sealedRows is all of a database's sealed values, one text.
const sealedRows = "SELECT coalesce(string_agg(v::text, E'\\n' ORDER BY v::text), '') FROM vault.secret_versions v"

// TestDump dumps in each format and restores, all through the node; package e2e
// has what a restored vault must be able to do.
func TestDump(t *testing.T) {
	cluster.Exec(t, shared.Connect(t, shared.DSN(0, shared.User)), "SELECT vault.put_secret('dump/pw', 'dump canary')")
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, super, "CREATE TABLE dumped AS SELECT g, repeat('row', 20) AS t FROM generate_series(1, 20000) g")
	cluster.Exec(t, super, "SELECT lo_from_bytea(0, 'large')")
	env := shared.Libpq(t, shared.Nodes[0].Proxy, shared.Superuser)
	row := report.Open(t, report.Tools, "pg_dump, pg_restore, pg_dumpall", word(version(t, cluster.Bin(t, "pg_dump"), "--version"), 2))
	for _, format := range []string{"plain", "custom", "tar", "directory"} {
		feature := format + " dumped and restored"
		var jobs []string
		if format == "directory" {
			feature, jobs = feature+" by two jobs", []string{"--jobs", "2"}
		}
		row.Run(t, feature, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "dump")
			args := append([]string{"--format", format, "--file", path}, jobs...)
			if format != "tar" {
				args = append(args, "--compress", "0")
			}
			cluster.Output(t, env, cluster.Bin(t, "pg_dump"), args...)
			neverIn(t, path, "dump canary")

			database := "dump_" + format
			cluster.Exec(t, super, "CREATE DATABASE "+database+" TEMPLATE template0")
			if format == "plain" {
				cluster.Output(t, env, cluster.Bin(t, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", path)
			} else {
				cluster.Output(t, env, cluster.Bin(t, "pg_restore"), append([]string{"--exit-on-error", "--dbname", database, path}, jobs...)...)
			}
			restored := shared.Connect(t, shared.SuperDSN(0)+" dbname="+database)
			for _, query := range []string{sealedRows, "SELECT sum(hashtext(d::text))::text FROM dumped d", "SELECT count(*)::text FROM pg_largeobject_metadata"} {
				if got, want := cluster.Text(t, restored, query), cluster.Text(t, super, query); got != want || want == "" {
					t.Errorf("%s: got %.200s, want %.200s", query, got, want)
				}
			}
		})
	}
	row.Run(t, "`pg_dumpall`", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "all.sql")
		cluster.Output(t, env, cluster.Bin(t, "pg_dumpall"), "--file", path)
		neverIn(t, path, "dump canary")
		if text := read(t, path); !strings.Contains(text, "COPY vault.secret_versions") || !strings.Contains(text, "CREATE ROLE "+shared.User) {
			t.Error("the dump has no secrets, or no roles")
		}
	})
}

// neverIn looks for a value in all files of a tree.
func neverIn(t *testing.T, root, value string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(text), value) {
			t.Errorf("%s holds %q", path, value)
		}
		files++
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%s: %d files, %v", root, files, err)
	}
}
