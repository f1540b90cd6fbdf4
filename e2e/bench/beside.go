// SPDX-License-Identifier: GPL-3.0-or-later

package main

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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// beside says how a further node at the world's server is to be.
type beside struct {
	name       string
	sync       string // VAULT_AUDIT_SYNC
	unrecorded bool   // of the build that keeps no audit
}

// besideNode is one that was started.
type besideNode struct {
	target
	metrics string // an address
	log     string // a path
	child   *exec.Cmd
}

const besideStart = 30 * time.Second

// startBeside starts a node with the settings of the cluster's own, and its directory
// in dir.
func (w *world) startBeside(ctx context.Context, dir string, as beside) (*besideNode, error) {
	binary, err := cluster.Binary()
	if err != nil {
		return nil, err
	}
	if as.unrecorded {
		if binary += "-noaudit"; exec.Command(binary, "version").Run() != nil { //nolint:gosec,noctx // what make bench has built
			return nil, fmt.Errorf("%s does not run: make bench builds it", binary)
		}
	}
	dir = filepath.Join(dir, as.name)
	if err := os.MkdirAll(filepath.Join(dir, "audit"), 0o700); err != nil {
		return nil, err
	}
	var addresses [3]string
	for i := range addresses {
		if addresses[i], err = freeAddress(ctx); err != nil {
			return nil, err
		}
	}
	n := &besideNode{target: target{name: as.name}, metrics: addresses[2], log: filepath.Join(dir, "node.log")}
	config := filepath.Join(dir, "node.conf")
	err = w.writeConfig(config, map[string]string{
		"VAULT_PROXY_LISTEN": addresses[0], "VAULT_API_LISTEN": addresses[1], "VAULT_METRICS_LISTEN": n.metrics,
		"VAULT_AUDIT_DIR": filepath.Join(dir, "audit"), "VAULT_AUDIT_SYNC": as.sync,
	})
	if err != nil {
		return nil, err
	}
	log, err := os.Create(n.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()                                      // the child has its own
	n.child = exec.CommandContext(ctx, binary, "serve", "--config", config) //nolint:gosec // the program that is measured
	n.child.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + dir}
	n.child.Stdout, n.child.Stderr = log, log
	n.child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := n.child.Start(); err != nil {
		return nil, err
	}
	n.pid = n.child.Process.Pid
	if n.host, n.port, err = net.SplitHostPort(addresses[0]); err == nil {
		err = n.waitReady(ctx, addresses[1])
	}
	if err != nil {
		n.stop()
		return nil, err
	}
	return n, nil
}

// writeConfig writes the settings of the cluster's node, but for some.
func (w *world) writeConfig(path string, changed map[string]string) error {
	text, err := os.ReadFile(w.cluster.Nodes[0].Config)
	if err != nil {
		return err
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), "="); found {
			values[name] = value
		}
	}
	delete(values, "VAULT_TLS_CERT")
	delete(values, "VAULT_TLS_KEY")
	maps.Copy(values, changed)
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(&out, "%s=%s\n", name, values[name])
	}
	return os.WriteFile(path, []byte(out.String()), 0o600)
}

// waitReady waits until the node would serve.
func (n *besideNode) waitReady(ctx context.Context, api string) error {
	deadline := time.Now().Add(besideStart)
	for {
		text, err := page(ctx, "http://"+api+"/readyz")
		if err == nil && !strings.Contains(text, `"degraded"`) {
			return nil
		}
		if err := later(ctx, deadline, "it is not ready"); err != nil {
			log, _ := os.ReadFile(n.log) // for the error
			return fmt.Errorf("%w: %.2000s", err, log)
		}
	}
}

// waitShipped waits until the vault has all that the node has recorded.
func (n *besideNode) waitShipped(ctx context.Context) error {
	deadline := time.Now().Add(2 * time.Minute)
	for {
		text, err := page(ctx, "http://"+n.metrics+"/metrics")
		if err != nil {
			return err
		}
		at := map[string]float64{}
		for _, m := range auditNumber.FindAllStringSubmatch(text, -1) {
			if at[m[1]], err = strconv.ParseFloat(m[2], 64); err != nil {
				return err
			}
		}
		if at["last"] > 0 && at["shipped"] == at["last"] {
			return nil
		}
		if err := later(ctx, deadline, fmt.Sprintf("%.0f of %.0f records were shipped", at["shipped"], at["last"])); err != nil {
			return err
		}
	}
}

// later waits a moment, unless it is too late.
func later(ctx context.Context, deadline time.Time, otherwise string) error {
	if time.Now().After(deadline) {
		return fmt.Errorf("%s", otherwise)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(20 * time.Millisecond):
		return nil
	}
}

// page is what an address answers with 200.
func page(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return string(text), err
}

// stop ends the node.
func (n *besideNode) stop() {
	_ = n.child.Process.Signal(syscall.SIGTERM) // or it has ended
	_ = n.child.Wait()                          // it was told to
}
