// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// auditVerifyCommand checks chains, heads and changes.
type auditVerifyCommand struct {
	auditSource `embed:""`

	Export   string        `placeholder:"FILE" help:"Read what audit export has written, - for stdin, in place of the vault."`
	Trust    string        `placeholder:"FILE" help:"The keys that count: lines of a node id and a fingerprint, as each node prints them at its first start. Without it no key does, and each chain is a finding."`
	Heads    []string      `placeholder:"FILE" sep:"none" help:"An earlier export, whose heads show what was cut off or written anew since. May be given again."`
	Part     bool          `help:"What is read is a part (audit export --since): chains may begin anywhere, and nodes may be missing."`
	OfSpool  bool          `name:"of-spool" help:"What --export names was read in a spool (audit export --spool): a part, and ahead of its last head. --spool says so too."`
	MinAge   time.Duration `default:"2160h" help:"Records that are younger must be there: hyperion_vault.audit_min_age of the servers. Older ones may have been deleted behind a head."`
	Grace    time.Duration `default:"5m" help:"A younger change may have no record yet: that may be on its way."`
	Restored []string      `placeholder:"NODE:FROM-TO" sep:"none" help:"These records were lost as the vault was restored: a note, if the node says so too, and no finding. May be given again."`
	Writes   []string      `name:"ship-writes" placeholder:"NODE" sep:"none" help:"This node ships writes alone: what it withholds is a note also where the start that says so was deleted for its age, or no head proves it. May be given again."`
	Progress bool          `help:"Tell every few seconds how far it is, also where stderr is no terminal."`
	JSON     bool          `name:"json" help:"Print what was found as one object of JSON."`
}

// Run prints what was found. It fails if that is anything.
func (c *auditVerifyCommand) Run(ctx context.Context, std *streams) error {
	if c.Export != "" && (c.Spool != "" || c.Database != "") {
		return faultf("--export, --spool and --database are three places: name one")
	}
	if c.OfSpool && c.Export == "" && c.Spool == "" {
		return faultf("--of-spool goes with --export: the vault's tables are under their heads")
	}
	if c.MinAge < 0 || c.Grace < 0 {
		return faultf("--min-age %v, --grace %v: they should be times like 2160h and 5m", c.MinAge, c.Grace)
	}
	if c.readsStdin() > 1 {
		return faultf("--export and --heads name - more than once: stdin can be read once")
	}
	demands, err := c.demands()
	if err != nil {
		return err
	}
	report, err := c.verify(ctx, std, demands)
	if err != nil {
		return blind(err)
	}
	write := writeReport
	if c.JSON {
		write = writeReportJSON
	}
	if err := write(std.out, report); err != nil || report.OK() {
		return blind(err)
	}
	if slices.ContainsFunc(report.Findings, func(f audit.Finding) bool { return f.Kind == audit.LostByRestore }) {
		_, _ = fmt.Fprintln(std.err, "hyperion-vault: who knows that the vault was restored then says so by --restored NODE:FROM-TO; else somebody has deleted these records") // nobody to tell
	}
	if slices.ContainsFunc(report.Findings, func(f audit.Finding) bool { return f.Kind == audit.Withheld }) {
		_, _ = fmt.Fprintln(std.err, "hyperion-vault: who knows that a node runs with VAULT_AUDIT_SHIP=writes says so by --ship-writes NODE; else somebody hides what these records say") // nobody to tell
	}
	if c.Trust == "" {
		_, _ = fmt.Fprintln(std.err, "hyperion-vault: no key is trusted: --trust names a file with a line for each node") // nobody to tell
	}
	return errReported
}

// readsStdin counts the flags that name stdin.
func (c *auditVerifyCommand) readsStdin() (n int) {
	for _, path := range append([]string{c.Export}, c.Heads...) {
		if path == "-" {
			n++
		}
	}
	return n
}

func (c *auditVerifyCommand) demands() (audit.Demands, error) {
	spool := c.Spool != "" || c.OfSpool
	d := audit.Demands{MinAge: c.MinAge, Grace: c.Grace, Part: c.Part || spool, Ahead: spool}
	for _, text := range c.Restored {
		r, err := audit.ParseRange(text)
		if err != nil {
			return d, faultf("--restored %q: it should be NODE:FROM-TO: %s", text, err)
		}
		d.Restored = append(d.Restored, r)
	}
	for _, text := range c.Writes {
		node, err := audit.ParseNodeID(text)
		if err != nil {
			return d, faultf("--ship-writes %q: %s", text, err)
		}
		d.Writes = append(d.Writes, node)
	}
	var err error
	d.Trust, err = c.trust()
	return d, err
}

