// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

// copies are what PostgreSQL's own tools take out of the first server. They are read
// as they come: nothing is kept, however large they are.
func (p *prover) copies() []place {
	var all []place
	add := func(kind, program string, args ...string) {
		s := p.servers[0]
		all = append(all, place{
			kind, program + " of " + s.name, p.controls.stored, "is its database the vault's, and is the primary named by --server?",
			func(ctx context.Context, sc *scan) error {
				return sc.program(ctx, program, append(args, "--no-password", "--dbname", s.conninfo))
			},
		})
	}
	if p.c.BaseBackup {
		add(kindBackup, "pg_basebackup", "--pgdata", "-", "--format", "tar", "--wal-method", "fetch", "--checkpoint", "fast")
	}
	if p.c.Dump {
		add(kindDump, "pg_dump")
	}
	return all
}

// program looks through what one of PostgreSQL's writes to its stdout.
func (s *scan) program(ctx context.Context, name string, args []string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		dir, none := devcluster.FindServer(ctx)
		if none != nil {
			return err
		}
		path = filepath.Join(dir, name)
	}
	said := &tail{}
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // a program of PostgreSQL's
	cmd.Env, cmd.Stderr = libpqEnvironment(s.p.std.environ), said
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = s.read(ctx, s.name, out)
	if err = errors.Join(err, cmd.Wait()); err != nil && len(said.text) > 0 {
		err = fmt.Errorf("%w: %s", err, said.text)
	}
	return err
}

// libpqEnvironment is what one of PostgreSQL's programs may see of ours.
func libpqEnvironment(environ []string) []string {
	var some []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		switch name {
		case "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "KRB5CCNAME", "KRB5_CONFIG":
			some = append(some, entry)
		default:
			if strings.HasPrefix(name, "PG") {
				some = append(some, entry)
			}
		}
	}
	return some
}

// A tail keeps the end of what is written to it.
type tail struct{ text []byte }

const maxTail = 4 << 10

// Write takes everything.
func (t *tail) Write(b []byte) (int, error) {
	t.text = append(t.text, b...)
	if over := len(t.text) - maxTail; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}
