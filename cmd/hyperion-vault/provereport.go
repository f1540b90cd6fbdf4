// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
)

// Verdicts.
const (
	verdictProved = "proved"
	verdictFound  = "found"
	verdictBlind  = "not proved"
)

// maxListed findings are listed; more are counted.
const maxListed = 1000

// A proof is what was done and found. Nothing of it shows a value.
type proof struct {
	Verdict   string        `json:"verdict"`
	Run       string        `json:"run"`
	Doors     int           `json:"doors"`
	RESTDoors int           `json:"rest_doors"`
	NotOpened []unopened    `json:"not_opened"`
	Logging   string        `json:"logging"`
	Settings  []string      `json:"settings_changed"`
	Looked    []looked      `json:"looked"`
	NotLooked []notLooked   `json:"not_looked"`
	Findings  []foundCanary `json:"findings"`
	More      int           `json:"more_findings"`
	Notes     []string      `json:"notes"`
	Faults    []string      `json:"faults"`
	Left      []string      `json:"left"`
}

// unopened is a door that no value went through.
type unopened struct {
	Door   string `json:"door"`
	Reason string `json:"reason"`
}

// looked is a place that was looked through.
type looked struct {
	Kind    string `json:"kind"`
	Place   string `json:"place"`
	Files   int64  `json:"files"` // of views: rows
	Bytes   int64  `json:"bytes"`
	Skipped int64  `json:"older_files"`
	Control bool   `json:"control"`
	Found   int    `json:"findings"`

	findings []canary.Finding
}

// notLooked is one that was not.
type notLooked struct {
	Kind   string `json:"kind"`
	Place  string `json:"place,omitempty"`
	Reason string `json:"reason"`
}

// foundCanary is a value where it must not be.
type foundCanary struct {
	Place  string `json:"place"`
	Offset int64  `json:"offset"`
	Door   string `json:"door"`
	Form   string `json:"form"`
}

// fault is why nothing is proved.
func (r *proof) fault(format string, args ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

func (r *proof) notLooked(kind, place, reason string, named bool) {
	r.NotLooked = append(r.NotLooked, notLooked{kind, place, reason})
	if named {
		r.fault("%s %s: %s", kind, place, reason)
	}
}

func (r *proof) found(findings []canary.Finding) {
	for _, f := range findings {
		if len(r.Findings) >= maxListed {
			r.More++
			continue
		}
		r.Findings = append(r.Findings, foundCanary{f.Place, f.Offset, f.Canary.Door, f.Form})
	}
}

// has says whether a place of the kind was looked through.
func (r *proof) has(kind string) bool {
	return slices.ContainsFunc(r.Looked, func(l looked) bool { return l.Kind == kind })
}

// notNamed lists the kinds of places that nobody has named.
func (p *prover) notNamed() {
	flags := map[string]string{
		kindData: "--data-dir", kindWAL: "--data-dir", kindLog: "--log", kindNodeLog: "--node-log", kindAudit: "--audit-dir", kindViews: "--server",
		kindBackup: "--base-backup", kindDump: "--dump",
	}
	for _, kind := range kinds {
		if !p.report.has(kind) && !slices.ContainsFunc(p.report.NotLooked, func(n notLooked) bool { return n.Kind == kind }) {
			p.report.notLooked(kind, "", flags[kind]+" was not given", false)
		}
	}
}

// judge decides what all of it says.
func (p *prover) judge() {
	r := &p.report
	if len(r.Looked) == 0 {
		r.fault("nothing was looked at")
	}
	for _, kind := range p.c.Require {
		met := r.has(kind)
		switch kind {
		case requireDoors:
			met = r.Doors == len(canary.Doors())
		case requireREST:
			met = r.RESTDoors > 0
		}
		if !met {
			r.fault("--require %s: it was not looked at, or not all opened", kind)
		}
	}
	for _, left := range r.Left {
		r.fault("left behind: %s", left)
	}
	switch {
	case len(r.Findings) > 0:
		r.Verdict = verdictFound
	case len(r.Faults) > 0:
		r.Verdict = verdictBlind
	default:
		r.Verdict = verdictProved
	}
}

// writeProof is for people.
func writeProof(w io.Writer, r *proof) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) {
		for i, arg := range args { // may be anybody's text
			if text, ok := arg.(string); ok {
				args[i] = shown(text)
			}
		}
		_, _ = fmt.Fprintf(t, format+"\n", args...) // Flush says what went wrong
	}
	line("run %s: random values through %d doors of SQL and %d of REST; logged: %s", r.Run, r.Doors, r.RESTDoors, r.Logging)
	for _, setting := range r.Settings {
		line("  for this time: %s", setting)
	}
	writeNotOpened(line, r.NotOpened)
	line("\nlooked at:")
	for _, l := range r.Looked {
		control, found, older := "control found", "no value", ""
		if !l.Control {
			control = "CONTROL NOT FOUND"
		}
		if l.Found > 0 {
			found = fmt.Sprintf("%d FOUND", l.Found)
		}
		if l.Skipped > 0 {
			older = fmt.Sprintf("%d older files left out", l.Skipped)
		}
		texts := "files"
		if l.Kind == kindViews {
			texts = "rows"
		}
		line("  %s\t%s\t%d %s\t%s\t%s\t%s\t%s", l.Kind, l.Place, l.Files, texts, size(l.Bytes), control, found, older)
	}
	for _, note := range r.Notes {
		line("  note: %s", note)
	}
	line("\nnot looked at:")
	for _, n := range r.NotLooked {
		line("  %s\t%s\t%s", n.Kind, n.Place, n.Reason)
	}
	line("")
	for _, f := range r.Findings {
		line("FOUND %s, at byte %d: %s of the value that went through door %q", f.Place, f.Offset, f.Form, f.Door)
	}
	if r.More > 0 {
		line("findings that are not listed: %d", r.More)
	}
	for _, fault := range r.Faults {
		line("NOT PROVED %s", fault)
	}
	switch r.Verdict {
	case verdictProved:
		line("proved: none of the values is in what was looked at, and a control in clear is in each of these places")
	case verdictFound:
		line("values were found in clear")
	default:
		line("nothing was found, and nothing is proved")
	}
	return t.Flush()
}

// writeNotOpened has a line for each reason.
func writeNotOpened(line func(string, ...any), all []unopened) {
	var reasons []string
	doors := map[string][]string{}
	for _, u := range all {
		if doors[u.Reason] == nil {
			reasons = append(reasons, u.Reason)
		}
		doors[u.Reason] = append(doors[u.Reason], u.Door)
	}
	for _, reason := range reasons {
		line("  not opened: %s: %s", strings.Join(doors[reason], "; "), reason)
	}
}

// writeProofJSON is for programs.
func writeProofJSON(w io.Writer, r *proof) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}
