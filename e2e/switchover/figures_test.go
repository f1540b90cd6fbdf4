// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package switchover

import (
	"cmp"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/bench/document"
	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// figures are what docs/switchover.json holds.
type figures struct {
	Date string `json:"date"`
	Took string `json:"took"`
	document.Machine
	Load       string `json:"load_average"` // before
	Node       string `json:"hyperion_vault"`
	PostgreSQL string `json:"postgresql"`
	Patroni    string `json:"patroni"`
	HAProxy    string `json:"haproxy"`
	Clients    int    `json:"clients_of_each_way"`
	Lines      []line `json:"lines"`
}

// A line is one fault by one way, all rounds.
type line struct {
	Fault        string         `json:"fault"`
	Way          string         `json:"way"`
	Outages      []float64      `json:"outages_s"` // the longest time without a commit, of each round
	Errors       map[string]int `json:"errors"`
	Acknowledged int            `json:"acknowledged"`
	Lost         int            `json:"lost"`
}

func (f *figures) describe(t *testing.T, w *world) {
	t.Helper()
	first := func(name string, args ...string) string {
		out, err := exec.CommandContext(t.Context(), name, args...).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		line, _, _ := strings.Cut(string(out), "\n")
		return line
	}
	binary, err := cluster.Binary()
	if err != nil {
		t.Fatal(err)
	}
	super := w.c.Connect(t, w.c.SuperDSN(slices.Index(w.c.Nodes, w.c.PrimaryNode())))
	f.Date, f.Machine, f.Clients = time.Now().UTC().Format(time.DateOnly), document.ThisMachine(), clients
	f.Load, _, _ = strings.Cut(document.Content("/proc/loadavg"), " ")
	f.Node, _, _ = strings.Cut(first(binary, "version"), ",")
	f.PostgreSQL = cluster.Text(t, super, "SHOW server_version")
	f.Patroni, f.HAProxy = first("patroni", "--version"), strings.Join(strings.Fields(first(haproxyPath, "-v"))[:3], " ")
}

// add counts a round.
func (f *figures) add(fault string, from time.Time, w *work, lost map[string]int) {
	for _, way := range w.ways {
		i := slices.IndexFunc(f.Lines, func(l line) bool { return l.Fault == fault && l.Way == way.name })
		if i < 0 {
			f.Lines = append(f.Lines, line{Fault: fault, Way: way.name, Errors: map[string]int{}})
			i = len(f.Lines) - 1
		}
		l := &f.Lines[i]
		l.Lost += lost[way.name]
		var at []time.Time
		for _, c := range w.clients {
			if c.way != way.name {
				continue
			}
			l.Acknowledged += len(c.acked)
			for class, n := range c.errors {
				l.Errors[class] += n
			}
			for _, a := range c.acked {
				at = append(at, a.at)
			}
		}
		l.Outages = append(l.Outages, outage(at, from).Seconds())
	}
}

// outage is the longest time between two commits of which the later came after the
// fault.
func outage(at []time.Time, from time.Time) (longest time.Duration) {
	slices.SortFunc(at, time.Time.Compare)
	for i := 1; i < len(at); i++ {
		if at[i].After(from) {
			longest = max(longest, at[i].Sub(at[i-1]))
		}
	}
	return longest
}

func (f *figures) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nMeasured %s, in %s, %d clients by each way at once. %d cores (%s), load %s before, Linux %s. %s, PostgreSQL %s, %s, %s.\n\n",
		f.Date, f.Took, f.Clients, f.Cores, f.CPU, f.Load, f.Kernel, f.Node, f.PostgreSQL, f.Patroni, f.HAProxy)
	b.WriteString("| fault | way | seconds without a commit: median (least, most) | acknowledged | lost | errors |\n|---|---|--:|--:|--:|---|\n")
	last := ""
	for _, l := range f.Lines {
		name := fmt.Sprintf("%s, %d times", l.Fault, len(l.Outages))
		if l.Fault == last {
			name = ""
		}
		last = l.Fault
		fmt.Fprintf(&b, "| %s | %s | %.1f (%.1f, %.1f) | %d | %d | %s |\n", name, l.Way,
			document.Median(l.Outages), slices.Min(l.Outages), slices.Max(l.Outages), l.Acknowledged, l.Lost, counts(l.Errors))
	}
	b.WriteByte('\n')
	return b.String()
}

// counts are errors, the most frequent first.
func counts(errors map[string]int) string {
	var all []string
	for class := range errors {
		all = append(all, class)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(errors[b]-errors[a], strings.Compare(a, b)) })
	for i, class := range all {
		all[i] = fmt.Sprintf("%s × %d", class, errors[class])
	}
	return strings.Join(all, ", ")
}

// write leaves the numbers and the table in the documents.
func (f *figures) write(t *testing.T) {
	t.Helper()
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	docs := filepath.Join(root, "docs")
	if err := document.WriteJSON(filepath.Join(docs, "switchover.json"), f); err != nil {
		t.Fatal(err)
	}
	if err := document.Replace(filepath.Join(docs, "BENCHMARKS.md"), "switchover", f.markdown()); err != nil {
		t.Fatal(err)
	}
}
