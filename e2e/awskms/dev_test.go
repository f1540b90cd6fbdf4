// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package awskms

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// asked counts the calls of an operation for a secret since before.count.
func asked(operation, secret string) (n int) {
	before.mu.Lock()
	defer before.mu.Unlock()
	for _, c := range before.sent {
		if c.operation == operation && bytes.Contains(c.body, []byte(`"secret":"`+secret+`"`)) {
			n++
		}
	}
	return n
}

// TestDev: `dev --kms-endpoint` seals by the key of that endpoint.
func TestDev(t *testing.T) {
	binary, err := cluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	before.count()
	defer before.count() // it signs as somebody else
	dev := exec.CommandContext(t.Context(), binary, "dev", "--json", "--kms-endpoint", "http://"+before.address)
	dev.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "VAULT_KMS_KEY_ID=" + cluster.KMSKey}
	dev.Cancel = func() error { return dev.Process.Signal(syscall.SIGTERM) }
	dev.WaitDelay = 30 * time.Second
	var said bytes.Buffer
	dev.Stderr = &said
	out, err := dev.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		_ = dev.Wait()
		t.Fatalf("no ready line: %v: %s", err, said.String())
	}
	var c devcluster.Cluster
	if err := json.Unmarshal(line, &c); err != nil {
		t.Fatal(err)
	}
	at := func(address, user, password string) string {
		return "postgresql://" + user + ":" + password + "@" + address + "/" + c.Database + "?sslmode=disable"
	}
	conn, server := shared.Connect(t, at(c.Nodes[0].Proxy, c.User, c.Password)), shared.Connect(t, at(c.Nodes[0].Postgres, c.Superuser, c.SuperuserPassword))
	put(t, conn, "dev/one")
	read(t, conn, "dev/one")
	if got := cluster.Text(t, server, "SELECT vault.read_secret('dev/one')"); !strings.HasPrefix(got, "hv1.") {
		t.Errorf("at the server: got %s", got)
	}
	if got := cluster.Text(t, server, "SELECT kms_key_id FROM vault.secret_versions"); got != cluster.KMSKey {
		t.Errorf("the key: got %s", got)
	}
	if n := asked("GenerateDataKey", "dev/one"); n != 1 {
		t.Errorf("data keys that were made at the endpoint: got %d, want 1", n)
	}
	if err := dev.Cancel(); err != nil {
		t.Fatal(err)
	}
	if err := dev.Wait(); err != nil {
		t.Errorf("its end: %v: %s", err, said.String())
	}
}

// TestForget: a node that was told to forget its data keys asks for one again.
func TestForget(t *testing.T) {
	conn := shared.Connect(t, shared.DSN(0, shared.User))
	put(t, conn, "forget/one")
	for how, forget := range map[string]func(){
		"flush": func() { flush(t) },
		"SIGUSR2": func() {
			if err := syscall.Kill(shared.Nodes[0].PID, syscall.SIGUSR2); err != nil {
				t.Fatal(err)
			}
		},
	} {
		read(t, conn, "forget/one")
		before.count()
		read(t, conn, "forget/one")
		if n := asked("Decrypt", "forget/one"); n != 0 {
			t.Errorf("before %s: %d calls, want none", how, n)
		}
		forget()
		cluster.Eventually(t, "a call after "+how, func() bool {
			read(t, conn, "forget/one")
			return asked("Decrypt", "forget/one") == 1
		})
	}
}

// TestEnvironmentStaysOurs: the server of a node that has credentials for the KMS does
// not know them.
func TestEnvironmentStaysOurs(t *testing.T) {
	super := shared.Connect(t, shared.SuperDSN(0))
	cluster.Exec(t, super, "CREATE TEMP TABLE env (line text)")
	cluster.Exec(t, super, "COPY env FROM PROGRAM 'env'")
	if got := cluster.Text(t, super, "SELECT format('%s %s', count(*) > 0, count(*) FILTER (WHERE line ~ '^(AWS|VAULT)')) FROM env"); got != "t 0" {
		t.Errorf("whether the server has an environment, and lines of it that are the node's: got %s, want t 0", got)
	}
}
