// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package doccheck

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	cluster.Main(m, cluster.Spec{Settings: map[string]string{"log_statement": "all"}}, &shared)
}

// TestSnippets runs the documents' blocks in order and compares what they print.
func TestSnippets(t *testing.T) {
	for _, doc := range runnable {
		t.Run(filepath.Base(doc), func(t *testing.T) {
			found, err := blocks(readFile(t, doc))
			if err != nil {
				t.Fatal(err)
			}
			program, err := cluster.Binary()
			if err != nil {
				t.Fatal(err)
			}
			r := &runner{bin: filepath.Dir(cluster.Bin(t, "psql")), program: filepath.Dir(program), home: t.TempDir(), sessions: map[string]*psql{}}
			printed := ""
			for i, b := range found {
				switch b.kind {
				case "node", "server":
					printed = r.session(t, b.kind).run(t, b.text, b.typed)
					if shown := i+1 < len(found) && found[i+1].kind == "output"; !shown && strings.Contains(printed, "ERROR:") {
						t.Errorf("%s:%d: %s", doc, b.line, printed)
					}
				case "shell":
					printed = r.shell(t, b)
				case "proof":
					r.proof(t, doc, b)
				case "output":
					if found[i-1].kind != "packages" && !same(printed, b.text) { // those are compared where they are run
						t.Errorf("%s:%d: the document shows\n%s\nbut it is\n%s", doc, b.line, b.text, printed)
					}
				}
			}
		})
	}
}

// A runner has the sessions of one document.
type runner struct {
	bin      string // has psql
	program  string // has hyperion-vault
	home     string // of the shell
	sessions map[string]*psql
}

func (r *runner) session(t *testing.T, kind string) *psql {
	t.Helper()
	if r.sessions[kind] == nil {
		dsn := shared.DSN(0, shared.User)
		if kind == "server" {
			dsn = shared.SuperDSN(0)
		}
		r.sessions[kind] = startPsql(t, filepath.Join(r.bin, "psql"), dsn)
	}
	return r.sessions[kind]
}

// shell runs a block with the test cluster's directory and addresses.
func (r *runner) shell(t *testing.T, b block) string {
	t.Helper()
	node := shared.Nodes[0]
	replace := strings.NewReplacer(
		"app:app@127.0.0.1:6432", shared.User+":"+shared.Password+"@"+node.Proxy,
		"http://127.0.0.1:8200", node.REST, "https://vault.example:8200", node.REST, "http://127.0.0.1:9632/metrics", node.Metrics,
	)
	cmd := exec.CommandContext(t.Context(), "bash", "-euc", replace.Replace(b.text))
	cmd.Dir = r.home
	cmd.Env = []string{
		"PATH=" + r.bin + ":" + r.program + ":" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "HOME=" + r.home,
		"DEV=" + shared.Dir(), "TOKEN=" + shared.AdminToken,
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("line %d: %v\n%s", b.line, err, out)
	}
	return string(out)
}

var proofLine = regexp.MustCompile(`^(node=>|server=#)\s+(.*;)\s+-- (\S+?)[:,]?(?:\s.*)?$`)

// proof runs lines that show their answers, and looks for what was typed in
// everything that the cluster has written.
func (r *runner) proof(t *testing.T, doc string, b block) {
	t.Helper()
	for i, line := range strings.Split(strings.TrimSpace(b.text), "\n") {
		m := proofLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%s:%d: not a line of a proof: %s", doc, b.line+1+i, line)
		}
		kind := map[string]string{"node=>": "node", "server=#": "server"}[m[1]]
		printed := tidy(r.session(t, kind).run(t, m[2]+"\n", b.typed))
		if len(printed) < 2 || !same(strings.TrimSpace(printed[len(printed)-2]), m[3]) {
			t.Errorf("%s:%d: got %q, want %q", doc, b.line+1+i, printed, m[3])
		}
	}
	if out := r.shell(t, block{line: b.line, text: fmt.Sprintf("grep -rlF -- %q \"$DEV\" || echo nothing", b.typed)}); out != "nothing\n" {
		t.Errorf("%s:%d: %q is in %s", doc, b.line, b.typed, out)
	}
}
