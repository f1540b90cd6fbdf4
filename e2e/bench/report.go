// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/hyperiondb/hyperion-vault/e2e/bench/document"
)

// A line is one line of the table.
type line struct {
	Row      string    `json:"row"`
	What     string    `json:"what"`
	PeerName string    `json:"peer_name"`
	Node     float64   `json:"node"`
	Peer     float64   `json:"peer"`
	Ratio    float64   `json:"ratio"`
	Must     *float64  `json:"must,omitempty"`
	Aim      *float64  `json:"aim,omitempty"`
	Verdict  string    `json:"verdict,omitempty"`
	Nodes    []float64 `json:"node_runs,omitempty"`
	Peers    []float64 `json:"peer_runs,omitempty"`
	Others   []other   `json:"others,omitempty"`

	goal     *goal
	absolute bool // the goal is for the node's own figure, not for a ratio
}

// other is a figure of something else than node and peer.
type other struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

func (l line) String() string {
	return fmt.Sprintf("%-30s %-30s node %10s  peer %10s  ratio %6.2f  %s", l.Row, l.What, figure(l.Node), figure(l.Peer), l.Ratio, l.verdict())
}

// verdict says which of the goals was reached.
func (l line) verdict() string {
	if l.goal == nil {
		return ""
	}
	reached := func(limit float64) bool {
		if l.goal.most {
			return l.Ratio <= limit
		}
		return l.Ratio >= limit
	}
	switch {
	case reached(l.goal.aim):
		return "aim"
	case reached(l.goal.must):
		return "must"
	}
	return "missed"
}

// report is the JSON document.
type report struct {
	Date    string  `json:"date"`
	Took    string  `json:"took"`
	Quick   bool    `json:"quick,omitempty"`
	Pairs   int     `json:"pairs"`
	Seconds float64 `json:"seconds"`
	document.Machine
	Congestion string `json:"tcp_congestion_control"`
	Node       string `json:"hyperion_vault"`
	Go         string `json:"go"`
	PostgreSQL string `json:"postgresql"`
	PgBouncer  string `json:"pgbouncer"`
	Lines      []line `json:"lines"`
}

// describe notes machine and versions.
func (r *report) describe(ctx context.Context, w *world) error {
	r.Machine, r.Go, r.Congestion = document.ThisMachine(), runtime.Version(), document.Content("/proc/sys/net/ipv4/tcp_congestion_control")
	var err error
	if r.PgBouncer, err = version(ctx, "pgbouncer", "--version"); err != nil {
		return err
	}
	text, err := os.ReadFile(w.cluster.Nodes[0].Log)
	if err != nil {
		return err
	}
	if _, rest, ok := bytes.Cut(text, []byte(`"version":"`)); ok {
		v, _, _ := bytes.Cut(rest, []byte(`"`))
		r.Node = string(v)
	}
	conn, err := w.super(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // what it did was looked at
	return conn.QueryRow(ctx, "SHOW server_version").Scan(&r.PostgreSQL)
}

// write leaves the JSON document and the table where they were asked for.
func (r *report) write(o *options) error {
	for i := range r.Lines {
		l := &r.Lines[i]
		if l.goal != nil {
			l.Must, l.Aim, l.Verdict = &l.goal.must, &l.goal.aim, l.verdict()
		}
	}
	if o.json != "" {
		if err := document.WriteJSON(o.json, r); err != nil {
			return err
		}
	}
	if o.markdown == "" {
		return nil
	}
	return document.Replace(o.markdown, "bench", r.markdown())
}

// markdown is machine, versions and table.
func (r *report) markdown() string {
	var b strings.Builder
	kind := "full"
	if r.Quick {
		kind = "quick"
	}
	fmt.Fprintf(&b, "\nMeasured %s, %s run of %s, %d pairs of %g s a row. %d cores (%s), Linux %s, TCP congestion control %s. "+
		"hyperion-vault %s (%s), PostgreSQL %s, %s.\n\n", r.Date, kind, r.Took, r.Pairs, r.Seconds, r.Cores, r.CPU, r.Kernel, r.Congestion,
		r.Node, r.Go, r.PostgreSQL, r.PgBouncer)
	b.WriteString("| load | figure | node | compared with | | ratio | must | aim | reached |\n|---|---|--:|---|--:|--:|--:|--:|---|\n")
	last := ""
	for _, l := range r.Lines {
		name := l.Row
		if name == last {
			name = ""
		}
		last = l.Row
		must, aim, verdict := "", "", l.verdict()
		if l.goal != nil {
			sign := "≥ "
			if l.goal.most {
				sign = "≤ "
			}
			must, aim = sign+short(l.goal.must), sign+short(l.goal.aim)
			if verdict == "missed" {
				verdict = "**missed**"
			}
		}
		peer := l.PeerName
		for _, o := range l.Others {
			peer += fmt.Sprintf(" (%s: %s)", o.Name, figure(o.Value))
		}
		ratio := strconv.FormatFloat(l.Ratio, 'f', 2, 64)
		if l.absolute {
			ratio = ""
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", name, l.What, figure(l.Node), peer, figure(l.Peer), ratio, must, aim, verdict)
	}
	b.WriteByte('\n')
	return b.String()
}

func short(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// figure is three digits of a number.
func figure(f float64) string {
	switch {
	case f >= 100:
		return strconv.FormatFloat(f, 'f', 0, 64)
	case f >= 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 2, 64)
}
