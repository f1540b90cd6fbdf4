// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// openSpool takes the spool in the node's directory. Whoever starts a node for the
// first time is shown what to trust: a line for audit verify --trust.
func openSpool(ctx context.Context, c *nodeConfig, newIdentity bool, log *slog.Logger) (*audit.Spool, error) {
	o := c.spool
	o.NewIdentity, o.Log = newIdentity, log
	o.Panicked = func(p any) { vault.LogPanic(ctx, log, "audit spool", p) }
	if c.ship == vault.ShipWrites {
		o.Remark = audit.RemarkShipWrites
	}
	s, err := audit.Open(c.auditDir, o)
	switch {
	case errors.Is(err, audit.ErrDamaged):
		return nil, fmt.Errorf("VAULT_AUDIT_DIR: %w; keep it for an examination: serve --new-identity sets it aside and begins anew", err)
	case err != nil:
		return nil, auditDirFault(err)
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

// ship has records shipped to the vault, and old ones deleted there. finish returns
// when no more are.
func (n *node) ship(ctx context.Context, b *background) (finish func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	b.run(func() error {
		defer close(done)
		n.vault.Steadily(ctx, "shipping audit records", func(ctx context.Context) { n.vault.KeepShipping(ctx, n.spool, n.config.ship, stop) })
		return nil
	})
	if n.config.retention > 0 {
		n.steadily(ctx, b, "deleting old audit records", func(ctx context.Context) { n.vault.KeepPruning(ctx, n.config.retention) })
	}
	return func() {
		close(stop)
		<-done
	}
}

// longWaiting is how long records may wait for the vault before somebody should look.
const longWaiting = 5 * time.Minute

// auditFault is what readyz says of the audit; empty: all is well.
func (n *node) auditFault() string {
	st, shipping := n.spool.Status(), n.vault.Shipping()
	switch {
	case errors.Is(st.Err, audit.ErrForked):
		return "the vault has records of this node that the node has not (was it cloned or restored?): no secret is opened"
	case errors.Is(st.Err, audit.ErrPanic):
		return "an internal error has ended the audit (see the node's log): no secret is opened until the node is restarted"
	case st.Err != nil:
		return "records cannot be written: no secret is opened"
	case st.Low:
		return "there is little space left for records"
	case shipping.Alarm:
		return "records are not shipped; see the node's log"
	case shipping.Waited > longWaiting:
		return "records have been waiting for the vault for minutes"
	}
	return ""
}

// spoolStatus is for the operator.
func (n *node) spoolStatus() auditStatus {
	st, shipping := n.spool.Status(), n.vault.Shipping()
	id, key, _ := n.spool.Identity()
	s := auditStatus{
		NodeID: id.String(), Key: string(key), Ship: shipWord(n.config.ship), Records: st.Last, Durable: st.Durable, Shipped: st.Shipped,
		Waiting: shipping.Waited.Seconds(), Alarm: shipping.Alarm, Error: told(cmp.Or(st.Err, shipping.Err)),
		Segments: st.Segments, Free: st.Free, LowSpace: st.Low,
	}
	if n.config.ship != vault.ShipOff {
		s.Depth = st.Last - min(st.Shipped, st.Last)
	}
	return s
}

// shipWord is a value of VAULT_AUDIT_SHIP.
func shipWord(mode vault.ShipMode) string {
	return map[vault.ShipMode]string{vault.ShipAll: "all", vault.ShipWrites: "writes", vault.ShipOff: "off"}[mode]
}

// spoolGauges show the spool and its shipping to Prometheus. With part_usable they tell
// what /readyz does.
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
		gauge("low_space", "1 if less than VAULT_AUDIT_LOW_SPACE is left on the spool's disk.", func(s audit.Status) float64 { return oneIf(s.Low) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("ship_alarm", "1 if records are not shipped and somebody has to look: see the node's log.")),
			func() float64 { return oneIf(n.vault.Shipping().Alarm) }),
		gauge("free_bytes", "Space left on the spool's disk, as of the last look.", func(s audit.Status) float64 { return float64(s.Free) }),
	}
}

// oneIf is how Prometheus says yes and no.
func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// checkSpool says what a start would find in the node's directory, and in the vault.
func (n *node) checkSpool(ctx context.Context, l *checklist) {
	found, err := audit.Peek(n.config.auditDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		what := "the spool and its key"
		if _, err := os.Stat(n.config.auditDir); err != nil {
			what = "the directory, the spool and its key"
		}
		if err := canMake(n.config.auditDir); err != nil {
			l.fault("audit", fmt.Sprintf("%s: the first start could not make %s: %s", n.config.auditDir, what, err), "see VAULT_AUDIT_DIR")
			return
		}
		l.ok("audit", "%s: the first start makes %s", n.config.auditDir, what)
	case errors.Is(err, audit.ErrLocked):
		l.note("audit", "%s is in use by a node that runs: `hyperion-vault status` asks it", n.config.auditDir)
	case errors.Is(err, audit.ErrDamaged):
		l.fault("audit", err.Error(), "keep it for an examination: serve --new-identity sets it aside and begins anew")
	case err != nil:
		l.fault("audit", auditDirFault(err).Error(), "see VAULT_AUDIT_DIR")
	default:
		l.ok("audit", "%s: %d records of node %s", n.config.auditDir, found.Last.Seq, trustLine(found.Node, found.Key))
		n.checkShipped(ctx, l, found)
	}
}

func (n *node) checkShipped(ctx context.Context, l *checklist, found audit.Found) {
	at, err := n.vault.AuditPosition(ctx, found.Node)
	switch {
	case err != nil:
		what, _ := explain(err)
		l.note("audit", "the vault was not asked which records it has: %s", what)
	case at.Seq > found.Last.Seq, at.Seq == found.Last.Seq && at != found.Last:
		l.fault("audit", fmt.Sprintf("the vault has %d records of this node, which itself has %d, or others: one of the two is a copy", at.Seq, found.Last.Seq),
			"if this one is, start it once with serve --new-identity")
	}
}
