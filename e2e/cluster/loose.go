// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Loose node is one that no cluster started: beside a server that got its
// vault by a restore, say.
type Loose struct {
	// Proxy is the address that clients connect to.
	Proxy string
	// REST is the address of its API, with http:// in front.
	REST string
	// Log is the path of the process's output.
	Log string
	// Config is the path of its settings.
	Config string
	// PID is the process's.
	PID int

	stop func()
}

// Stop ends the node in order.
func (l *Loose) Stop() { l.stop() }

// StartLoose starts a node with the settings of n but for those given, its
// listeners and its directory, and returns when it is ready. It ends with the
// test.
func (n *Node) StartLoose(tb testing.TB, settings map[string]string) *Loose {
	tb.Helper()
	loose := n.StartUnready(tb, settings)
	Eventually(tb, "the node's readiness", func() bool { return ready(tb, loose.REST) })
	return loose
}

// StartUnready is StartLoose for a node that will not become ready: it returns
// when the node listens. flags are further ones of serve.
func (n *Node) StartUnready(tb testing.TB, settings map[string]string, flags ...string) *Loose {
	tb.Helper()
	binary, err := Binary()
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	rest := FreeAddress(tb)
	loose := &Loose{Proxy: FreeAddress(tb), REST: "http://" + rest, Log: filepath.Join(dir, "node.log"), Config: filepath.Join(dir, "node.conf")}
	if listen, given := settings["VAULT_PROXY_LISTEN"]; given {
		loose.Proxy, _, _ = strings.Cut(listen, ",") // the first of them
	}
	if listen, given := settings["VAULT_API_LISTEN"]; given {
		loose.REST = "http://" + listen
	}
	values := n.Settings(tb)
	maps.Copy(values, map[string]string{
		"VAULT_PROXY_LISTEN": loose.Proxy, "VAULT_API_LISTEN": rest, "VAULT_METRICS_LISTEN": "off", "VAULT_AUDIT_DIR": filepath.Join(dir, "audit"),
	})
	maps.Copy(values, settings)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(&text, "%s=%s\n", name, values[name])
	}
	if err := os.WriteFile(loose.Config, []byte(text.String()), 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.MkdirAll(values["VAULT_AUDIT_DIR"], 0o700); err != nil {
		tb.Fatal(err)
	}
	log, err := os.Create(loose.Log)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the child has its own copy
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	cmd := exec.CommandContext(ctx, binary, append([]string{"serve", "--config", loose.Config}, flags...)...) //nolint:gosec // the program under test
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + dir}, n.aws...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	ended, err := startTied(cmd)
	if err != nil {
		tb.Fatal(err)
	}
	loose.stop = func() {
		cancel()
		<-ended
	}
	tb.Cleanup(loose.stop)
	loose.PID = cmd.Process.Pid
	Eventually(tb, "the node's listener", func() bool { return Listens(tb, loose.Proxy) })
	return loose
}

// Listens says whether somebody does.
func Listens(tb testing.TB, address string) bool {
	tb.Helper()
	var d net.Dialer
	conn, err := d.DialContext(tb.Context(), "tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was said
	return true
}

// Settings are those of the node's own file.
func (n *Node) Settings(tb testing.TB) map[string]string {
	tb.Helper()
	text, err := os.ReadFile(n.Config)
	if err != nil {
		tb.Fatal(err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), "="); found {
			values[name] = value
		}
	}
	return values
}

func ready(tb testing.TB, base string) bool {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, base+"/readyz", nil)
	if err != nil {
		tb.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }() // read, or of no use
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	return err == nil && response.StatusCode == http.StatusOK && !strings.Contains(string(body), `"degraded"`)
}

// FreeAddress is one on loopback that nobody listens on.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	address, err := freeAddress(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return address
}

func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
