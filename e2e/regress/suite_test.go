// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package regress runs the tests that the PostgreSQL project wrote for its own
// server twice: direct, and through a node. Each that passes direct passes
// through the node, and one that fails direct gives the same output both ways.
// Through the node beside a standby few are different, each for a reason. There a
// commit waits until the standby shows it: tests read what others have written.
// `make regress` runs all of it, `make e2e` libpq_pipeline.
package regress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// A suite is what pg_regress or pg_isolation_regress runs.
type suite struct {
	name     string   // of the row, and of the file that keeps its differences
	program  string   // below the directory of pgxs
	dir      string   // of scripts and expected files, below src/test
	schedule string   // the file that names the tests
	extra    []string // tests that the schedule leaves out
	options  []string
	database string // exists, and has the vault; empty: the program makes one without
	node     int    // beside which server: 0 the primary, 1 a standby
	// different are tests that pass direct and not through a node, each with the
	// reason why that is as it must be.
	different map[string]string
	// unfit are tests that fail direct as well, each with the reason.
	unfit map[string]string
}

// settings are a scratch server's: nobody needs its data after a crash.
var settings = map[string]string{"fsync": "off", "full_page_writes": "off", "max_prepared_transactions": "10", "synchronous_commit": "remote_apply"}

// A result is one test's.
type result struct {
	passed bool
	output string
}

type results map[string]result

// both runs the suite on two servers of the same kind, side by side.
func (s *suite) both(t *testing.T) (direct, node results) {
	t.Helper()
	src := fetch(t)
	spec := cluster.Spec{Settings: settings, Database: s.database, Standbys: s.node}
	through := cluster.Start(t, spec)
	if s.node > 0 {
		through.Synchronous(t)
	}
	spec.ServersOnly, spec.Standbys = true, 0
	alone := cluster.Start(t, spec)
	var errNode, errDirect error
	done := make(chan struct{})
	go func() {
		defer close(done)
		node, errNode = s.run(t.Context(), src, through, through.Nodes[s.node].Proxy, "node")
	}()
	direct, errDirect = s.run(t.Context(), src, alone, alone.Nodes[0].Postgres, "direct")
	<-done
	if err := errors.Join(errDirect, errNode); err != nil {
		t.Fatal(err)
	}
	return direct, node
}

// run runs the suite at an address. The server reads and writes files of the
// suite, so all of it is where the server may go: in the cluster's directory.
func (s *suite) run(ctx context.Context, src *source, c *cluster.Cluster, address, way string) (results, error) {
	dir := filepath.Join(c.Dir(), "suite")
	scripts, libraries := filepath.Join(dir, s.dir), filepath.Join(dir, "lib")
	if err := s.prepare(ctx, src, c, dir, scripts, libraries); err != nil {
		return nil, err
	}
	tests, err := s.writeSchedule(filepath.Join(scripts, s.schedule), filepath.Join(dir, "schedule"))
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	args := append([]string{
		"--bindir=" + src.Bindir, "--host=" + host, "--port=" + port, "--user=" + c.Superuser,
		"--inputdir=" + scripts, "--outputdir=" + dir, "--dlpath=" + libraries, "--schedule=" + filepath.Join(dir, "schedule"),
	}, s.options...)
	if s.database != "" {
		if err := s.prepareDatabase(ctx, c); err != nil {
			return nil, err
		}
		args = append(args, "--use-existing", "--dbname="+s.database)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(src.server), "lib", "pgxs", s.program), append(args, s.extra...)...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "LC_ALL=C.UTF-8", "PGPASSWORD=" + c.SuperuserPassword, "PGCONNECT_TIMEOUT=60"}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
		err = nil // some tests failed
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", s.name, way, err, out.String())
	}
	if err := s.keep(dir, way); err != nil {
		return nil, err
	}
	return s.read(out.String(), tests, filepath.Join(dir, "results"))
}

