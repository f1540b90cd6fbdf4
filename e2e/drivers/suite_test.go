// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package drivers runs each driver's own small program against a node. A
// program lives in a folder of its own, in the driver's language, and prints
// TAP: a line "ok - feature" or "not ok - feature" for each of report.Features
// that the driver has, and for what only that driver does. Whatever it prints
// else explains. Its environment says where the node is (libpq's names), and:
//
//	PREFIX       the prefix of the names of its secrets
//	CANARY       the value to put; PREFIX/canary must hold it at the end
//	BROKEN       the name of a secret that cannot be opened (XX001)
//	SUPERUSER, SUPERPASSWORD   for a look at pg_stat_activity
package drivers

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/report"
)

// A suite is one driver's program.
type suite struct {
	client  string   // the row of the table
	dir     string   // the program's folder
	build   []string // a command that fills $OUT, once for all suites of the folder; may be nil
	command []string
	version []string // a command whose first line is the version
	env     []string
	// lacks are features that the driver does not have, each with the reason. A
	// program that reports one all the same fails.
	lacks map[string]string
}

// patience is far longer than a program takes: reaching it means that it hangs.
const patience = 3 * time.Minute

var shared *cluster.Cluster

// broken is the name of a secret whose record was damaged on the server.
const broken = "broken"

func TestMain(m *testing.M) {
	cluster.Main(m, cluster.Spec{Settings: map[string]string{
		"log_statement": "all", "log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1",
		"max_connections": "60",
	}}, &shared)
}

func TestDrivers(t *testing.T) {
	t.Parallel()
	conn := shared.Connect(t, shared.DSN(0, shared.User))
	cluster.Exec(t, conn, "SELECT vault.put_secret('"+broken+"', 'x')")
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, super, "UPDATE vault.secret_versions SET nonce = set_byte(nonce, 0, get_byte(nonce, 0) # 1)")
	built := &builds{dir: t.TempDir(), done: map[string]error{}}
	for _, s := range suites {
		t.Run(strings.NewReplacer(" ", "-", "/", "-", ":", "").Replace(s.client), func(t *testing.T) {
			t.Parallel()
			s.run(t, built)
		})
	}
}

func (s *suite) run(t *testing.T, built *builds) {
	host, port, err := net.SplitHostPort(shared.Nodes[0].Proxy)
	if err != nil {
		t.Fatal(err)
	}
	prefix := "drivers/" + strings.ReplaceAll(t.Name(), "/", "-")
	canary := "canary of " + t.Name() + " ünï ' \\ %"
	env := append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1",
		"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + shared.User, "PGPASSWORD=" + shared.Password,
		"PGDATABASE=" + shared.Database, "PGSSLMODE=disable",
		"SUPERUSER=" + shared.Superuser, "SUPERPASSWORD=" + shared.SuperuserPassword,
		"PREFIX=" + prefix, "CANARY=" + canary, "BROKEN=" + broken,
	}, s.env...)
	if s.build != nil {
		env = append(env, "OUT="+built.of(t, s))
	}
	version, _, _ := strings.Cut(strings.TrimSpace(s.program(t, env, s.version)), "\n")
	row := report.Open(t, report.Drivers, s.client, version)
	out := s.program(t, env, s.command)
	s.judge(t, row, out)

	conn := shared.Connect(t, shared.DSN(0, shared.User))
	if got := cluster.Text(t, conn, "SELECT vault.read_secret('"+prefix+"/canary')"); got != canary {
		t.Errorf("%s/canary holds %q, want %q", prefix, got, canary)
	}
	shared.NeverSent(t, "canary of "+t.Name())
}

// builds are the folders that were built, each by the first suite that needs it.
type builds struct {
	mu   sync.Mutex
	dir  string
	done map[string]error
}

// of is the directory that the suite's build has filled. A build is the
// developer's work, not a client's: it has the developer's environment.
func (b *builds) of(t *testing.T, s *suite) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	out := filepath.Join(b.dir, s.dir)
	if _, tried := b.done[s.dir]; !tried {
		cmd := exec.CommandContext(t.Context(), s.build[0], s.build[1:]...)
		cmd.Dir, cmd.Env = s.dir, append(os.Environ(), "OUT="+out)
		said, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s", strings.Join(s.build, " "), err, said)
		}
		b.done[s.dir] = err
	}
	if err := b.done[s.dir]; err != nil {
		t.Fatal(err)
	}
	return out
}

// program runs one, and fails the test with all that it printed if it fails.
func (s *suite) program(t *testing.T, env, command []string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env = s.dir, env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, out.String())
	}
	return out.String()
}

var tap = regexp.MustCompile(`^(not )?ok(?: \d+)? - (.+)$`)

// judge makes a subtest of each line, and misses none of the features.
func (s *suite) judge(t *testing.T, row *report.Row, out string) {
	t.Helper()
	seen := map[string]bool{}
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		m := tap.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		if seen[m[2]] {
			t.Errorf("%s is there twice", m[2])
		}
		seen[m[2]] = true
		row.Run(t, m[2], func(t *testing.T) {
			if m[1] != "" {
				t.Errorf("not ok; all that was printed:\n%s", out)
			}
		})
	}
	for _, feature := range report.Features {
		why, lacks := s.lacks[feature]
		switch {
		case lacks && seen[feature]:
			t.Errorf("%s is there, but the table says: %s", feature, why)
		case lacks:
			row.Add(report.Result{Feature: feature, Outcome: report.Absent, Remark: why})
		case !seen[feature]:
			t.Errorf("%s was not tried; all that was printed:\n%s", feature, out)
		}
	}
}