func (c *auditVerifyCommand) trust() (audit.Trust, error) {
	if c.Trust == "" {
		return nil, nil //nolint:nilnil // nobody is trusted
	}
	text, err := os.ReadFile(c.Trust)
	if err != nil {
		return nil, faultf("--trust %q: %s", c.Trust, cause(err))
	}
	trust, err := audit.ParseTrust(string(text))
	if err != nil {
		return nil, faultf("--trust %q, %s", c.Trust, err)
	}
	return trust, nil
}

func (c *auditVerifyCommand) verify(ctx context.Context, std *streams, d audit.Demands) (*audit.Report, error) {
	var e *audit.Evidence
	var source io.Closer
	var err error
	if c.Export != "" {
		e, source, err = gatherExport(c.Export, std)
	} else {
		e, source, err = c.gather(ctx, time.Time{}, std)
	}
	if source != nil {
		defer func() { _ = source.Close() }() // nothing was written
	}
	if err != nil {
		return nil, err
	}
	if now := time.Now(); e.At.After(now) {
		e.At = now // nobody vouches for it, also not for the server's, and it makes records older
	}
	for _, path := range c.Heads {
		earlier, file, err := gatherExport(path, std)
		if err != nil {
			return nil, err
		}
		_ = file.Close() // nothing was written
		e.Heads = append(e.Heads, earlier.Heads...)
	}
	if c.Progress || isTerminal(std.err) {
		e.Rows = watched(e.Rows, std)
	}
	return e.Verify(ctx, d)
}

// writeReport is for people.
func writeReport(w io.Writer, r *audit.Report) error {
	var b strings.Builder
	for _, n := range r.Nodes {
		switch {
		case n.Last == 0:
			fmt.Fprintf(&b, "node %v: no records\n", n.Node)
		case n.Proven == 0:
			fmt.Fprintf(&b, "node %v: records %d to %d, none proven by a trusted head\n", n.Node, n.First, n.Last)
		default:
			fmt.Fprintf(&b, "node %v: records %d to %d, proven up to %d\n", n.Node, n.First, n.Last, n.Proven)
		}
	}
	if r.Compared > 0 {
		fmt.Fprintf(&b, "changes compared with records: %d\n", r.Compared)
	}
	for _, f := range r.Notes {
		fmt.Fprintf(&b, "note: %v\n", f)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "FOUND %v\n", f)
	}
	if r.MoreNotes > 0 {
		fmt.Fprintf(&b, "notes that are not listed: %d\n", r.MoreNotes)
	}
	if r.MoreFindings > 0 {
		fmt.Fprintf(&b, "FOUND more that is not listed: %d\n", r.MoreFindings)
	}
	if r.OK() {
		b.WriteString("nothing is wrong\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// found is a finding or a note in JSON.
type found struct {
	Kind   audit.Kind `json:"kind"`
	Node   string     `json:"node,omitempty"`
	Seq    uint64     `json:"seq,omitempty"`
	Change int64      `json:"change,omitempty"`
	Detail string     `json:"detail"`
}

func foundOf(list []audit.Finding) []found {
	all := make([]found, 0, len(list))
	for _, f := range list {
		one := found{Kind: f.Kind, Seq: f.Seq, Change: f.Change, Detail: f.Detail}
		if f.Node != (audit.NodeID{}) {
			one.Node = f.Node.String()
		}
		all = append(all, one)
	}
	return all
}

// writeReportJSON is for programs.
func writeReportJSON(w io.Writer, r *audit.Report) error {
	type chain struct {
		Node   string `json:"node"`
		First  uint64 `json:"first"`
		Last   uint64 `json:"last"`
		Proven uint64 `json:"proven"`
	}
	answer := struct {
		OK           bool    `json:"ok"`
		Nodes        []chain `json:"nodes"`
		Compared     int     `json:"changes_compared"`
		Findings     []found `json:"findings"`
		Notes        []found `json:"notes"`
		More         int     `json:"more"` // of both
		MoreFindings int     `json:"more_findings"`
	}{r.OK(), []chain{}, r.Compared, foundOf(r.Findings), foundOf(r.Notes), r.MoreFindings + r.MoreNotes, r.MoreFindings}
	for _, n := range r.Nodes {
		answer.Nodes = append(answer.Nodes, chain{n.Node.String(), n.First, n.Last, n.Proven})
	}
	line, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", line)
	return err
}
