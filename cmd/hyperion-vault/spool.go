// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// openSpool takes the spool in the node's directory. Whoever starts a node for the
// first time is shown what to trust: a line for audit verify --trust.
func openSpool(ctx context.Context, c *nodeConfig, newIdentity bool, log *slog.Logger) (*audit.Spool, error) {
	o := c.spool
	o.NewIdentity, o.Log = newIdentity, log
	if c.ship == vault.ShipWrites {
		o.Remark = vault.RemarkShipWrites
	}
	s, err := audit.Open(c.auditDir, o)
	switch {
	case errors.Is(err, audit.ErrDamaged):
		return nil, fmt.Errorf("VAULT_AUDIT_DIR: %w; keep it for an examination: serve --new-identity sets it aside and begins anew", err)
	case err != nil:
		return nil, fmt.Errorf("VAULT_AUDIT_DIR: %w", err)
	}
	if node, key, first := s.Identity(); first {
		log.InfoContext(ctx, "audit identity", "node_id", node.String(), "key", string(key), "trust", trustLine(node, key))
	}
	return s, nil
}

// trustLine is how audit verify is told whom to trust.
func trustLine(node audit.NodeID, key audit.Fingerprint) string {
	return node.String() + " " + string(key)
}

// auditFault is what readyz says of the audit; empty: all is well.
func (n *node) auditFault() string {
	st := n.spool.Status()
	switch {
	case errors.Is(st.Err, audit.ErrForked):
		return "the vault has records of this node that the node has not (was it cloned or restored?): no secret is opened"
	case st.Err != nil:
		return "records cannot be written: no secret is opened"
	case st.Low:
		return "there is little space left for records"
	}
	return ""
}

// spoolGauges show the spool to Prometheus.
func (n *node) spoolGauges() []prometheus.Collector {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "hyperion_vault", Subsystem: "audit", Name: name, Help: help}
	}
	gauge := func(name, help string, value func(audit.Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts(name, help)), func() float64 { return value(n.spool.Status()) })
	}
	return []prometheus.Collector{
		gauge("last_record", "Number of the last record of this node; counts all that were ever appended.", func(s audit.Status) float64 { return float64(s.Last) }),
		gauge("durable_record", "Number of the last record that is synced to the disk.", func(s audit.Status) float64 { return float64(s.Durable) }),
		gauge("shipped_record", "Number of the last record that was read back from the vault.", func(s audit.Status) float64 { return float64(s.Shipped) }),
		gauge("segments", "Files of the spool.", func(s audit.Status) float64 { return float64(s.Segments) }),
		gauge("free_bytes", "Space left on the spool's disk, as of the last look.", func(s audit.Status) float64 { return float64(s.Free) }),
	}
}

// checkSpool says what a start would find in the node's directory.
func (n *node) checkSpool(l *checklist) {
	found, err := audit.Peek(n.config.auditDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.ok("audit", "%s: the first start makes the spool and its key", n.config.auditDir)
	case errors.Is(err, audit.ErrLocked):
		l.note("audit", "%s is in use by a node that runs: `hyperion-vault status` asks it", n.config.auditDir)
	case errors.Is(err, audit.ErrDamaged):
		l.fault("audit", err.Error(), "keep it for an examination: serve --new-identity sets it aside and begins anew")
	case err != nil:
		l.fault("audit", err.Error(), "see VAULT_AUDIT_DIR")
	default:
		l.ok("audit", "%s: %d records of node %s", n.config.auditDir, found.Last.Seq, trustLine(found.Node, found.Key))
	}
}
