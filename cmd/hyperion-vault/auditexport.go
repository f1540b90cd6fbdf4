// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// auditExportCommand writes the audit for elsewhere.
type auditExportCommand struct {
	auditSource `embed:""`

	Since    string `placeholder:"TIME" help:"Leave out what is older, as far as a head proves where the rest follows: 2026-11-29, 2026-11-29T12:00:00Z, or an age like 24h."`
	HeadOnly bool   `name:"heads-only" help:"Write the heads alone: they are enough to find out later what was cut off or written anew."`
	Progress bool   `help:"Tell every few seconds how far it is, also where stderr is no terminal."`
}

// Run writes lines of JSON. Who reads them sees whether they are all.
func (c *auditExportCommand) Run(ctx context.Context, std *streams) error {
	since, err := parseSince(c.Since, time.Now())
	if err != nil {
		return err
	}
	if c.Spool != "" && c.Since != "" {
		return faultf("--since goes with the vault's tables, not with --spool")
	}
	e, source, err := c.gather(ctx, since, std)
	if source != nil {
		defer func() { _ = source.Close() }() // nothing was written
	}
	if err != nil {
		return blind(err)
	}
	switch {
	case c.HeadOnly:
		e.Rows, e.Changes = func(func(audit.Row, error) bool) {}, nil
	case c.Progress || isTerminal(std.err):
		e.Rows = watched(e.Rows, std)
	}
	return blind(e.Export(ctx, std.out))
}

// parseSince reads a date, a time or an age.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if age, err := time.ParseDuration(text); err == nil && age >= 0 {
		return now.Add(-age), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil && t.Unix() > 0 && t.Before(now) {
			return t, nil
		}
	}
	return time.Time{}, faultf("--since %q: it should be a date, a time like 2026-11-29T12:00:00Z, or an age like 24h", text)
}
