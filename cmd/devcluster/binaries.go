// SPDX-License-Identifier: GPL-3.0-or-later

package devcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// FindServer returns the directory that holds PostgreSQL's server programs:
// what pg_config names, else the newest of Debian's.
func FindServer(ctx context.Context) (string, error) {
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		if dir := strings.TrimSpace(string(out)); hasServer(dir) {
			return dir, nil
		}
	}
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	slices.SortFunc(dirs, func(a, b string) int { return major(b) - major(a) })
	for _, dir := range dirs {
		if hasServer(dir) {
			return dir, nil
		}
	}
	return "", errors.New("no PostgreSQL server found (initdb, postgres): run `make deps` or install postgresql-15")
}

func hasServer(dir string) bool {
	for _, program := range []string{"initdb", "postgres", "pg_basebackup"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			return false
		}
	}
	return true
}

// major reads the version out of /usr/lib/postgresql/15/bin; 0 for others.
func major(bindir string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(bindir)))
	if err != nil {
		return 0
	}
	return n
}

// checkExtension says early, and with the remedy, that the files are missing.
func checkExtension(ctx context.Context, bindir string) error {
	program := filepath.Join(bindir, "pg_config")
	if _, err := os.Stat(program); err != nil {
		return nil //nolint:nilerr // not every server has one: CREATE EXTENSION will tell
	}
	out, err := exec.CommandContext(ctx, program, "--sharedir").Output() //nolint:gosec // a program of PostgreSQL's
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	control := filepath.Join(strings.TrimSpace(string(out)), "extension", "hyperion_vault.control")
	if _, err := os.Stat(control); err != nil {
		return fmt.Errorf("the extension is not installed (%w): run `make install-extension`", err)
	}
	return nil
}
