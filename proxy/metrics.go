// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// LimitedHelp is the help of a counter that the REST face has too.
const LimitedHelp = "Clients turned away by a limit of the node's."

// metrics are the proxy's counters. No label holds a name of a secret, role or
// database.
type metrics struct {
	connections prometheus.Counter
	sessions    prometheus.Gauge
	panics      prometheus.Counter
	logins      *prometheus.CounterVec // by outcome
	calls       *prometheus.CounterVec // vault calls by kind and outcome
	cancels     prometheus.Counter
	limited     map[string]prometheus.Counter // by limit; REST has one more
	moves       *prometheus.CounterVec        // of sessions between servers, by where to and outcome
	parse, lock prometheus.Histogram          // phases of calls
}

func newMetrics() *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "hyperion_vault", Name: name, Help: help}
	}
	phase := func(name string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "hyperion_vault", Name: "phase_seconds", Help: vault.PhaseHelp,
			ConstLabels: prometheus.Labels{"phase": name}, Buckets: buckets,
		})
	}
	m := &metrics{
		connections: prometheus.NewCounter(prometheus.CounterOpts(opts("connections_total", "Connections accepted by the proxy."))),
		sessions:    prometheus.NewGauge(prometheus.GaugeOpts(opts("sessions", "Sessions logged in through the proxy."))),
		panics:      prometheus.NewCounter(prometheus.CounterOpts(opts("internal_errors_total", "Sessions closed by an internal error."))),
		logins:      prometheus.NewCounterVec(prometheus.CounterOpts(opts("logins_total", "Log-ins by outcome.")), []string{"outcome"}),
		calls:       prometheus.NewCounterVec(prometheus.CounterOpts(opts("calls_total", "Vault calls of clients by kind and outcome.")), []string{"call", "outcome"}),
		cancels:     prometheus.NewCounter(prometheus.CounterOpts(opts("cancels_total", "Cancel requests that named a living session."))),
		limited:     map[string]prometheus.Counter{},
		moves:       prometheus.NewCounterVec(prometheus.CounterOpts(opts("moves_total", "Moves of sessions to the primary and back, by outcome.")), []string{"to", "outcome"}),
		parse:       phase("parse", prometheus.ExponentialBuckets(1e-6, 4, 10)),
		lock:        phase("lock", prometheus.ExponentialBuckets(1e-4, 4, 10)),
	}
	m.start()
	return m
}

// start has what may be counted there from the beginning: of a counter that appears
// as 1 nobody sees that it has risen.
func (m *metrics) start() {
	for _, outcome := range []string{"ok", "refused"} {
		m.logins.WithLabelValues(outcome)
	}
	for _, limit := range []string{"pending", "cancel", "login"} {
		m.limited[limit] = prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "hyperion_vault", Name: "limited_total", Help: LimitedHelp, ConstLabels: prometheus.Labels{"limit": limit},
		})
	}
	for _, to := range []string{"primary", "standby"} {
		for _, outcome := range []string{"ok", "refused", "broken"} {
			m.moves.WithLabelValues(to, outcome)
		}
	}
}

// register makes the counters known, and what the server has at the moment.
func (m *metrics) register(r prometheus.Registerer, s *Server) error {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "hyperion_vault", Name: name, Help: help}, value)
	}
	var errs []error
	for _, c := range m.limited {
		errs = append(errs, r.Register(c))
	}
	for _, c := range []prometheus.Collector{
		m.connections, m.sessions, m.panics, m.logins, m.calls, m.cancels, m.moves, m.parse, m.lock,
		gauge("pending_connections", "Connections that have not logged in yet.", func() float64 { return float64(s.lobby.Len()) }),
		gauge("held_bytes", "Memory for unfinished messages beyond the buffers.", func() float64 { return float64(s.held.Used()) }),
	} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}
