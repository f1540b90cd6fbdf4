// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

// metrics counts by outcome. No label holds a secret's name.
type metrics struct {
	opens, seals, verifies *prometheus.CounterVec
	opened                 prometheus.Counter // opens that went well
	lockouts               prometheus.Counter
	rotations              *prometheus.CounterVec
	ticks                  prometheus.Counter
	shipFailures           *prometheus.CounterVec
	panics                 prometheus.Counter
	sealing                prometheus.Histogram
}

// PhaseHelp explains the one metric to which this package and its callers add phases.
const PhaseHelp = "Time of the phases of vault calls: parse (of a statement that may be one), lock (the server reserves versions, or looks up what is verified), seal."

func newMetrics() *metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "hyperion_vault", Name: name, Help: help}, []string{"outcome"})
	}
	m := &metrics{
		opens:     counter("opens_total", "Sealed values opened, by outcome; a failed buffer counts once."),
		seals:     counter("seals_total", "Values sealed, by outcome."),
		verifies:  counter("verifies_total", "Values verified, by outcome."),
		rotations: counter("rotations_total", "Automatic rotations that this node tried, by outcome; overtaken: another did it, or it was called off."),
		ticks:     prometheus.NewCounter(prometheus.CounterOpts{Namespace: "hyperion_vault", Name: "ticks_total", Help: "Rounds of housekeeping for which this node stood in."}),
	}
	m.shipFailures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "hyperion_vault", Name: "audit_ship_failures_total", Help: "Attempts to ship audit records that failed, by cause.",
	}, []string{"cause"})
	m.panics = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "hyperion_vault", Name: "background_errors_total", Help: "Internal errors of what goes on beside sessions and requests; it is begun again.",
	})
	m.opened = m.opens.WithLabelValues("ok")
	m.sealing = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "hyperion_vault", Name: "phase_seconds", Help: PhaseHelp, ConstLabels: prometheus.Labels{"phase": "seal"},
		Buckets: prometheus.ExponentialBuckets(1e-6, 4, 8),
	})
	m.lockouts = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "hyperion_vault", Name: "lockouts_total", Help: "Clients locked by this node for sending unknown tokens by REST.",
	})
	m.start()
	return m
}

// start has all outcomes there from the beginning: of a counter that appears as 1
// nobody sees that it has risen.
func (m *metrics) start() {
	for kind := range kindCount {
		for _, c := range []*prometheus.CounterVec{m.opens, m.seals, m.verifies, m.rotations} {
			c.WithLabelValues(kind.String())
		}
	}
	m.seals.WithLabelValues("ok")
	for _, outcome := range []string{"match", "miss"} {
		m.verifies.WithLabelValues(outcome)
	}
	for _, outcome := range []string{"ok", "overtaken"} {
		m.rotations.WithLabelValues(outcome)
	}
	for _, cause := range []string{shipConflict, shipForked, shipSpool, shipInternal} {
		m.shipFailures.WithLabelValues(cause)
	}
}

func (m *metrics) open(err error, n int) {
	if err != nil {
		m.opens.WithLabelValues(KindOf(err).String()).Inc()
		return
	}
	m.opened.Add(float64(n))
}

func (m *metrics) seal(err error) {
	outcome := "ok"
	if err != nil {
		outcome = KindOf(err).String()
	}
	m.seals.WithLabelValues(outcome).Inc()
}

func (m *metrics) verify(err error, matched bool) {
	outcome := "miss"
	switch {
	case err != nil:
		outcome = KindOf(err).String()
	case matched:
		outcome = "match"
	}
	m.verifies.WithLabelValues(outcome).Inc()
}

func (m *metrics) shipFailed(cause string) { m.shipFailures.WithLabelValues(cause).Inc() }

// register adds the counters and what the sealer counts.
func (m *metrics) register(r prometheus.Registerer, v *Vault) error {
	all := []prometheus.Collector{m.opens, m.seals, m.verifies, m.rotations, m.ticks, m.lockouts, m.shipFailures, m.panics, m.sealing}
	for name, state := range map[string]func(Rotation) int64{
		"open":    func(r Rotation) int64 { return r.Open },
		"failing": func(r Rotation) int64 { return r.Failing },
	} {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "hyperion_vault", Name: "rotation_jobs", ConstLabels: prometheus.Labels{"state": name},
			Help: "Rotations that are due and not done, and secrets of which the last attempt failed, in the whole vault.",
		}, func() float64 { return float64(state(v.Rotation())) }))
	}
	stat := func(name, help string, value func(envelope.Stats) float64) {
		read := func() float64 {
			s := v.sealer.Load()
			if s == nil {
				return 0
			}
			return value(s.Stats())
		}
		if o := (prometheus.Opts{Namespace: "hyperion_vault", Name: name, Help: help}); name == "dek_cache_entries" || name == "dek_cache_capacity" {
			all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts(o), read))
		} else {
			all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts(o), read))
		}
	}
	if v.maxStaleness > 0 {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "hyperion_vault", Name: "staleness_seconds", Help: "How old is what the server beside the node shows; +Inf: not known.",
		}, func() float64 {
			if age, known := v.Staleness(); known {
				return age.Seconds()
			}
			return math.Inf(1)
		}))
	}
	stat("dek_cache_hits_total", "Data keys found in the cache.", func(s envelope.Stats) float64 { return float64(s.Hits) })
	stat("dek_cache_misses_total", "Data keys not found in the cache.", func(s envelope.Stats) float64 { return float64(s.Misses) })
	stat("dek_cache_entries", "Data keys in the cache.", func(s envelope.Stats) float64 { return float64(s.Cached) })
	stat("dek_cache_capacity", "Data keys that the cache can hold.", func(s envelope.Stats) float64 { return float64(s.Capacity) })
	stat("kms_calls_total", "Calls of the KMS; one with its retries counts once.", func(s envelope.Stats) float64 { return float64(s.KMSCalls) })
	stat("kms_failures_total", "Calls of the KMS that failed.", func(s envelope.Stats) float64 { return float64(s.KMSFailures) })
	all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "hyperion_vault", Name: "audit_waiting_seconds", Help: "For how long audit records have been waiting without one being shipped; 0: none are.",
	}, func() float64 { return v.Shipping().Waited.Seconds() }))
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("vault: metrics: %w", err)
		}
	}
	return nil
}

// levelOf: an attack or a mix-up is an error; what heals by itself a warning.
func levelOf(err error) slog.Level {
	if KindOf(err) == KindTampered {
		return slog.LevelError
	}
	return slog.LevelWarn
}

// errAttrs is an error for the node's log.
func errAttrs(err error) []slog.Attr {
	var e *Error
	if !errors.As(err, &e) {
		return []slog.Attr{slog.String("error", err.Error())}
	}
	attrs := []slog.Attr{slog.String("kind", e.Kind.String()), slog.String("error", e.Error())}
	if e.Secret != "" {
		attrs = append(attrs, slog.String("secret", e.Secret))
	}
	if e.Hint != "" {
		attrs = append(attrs, slog.String("hint", e.Hint))
	}
	return attrs
}
