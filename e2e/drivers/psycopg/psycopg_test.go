// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package psycopg drives a node with psycopg 3, as Debian packages it.
package psycopg

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// python is the system's own: the driver is a package of the system.
const python = "/usr/bin/python3"

// patience is far longer than the script takes: reaching it means that it hangs.
const patience = 2 * time.Minute

func TestPsycopg(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{Settings: map[string]string{
		"log_statement": "all", "log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1",
	}})
	conn := c.Connect(t, c.DSN(0, c.User))
	cluster.Exec(t, conn, "SELECT vault.put_secret('broken', 'x')")
	super := c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, super, "UPDATE vault.secret_versions SET nonce = set_byte(nonce, 0, get_byte(nonce, 0) # 1)")
	host, port, err := net.SplitHostPort(c.Nodes[0].Proxy)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "node_test.py", "-v")
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1",
		"PGHOST=" + host, "PGPORT=" + port, "PGUSER=" + c.User, "PGPASSWORD=" + c.Password, "PGDATABASE=" + c.Database,
		"SUPERUSER=" + c.Superuser, "SUPERPASSWORD=" + c.SuperuserPassword, "BROKEN=broken",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cluster.Exec(t, super, "SELECT 'end of the test'")
	var log string
	cluster.Eventually(t, "the server's log", func() bool {
		b, err := os.ReadFile(c.Nodes[0].ServerLogPath)
		log = string(b)
		return err == nil && strings.Contains(log, "end of the test")
	})
	if strings.Contains(log, "psycopg canary") {
		t.Error("the server was sent a value in clear")
	}
}
