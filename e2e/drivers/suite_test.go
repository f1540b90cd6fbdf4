// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package drivers runs each driver's own small program through the node beside the
// primary, and through the one beside a standby. A program lives in a folder of its
// own, in the driver's language, and prints TAP: a line "ok - feature" or "not ok -
// feature" for each of report.Features that the driver has, and for what only that
// driver does. Whatever it prints else explains. Its environment says where the
// node is (libpq's names), and:
//
//	PREFIX       the prefix of the names of its secrets, and for SET application_name
//	CANARY       the value to put; PREFIX/canary must hold it at the end
//	BROKEN       the name of a secret that cannot be opened (XX001)
//	SUPERUSER, SUPERPASSWORD   for a look at the view activity
//
// Beside a standby a session moves between servers, and its client keeps the process
// id of the first one. So a program finds its session in the view activity (that of
// all servers) by a name that it sets, and the sender of a notification is asked for
// its process in the statement that sends it. A commit waits until the standby shows
// it: a program's sessions read at once what another of them has written. Programs
// run side by side, so a serializable block may fail; only pgjdbc's are, and it
// repeats them.
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
	"slices"
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
	cluster.Main(m, cluster.Spec{
		Standbys: 1,
		NodeEnv:  map[string]string{"VAULT_MOVE_BACK_AFTER": "1ms"}, // that sessions go back, again and again
		Settings: map[string]string{
			"log_statement": "all", "log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1",
			"max_connections": "60", "synchronous_commit": "remote_apply",
		},
	}, &shared)
}

func TestDrivers(t *testing.T) {
	conn := shared.Connect(t, shared.DSN(0, shared.User))
	cluster.Exec(t, conn, "SELECT vault.put_secret('"+broken+"', 'x')")
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, super, "UPDATE vault.secret_versions SET nonce = set_byte(nonce, 0, get_byte(nonce, 0) # 1)")
	built := &builds{dir: t.TempDir(), done: map[string]error{}}
	shared.Activity(t)
	shared.Synchronous(t)
	cluster.Exec(t, super, "CREATE EXTENSION lo SCHEMA public") // ODBC's type of a column that holds large objects
	t.Run("of", func(t *testing.T) {
		for _, s := range suites {
			t.Run(strings.NewReplacer(" ", "-", "/", "-", ":", "").Replace(s.client), func(t *testing.T) {
				t.Parallel()
				s.run(t, built)
			})
		}
	})
	for _, to := range []string{"primary", "standby"} {
		if shared.Nodes[1].Metric(t, "hyperion_vault_moves_total", `to="`+to+`"`, `outcome="ok"`) == 0 {
			t.Errorf("no session has moved to the %s", to)
		}
	}
}

// run goes both ways, one after the other: they share the names of tables and
// channels.
func (s *suite) run(t *testing.T, built *builds) {
	var env []string
	if s.build != nil {
		env = append(env, "OUT="+built.of(t, s))
	}
	for _, n := range shared.Nodes {
		t.Run(string(n.Role), func(t *testing.T) { s.through(t, n, env) })
	}
}

// through runs the program at the node.
func (s *suite) through(t *testing.T, n *cluster.Node, env []string) {
	host, port, err := net.SplitHostPort(n.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	prefix := "drivers/" + strings.TrimPrefix(t.Name(), "TestDrivers/of/")
	canary := "canary of " + t.Name() + " ünï ' \\ %"
	env = slices.Concat(env, s.env, []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1",
		"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + shared.User, "PGPASSWORD=" + shared.Password,
		"PGDATABASE=" + shared.Database, "PGSSLMODE=disable",
		"SUPERUSER=" + shared.Superuser, "SUPERPASSWORD=" + shared.SuperuserPassword,
		"PREFIX=" + prefix, "CANARY=" + canary, "BROKEN=" + broken,
	})
	version, _, _ := strings.Cut(strings.TrimSpace(s.program(t, env, s.version)), "\n")
	row := report.Open(t, report.Drivers, s.client, version).Beside(string(n.Role))
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
