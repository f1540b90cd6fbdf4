// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package jdbc drives a node with pgjdbc, as Debian packages it.
package jdbc

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// driver is the jar of Debian's libpostgresql-jdbc-java.
const driver = "/usr/share/java/postgresql.jar"

// patience is far longer than the program takes: reaching it means that it hangs.
const patience = 3 * time.Minute

func TestJDBC(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{Settings: map[string]string{
		"log_statement": "all", "log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1",
	}})
	conn := c.Connect(t, c.DSN(0, c.User))
	cluster.Exec(t, conn, "SELECT vault.put_secret('broken', 'x')")
	super := c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, super, "UPDATE vault.secret_versions SET nonce = set_byte(nonce, 0, get_byte(nonce, 0) # 1)")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// A source file is compiled in memory.
	cmd := exec.CommandContext(ctx, "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", driver, "NodeTest.java")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8",
		"URL=jdbc:postgresql://" + c.Nodes[0].Proxy + "/" + c.Database, "USER=" + c.User, "PASSWORD=" + c.Password, "BROKEN=broken",
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
	if strings.Contains(log, "jdbc canary") {
		t.Error("the server was sent a value in clear")
	}
}