// prepare copies the suite and builds the functions that its tests load.
func (s *suite) prepare(ctx context.Context, src *source, c *cluster.Cluster, dir, scripts, libraries string) error {
	if err := os.CopyFS(scripts, os.DirFS(filepath.Join(src.Tests, s.dir))); err != nil {
		return err
	}
	made := filepath.Join(dir, "results")
	for _, path := range []string{libraries, made} {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
	}
	data, err := os.Stat(c.Nodes[0].DataDir)
	if err != nil {
		return err
	}
	if owner, ok := data.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := os.Chown(made, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	regress := filepath.Join(src.Tests, "regress", "regress.c")
	headers, err := run(ctx, filepath.Join(src.server, "pg_config"), "--includedir-server")
	if err != nil {
		return err
	}
	if _, err := run(ctx, "gcc", "-O1", "-fPIC", "-shared", "-I"+strings.TrimSpace(headers), "-o", filepath.Join(libraries, "regress.so"), regress); err != nil {
		return err
	}
	for _, contrib := range []string{"autoinc.so", "refint.so"} {
		if err := os.Symlink(filepath.Join(filepath.Dir(src.server), "lib", contrib), filepath.Join(libraries, contrib)); err != nil {
			return err
		}
	}
	return nil
}

// prepareDatabase sets what pg_regress sets in a database that it makes itself.
func (s *suite) prepareDatabase(ctx context.Context, c *cluster.Cluster) error {
	conn, err := c.Nodes[0].ConnectServer(ctx, c.Superuser, c.SuperuserPassword, s.database)
	if err != nil {
		return err
	}
	set := "ALTER DATABASE " + s.database + " SET "
	_, err = conn.Exec(ctx, set+"lc_messages TO 'C';"+set+"lc_monetary TO 'C';"+set+"lc_numeric TO 'C';"+set+"lc_time TO 'C';"+
		set+"bytea_output TO 'hex';"+set+"timezone_abbreviations TO 'Default'")
	return errors.Join(err, conn.Close(ctx))
}

// writeSchedule copies the schedule and returns the names of all tests that will
// run.
func (s *suite) writeSchedule(from, to string) ([]string, error) {
	text, err := os.ReadFile(from)
	if err != nil {
		return nil, err
	}
	var tests, groups []string
	for line := range strings.Lines(string(text)) {
		names, ok := strings.CutPrefix(line, "test:")
		if !ok {
			continue
		}
		groups = append(groups, line)
		tests = append(tests, strings.Fields(names)...)
	}
	return append(tests, s.extra...), os.WriteFile(to, []byte(strings.Join(groups, "")), 0o600)
}

// keep saves what went wrong: the cluster's directory goes.
func (s *suite) keep(dir, way string) error {
	root, err := cluster.Root()
	if err != nil {
		return err
	}
	kept := filepath.Join(root, "e2e", "out", "regress", s.name+"-"+way+".diffs")
	diffs, err := os.ReadFile(filepath.Join(dir, "regression.diffs"))
	if errors.Is(err, os.ErrNotExist) {
		diffs, err = nil, nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(kept, diffs, 0o644)
}

var (
	verdict = regexp.MustCompile(`(?m)^(?:test | {5})(\S+) +\.\.\. (ok|FAILED|failed \(ignored\))\b`)
	summary = regexp.MustCompile(`(?m)^ (?:All (\d+) tests passed|\d+ of (\d+) tests (?:passed|failed))`)
)

// read makes results of what the program printed and wrote, of all tests.
func (s *suite) read(printed string, tests []string, dir string) (results, error) {
	r := results{}
	for _, m := range verdict.FindAllStringSubmatch(printed, -1) {
		out, err := os.ReadFile(filepath.Join(dir, m[1]+".out"))
		if err != nil {
			return nil, err
		}
		r[m[1]] = result{passed: m[2] == "ok", output: string(out)}
	}
	for _, test := range tests {
		if _, ran := r[test]; !ran {
			return nil, fmt.Errorf("%s: %s has no verdict:\n%s", s.name, test, printed)
		}
	}
	m := summary.FindStringSubmatch(printed)
	if m == nil || len(r) != len(tests) || m[1]+m[2] != fmt.Sprint(len(tests)) {
		return nil, fmt.Errorf("%s: %d verdicts for %d tests:\n%s", s.name, len(r), len(tests), printed)
	}
	return r, nil
}
