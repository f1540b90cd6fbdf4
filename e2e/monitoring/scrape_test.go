// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package monitoring

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	cluster.Main(m, cluster.Spec{
		Listen:  "0.0.0.0", // with a certificate
		NodeEnv: map[string]string{"VAULT_MAX_STALENESS": "1m", "VAULT_ROTATION_POLL_SECS": "1"},
	}, &shared)
}

// A series is a sample's labels without the metric's name.
type series map[string]string

// work has the node serve SQL and REST, refuse something, and rotate a secret.
func work(t *testing.T, n *cluster.Node) {
	t.Helper()
	conn := shared.Connect(t, shared.DSN(0, shared.User))
	cluster.Exec(t, conn, "SELECT vault.put_secret('shop/key', 'a value')")
	if got := cluster.Text(t, conn, "SELECT vault.read_secret('shop/key')"); got != "a value" {
		t.Fatalf("got %q", got)
	}
	cluster.Text(t, conn, "SELECT vault.verify_secret('shop/key', 'a value')::text")
	if _, err := conn.Exec(t.Context(), "SELECT vault.read_secret('shop/key') = 'a guess'"); err == nil {
		t.Fatal("a comparison was not refused")
	}
	cluster.Text(t, conn, "SELECT vault.create_secret('auto', 'automatic', rotation_interval => '1 second')::text")

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.REST+"/v1/secrets/shop/key", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+shared.AdminToken)
	certificate, err := os.ReadFile(shared.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(certificate)
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12},
	}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if response.Body.Close(); response.StatusCode != http.StatusOK {
		t.Fatalf("REST: %s", response.Status)
	}
	cluster.Eventually(t, "a rotation", func() bool { return n.Metric(t, "hyperion_vault_rotations_total", `outcome="ok"`) > 0 })
}

var (
	sample = regexp.MustCompile(`^([a-z_][a-z0-9_]*)(?:\{(.*)\})? \S+$`)
	label  = regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
)

// scrape is what Prometheus would see.
func scrape(t *testing.T, n *cluster.Node) map[string][]series {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.Metrics, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	seen := map[string][]series{"up": {{}}}      // Prometheus's own
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		m := sample.FindStringSubmatch(lines.Text())
		if m == nil {
			continue // a comment
		}
		labels := series{}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			labels[l[1]] = l[2]
		}
		seen[m[1]] = append(seen[m[1]], labels)
	}
	return seen
}

var (
	selector = regexp.MustCompile(`\b(hyperion_vault_\w+|process_\w+|go_\w+|up)\b(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(?:by|on|without|ignoring) \(([^)]*)\)`)
	named    = regexp.MustCompile(`\{\{ ?(?:\$labels\.)?([a-z_]+)(?: \| \w+)? ?\}\}`)
)

// target are the labels that Prometheus gives to what it scrapes.
var target = []string{"job", "instance"}

// TestMetricsExist: each metric, label and value that an alert or a panel names is one
// that a node exports.
func TestMetricsExist(t *testing.T) {
	n := shared.Nodes[0]
	work(t, n)
	seen := scrape(t, n)
	for _, a := range alerts(t) {
		checkExpr(t, seen, a.name, a.expr)
	}
	for panel, expressions := range readDashboard(t).expressions() {
		for _, expr := range expressions {
			checkExpr(t, seen, panel, expr)
		}
	}
	for _, v := range readDashboard(t).Templating.List[1:] {
		checkExpr(t, seen, "variable "+v.Name, v.Definition)
	}
	for _, m := range named.FindAllStringSubmatch(readFile(t, rulesFile), -1) {
		if !slices.Contains(append(target, "limit", "cause"), m[1]) {
			t.Errorf("%s: an annotation names the label %s", rulesFile, m[1])
		}
	}
	unused(t, seen)
}

func checkExpr(t *testing.T, seen map[string][]series, where, expr string) {
	t.Helper()
	known := slices.Clone(target)
	selectors := selector.FindAllStringSubmatch(expr, -1)
	if len(selectors) == 0 {
		t.Errorf("%s: %q names no metric", where, expr)
	}
	for _, m := range selectors {
		samples := seen[m[1]]
		if len(samples) == 0 {
			t.Errorf("%s: no node exports %s", where, m[1])
			continue
		}
		for name := range samples[0] {
			known = append(known, name)
		}
		for _, c := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(target, c[1]) {
				checkMatcher(t, samples, where, m[1], c[1], c[2], c[3])
			}
		}
	}
	for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
		for name := range strings.SplitSeq(m[1], ", ") {
			if !slices.Contains(known, name) {
				t.Errorf("%s: no metric in %q has the label %s", where, expr, name)
			}
		}
	}
}

// checkMatcher: some sample has the label, and each alternative of the value.
func checkMatcher(t *testing.T, samples []series, where, metric, name, operator, value string) {
	t.Helper()
	values := []string{value}
	if strings.HasSuffix(operator, "~") {
		values = strings.Split(value, "|")
	}
	for _, v := range values {
		if !slices.ContainsFunc(samples, func(s series) bool { return s[name] == v }) {
			t.Errorf("%s: no %s has %s=%q", where, metric, name, v)
		}
	}
}

// unused: each metric of a node's own is on the dashboard or in an alert.
func unused(t *testing.T, seen map[string][]series) {
	t.Helper()
	text := readFile(t, rulesFile) + readFile(t, dashboardFile)
	for name := range seen {
		family := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "hyperion_vault_") && !strings.Contains(text, family) {
			t.Errorf("%s is on no panel and in no alert", name)
		}
	}
}
