// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// print writes what people want to see.
func (s *nodeStatus) print(w io.Writer, sessions bool) error {
	t := newTable(w)
	t.line("node", s.Node+", "+s.Version)
	t.line("vault", orDash(s.VaultID)+", extension "+orDash(s.Extension))
	t.line("status", s.Status)
	t.line("server", join(s.Parts["server"], s.Role))
	if text := s.replayText(); text != "" {
		t.line("replay", text)
	}
	primary := s.Parts["primary"]
	if s.Primary != "" {
		primary = s.Primary
	}
	t.line("primary", primary)
	t.line("kms", s.KMS.text())
	t.line("cache", s.Cache.text())
	t.line("rotation", s.Rotation.text())
	t.line("audit", s.Audit.text(s.Parts["audit"]))
	if text := s.Parts["node"]; text != "" {
		t.line("node", text)
	}
	moved := 0
	for _, i := range s.Sessions {
		if i.Moved {
			moved++
		}
	}
	t.line("sessions", fmt.Sprintf("%d, %d of them gone to the primary", len(s.Sessions), moved))
	err := errors.Join(t.end(), s.printServers(w), s.printAuditNodes(w))
	if err != nil || !sessions {
		return err
	}
	return s.printSessions(w)
}

func (s *nodeStatus) replayText() string {
	bound := time.Duration(s.MaxStaleness * float64(time.Second))
	switch {
	case bound == 0:
		return ""
	case s.Staleness == nil:
		return fmt.Sprintf("how old what the server shows is cannot be told (VAULT_MAX_STALENESS=%s)", bound)
	}
	return fmt.Sprintf("what the server shows is %.1f s old (VAULT_MAX_STALENESS=%s)", *s.Staleness, bound)
}

func (s *nodeStatus) printServers(w io.Writer) error {
	t := newTable(w)
	t.line()
	t.line("SERVER", "ROLE", "TIMELINE", "LAG", "POSTGRESQL", "")
	for _, at := range s.Servers {
		timeline, remark := "-", at.Error
		if at.Timeline > 0 {
			timeline = strconv.FormatUint(uint64(at.Timeline), 10)
		}
		if at.Role == "replaced" {
			remark = "another server has replaced it as the primary"
		}
		if at.Role == "foreign" {
			remark = "it is of another cluster"
		}
		lag := "-"
		if at.Lag != nil {
			lag = size(*at.Lag)
		}
		if at.Beside {
			remark = join("beside this node", remark)
		}
		version, _, _ := strings.Cut(at.Version, " ") // who has packaged it is for JSON
		t.line(at.Address, orDash(at.Role), timeline, lag, orDash(version), remark)
	}
	return t.end()
}

func (s *nodeStatus) printAuditNodes(w io.Writer) error {
	if len(s.AuditNodes) == 0 {
		return nil
	}
	t := newTable(w)
	t.line()
	t.line("AUDIT OF NODE", "SHIPPED", "LAST SIGNED", "")
	for _, a := range s.AuditNodes {
		at, remark := a.At, ""
		if parsed, err := time.Parse(time.RFC3339Nano, a.At); err == nil {
			at = parsed.UTC().Format("2006-01-02 15:04:05Z")
		}
		if a.Self {
			remark = "this node"
		}
		t.line(a.ID, a.Shipped, at, remark)
	}
	return t.end()
}

func (s *nodeStatus) printSessions(w io.Writer) error {
	t := newTable(w)
	t.line()
	t.line("PID", "ROLE", "DATABASE", "CLIENT", "STATE", "SERVER", "BACKEND", "COULD NOT GO")
	for _, i := range s.Sessions {
		t.line(i.PID, i.Role, i.Database, i.Client, i.State, i.Server, i.Backend, i.Why)
	}
	return t.end()
}

func (k *kmsStatus) text() string {
	state := "ok"
	if !k.Usable {
		state = k.Error
	}
	return fmt.Sprintf("%s; %s, key %s; %d calls, %d failed", state, k.Mode, orDash(k.Key), k.Calls, k.Failures)
}

func (c *cacheStatus) text() string {
	if c == nil {
		return "-"
	}
	locked := "in locked memory"
	if !c.Locked {
		locked = "in memory that is NOT locked"
	}
	return fmt.Sprintf("%d of %d data keys for %g s, %s; %d hits, %d misses", c.Entries, c.Capacity, c.TTL, locked, c.Hits, c.Misses)
}

func (r *rotationStatus) text() string {
	switch {
	case !r.Enabled:
		return "not by this node (VAULT_ROTATION_POLL_SECS=0)"
	case r.Error != "":
		return r.Error
	}
	claimed := ""
	if r.Claimed != nil {
		claimed = fmt.Sprintf(" %d claimed,", *r.Claimed)
	}
	return fmt.Sprintf("%d due,%s %d secrets failing", r.Due, claimed, r.Failing)
}

// text has what audit verify is told to trust.
func (a *auditStatus) text(state string) string {
	text := fmt.Sprintf("%s; %d records of node %s %s, %d of them shipped", state, a.Records, a.NodeID, a.Key, a.Shipped)
	if a.Ship == "off" {
		return text + " (VAULT_AUDIT_SHIP=off)"
	}
	if a.Depth > 0 {
		text += fmt.Sprintf("; %d wait, none was shipped for %.0f s", a.Depth, a.Waiting)
	}
	if a.Error != "" {
		text += ": " + a.Error
	}
	return text
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// join is what is not empty of both.
func join(a, b string) string { return strings.Trim(a+", "+b, ", ") }
