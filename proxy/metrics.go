// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

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
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "hyperion_vault", Name: name, Help: help}
	}
	m := &metrics{
		connections: prometheus.NewCounter(prometheus.CounterOpts(opts("connections_total", "Connections accepted by the proxy."))),
		sessions:    prometheus.NewGauge(prometheus.GaugeOpts(opts("sessions", "Sessions logged in through the proxy."))),
		panics:      prometheus.NewCounter(prometheus.CounterOpts(opts("internal_errors_total", "Sessions closed by an internal error."))),
		logins:      prometheus.NewCounterVec(prometheus.CounterOpts(opts("logins_total", "Log-ins by outcome.")), []string{"outcome"}),
		calls:       prometheus.NewCounterVec(prometheus.CounterOpts(opts("calls_total", "Vault calls of clients by kind and outcome.")), []string{"call", "outcome"}),
		cancels:     prometheus.NewCounter(prometheus.CounterOpts(opts("cancels_total", "Cancel requests that named a living session."))),
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.connections, m.sessions, m.panics, m.logins, m.calls, m.cancels} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

// panicSite names the first frame of ours below a panic.
func panicSite() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.Contains(f.Function, "hyperion-vault") && !strings.HasSuffix(f.Function, "recovered") && !strings.HasSuffix(f.Function, "rescue") {
			return fmt.Sprintf("%s:%d", f.Function, f.Line)
		}
		if !more {
			return "unknown"
		}
	}
}
