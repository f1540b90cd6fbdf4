// SPDX-License-Identifier: GPL-3.0-or-later

// Package monitoring holds the alerts and the dashboard of packaging/monitoring to
// what nodes export and to what docs/OPERATIONS.md explains.
package monitoring

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the repository's directory.
const root = "../.."

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const (
	rulesFile     = "packaging/monitoring/hyperion-vault.rules.yml"
	rulesTest     = "packaging/monitoring/rules_test.yml"
	dashboardFile = "packaging/monitoring/hyperion-vault.json"
	operations    = "docs/OPERATIONS.md"
)

// An alert is what these tests want of a rule: promtool reads the rest.
type alert struct{ name, expr, runbook string }

var (
	ruleStart = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)
	ruleExpr  = regexp.MustCompile(`(?m)^        expr: ?(?:\|\n((?:          .*\n)+)|(.*)$)`)
	runbook   = regexp.MustCompile(`(?m)^          runbook_url: (\S+)$`)
)

func alerts(t *testing.T) []alert {
	t.Helper()
	text := readFile(t, rulesFile)
	starts := ruleStart.FindAllStringSubmatchIndex(text, -1)
	found := make([]alert, 0, len(starts))
	for i, at := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		a := alert{name: text[at[2]:at[3]]}
		if m := ruleExpr.FindStringSubmatch(text[at[0]:end]); m != nil {
			a.expr = m[1] + m[2]
		}
		if m := runbook.FindStringSubmatch(text[at[0]:end]); m != nil {
			a.runbook = m[1]
		}
		found = append(found, a)
	}
	if len(found) < 20 {
		t.Fatalf("%s: found only %d alerts: it is written in another way now", rulesFile, len(found))
	}
	return found
}

// TestRunbooks: each alert says where docs/OPERATIONS.md tells what to do, that place
// exists, and rules_test.yml has a test of its own for it.
func TestRunbooks(t *testing.T) {
	document, tests := readFile(t, operations), readFile(t, rulesTest)
	headings := regexp.MustCompile(`(?m)^### (HyperionVault\w+)$`).FindAllStringSubmatch(document, -1)
	var explained []string
	for _, m := range headings {
		explained = append(explained, m[1])
	}
	var names []string
	for _, a := range alerts(t) {
		names = append(names, a.name)
		if want := "https://github.com/hyperiondb/hyperion-vault/blob/main/" + operations + "#" + strings.ToLower(a.name); a.runbook != want {
			t.Errorf("%s: got the runbook %q, want %s", a.name, a.runbook, want)
		}
		if !slices.Contains(explained, a.name) {
			t.Errorf("%s has no section %s", operations, a.name)
		}
		if !strings.Contains(tests, "  - name: "+a.name+"\n") || strings.Count(tests, "alertname: "+a.name+"\n")+strings.Count(tests, "alertname: "+a.name+",") < 3 {
			t.Errorf("%s: %s is not tested for firing, for not firing yet and on a healthy cluster", rulesTest, a.name)
		}
	}
	for _, name := range explained {
		if !slices.Contains(names, name) {
			t.Errorf("%s explains %s, which is no alert", operations, name)
		}
	}
}

// dashboard is what these tests want of Grafana's format.
type dashboard struct {
	UID, Title string
	Templating struct {
		List []struct {
			Name, Type string
			Datasource source
			Definition string
		}
	}
	Panels []struct {
		ID         int
		Type       string
		Title      string
		Datasource source
		GridPos    struct{ H, W, X, Y int }
		Targets    []struct {
			RefID      string
			Datasource source
			Expr       string
		}
	}
}

type source struct{ Type, UID string }

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(readFile(t, dashboardFile)), &d); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	return &d
}

// TestDashboard: Grafana can import it into any installation, and no panel hides another.
func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	if len(d.Templating.List) == 0 || d.Templating.List[0].Name != "datasource" || d.Templating.List[0].Type != "datasource" {
		t.Fatal("the first variable is not the source of data")
	}
	chosen := source{"prometheus", "${datasource}"}
	for _, v := range d.Templating.List[1:] {
		if v.Datasource != chosen {
			t.Errorf("variable %s asks %v", v.Name, v.Datasource)
		}
	}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q: no id or title of its own", p.ID, p.Title)
		}
		ids[p.ID] = true
		at := p.GridPos
		if at.X < 0 || at.Y < 0 || at.W < 1 || at.H < 1 || at.X+at.W > 24 {
			t.Errorf("panel %q: it has no place: %+v", p.Title, at)
		}
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" {
					t.Fatalf("panels %q and %q overlap", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource != chosen || len(p.Targets) == 0 {
			t.Errorf("panel %q asks %v for %d expressions", p.Title, p.Datasource, len(p.Targets))
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if target.Datasource != chosen || target.RefID == "" || refs[target.RefID] {
				t.Errorf("panel %q: target %q of %v", p.Title, target.RefID, target.Datasource)
			}
			refs[target.RefID] = true
		}
	}
	if len(ids) < 30 {
		t.Errorf("found only %d panels", len(ids))
	}
}

// expressions are all of the dashboard, by panel, as Prometheus gets them.
func (d *dashboard) expressions() map[string][]string {
	set := strings.NewReplacer("$__rate_interval", "1m", "$job", ".*", "$instance", ".*")
	found := map[string][]string{}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			found[p.Title] = append(found[p.Title], set.Replace(target.Expr))
		}
	}
	return found
}
