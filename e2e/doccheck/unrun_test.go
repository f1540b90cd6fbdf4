// SPDX-License-Identifier: GPL-3.0-or-later

package doccheck

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// unrun are the blocks of commands that nothing runs as they stand there, by
// document and first line, and why.
var unrun = map[string]string{
	"README.md: make dev     # installs what is missing by apt, builds, starts a scratch PostgreSQL with a node, prints the psql lines to paste": "ends with Ctrl-C; dev is cmd/hyperion-vault TestDev, the other is what CI runs",
	"README.md: make dev DEV_ARGS='--pg-setting log_statement=all'":                                                                              "ends with Ctrl-C; a cluster with this setting is what TestSnippets runs on",
	"README.md: make build install-extension                         # on each server; the extension's files are needed on standbys too":         "installs into this machine's server, and serves for ever; make walk does each with the packages",
	"docs/CI.md: docker build --file docker/Dockerfile --target server --tag hyperion-vault .     # in a clone of this project":                  "pushes to a registry; e2e/docker TestCI builds both images",
	"docs/CI.md: docker run --rm --detach --name vault --publish 127.0.0.1:6432:6432 --env HYPERION_VAULT_DEV_PASSWORD=app \\":                   "takes ports of this machine; e2e/docker TestCI runs the image so on free ones",
	"docs/OPERATIONS.md: systemctl stop hyperion-vault":                                                                                          "ends with Ctrl-C; e2e/audit TestClone does the same",
	"docs/OPERATIONS.md: (set -a; . /etc/hyperion-vault/environment":                                                                             "no AWS is there; the same command without that file is run by packaging/test",
	"docs/OPERATIONS.md: make packages                        # for the server whose pg_config is found; needs apt's dpkg-dev":                   "takes minutes, and somebody's key; make packages-test and make walk run the scripts behind both",
	"docs/OPERATIONS.md: CREATE ROLE prover LOGIN PASSWORD '…';":                                                                                 "a password is to be put in; TestProve makes such a role",
	"docs/OPERATIONS.md: export PGHOST=127.0.0.1 PGPORT=6432 PGUSER=prover PGDATABASE=app PGPASSFILE=/root/prove.pgpass":                         "looks through a packaged server; TestProve runs the same on a cluster of its own",
}

var documentedCall = regexp.MustCompile(`(?m)^\s*documented "([^"]+)"`)

// TestAllRun: each block of commands is run by a test, or unrun says why not.
func TestAllRun(t *testing.T) {
	var walked []string
	for _, script := range []string{"packaging/test/run.sh", "packaging/test/walk.sh"} {
		for _, m := range documentedCall.FindAllStringSubmatch(readFile(t, script), -1) {
			walked = append(walked, m[1])
		}
	}
	excused := map[string]bool{}
	for _, doc := range runnable {
		found, err := blocks(readFile(t, doc))
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range found {
			if b.language != "sh" && b.language != "sql" {
				continue
			}
			first, _, _ := strings.Cut(b.text, "\n")
			switch {
			case slices.Contains([]string{"node", "server", "shell", "proof"}, b.kind): // by TestSnippets
			case b.kind == "docker" && doc == "README.md": // by e2e/docker
			case b.kind == "schema" && doc == "docs/CI.md": // by e2e/docker
			case b.kind == "packages" && doc == "docs/OPERATIONS.md" && slices.Contains(walked, b.section): // by packaging/test
			case unrun[doc+": "+first] != "":
				excused[doc+": "+first] = true
			default:
				t.Errorf("%s:%d: no test runs this block, and unrun does not say why: %s", doc, b.line, first)
			}
		}
	}
	for block := range unrun {
		if !excused[block] {
			t.Errorf("there is no block, or a test runs it: %s", block)
		}
	}
}
