// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the proxy's counters. No label holds a name of a secret, role or
// database.
type metrics struct {
	connections prometheus.Counter
	sessions    prometheus.Gauge
	panics      prometheus.Counter
	logins      *prometheus.CounterVec // by outcome
	calls       *prometheus.CounterVec // vault calls by kind and outcome
	cancels     prometheus.Counter
	limited     *prometheus.CounterVec // by limit
	moves       *prometheus.CounterVec // of sessions between servers, by where to and outcome
}

func newMetrics() *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "hyperion_vault", Name: name, Help: help}
	}
	return &metrics{
		connections: prometheus.NewCounter(prometheus.CounterOpts(opts("connections_total", "Connections accepted by the proxy."))),
		sessions:    prometheus.NewGauge(prometheus.GaugeOpts(opts("sessions", "Sessions logged in through the proxy."))),
		panics:      prometheus.NewCounter(prometheus.CounterOpts(opts("internal_errors_total", "Sessions closed by an internal error."))),
		logins:      prometheus.NewCounterVec(prometheus.CounterOpts(opts("logins_total", "Log-ins by outcome.")), []string{"outcome"}),
		calls:       prometheus.NewCounterVec(prometheus.CounterOpts(opts("calls_total", "Vault calls of clients by kind and outcome.")), []string{"call", "outcome"}),
		cancels:     prometheus.NewCounter(prometheus.CounterOpts(opts("cancels_total", "Cancel requests that named a living session."))),
		limited:     prometheus.NewCounterVec(prometheus.CounterOpts(opts("limited_total", "Clients turned away by a limit of the node's.")), []string{"limit"}),
		moves:       prometheus.NewCounterVec(prometheus.CounterOpts(opts("moves_total", "Moves of sessions to the primary and back, by outcome.")), []string{"to", "outcome"}),
	}
}

// register makes the counters known, and what the server has at the moment.
func (m *metrics) register(r prometheus.Registerer, s *Server) error {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "hyperion_vault", Name: name, Help: help}, value)
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.connections, m.sessions, m.panics, m.logins, m.calls, m.cancels, m.limited, m.moves,
		gauge("pending_connections", "Connections that have not logged in yet.", func() float64 { return float64(s.lobby.len()) }),
		gauge("held_bytes", "Memory for unfinished messages beyond the buffers.", func() float64 { return float64(s.held.Used()) }),
	} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}
