// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// Bounds of an HTTP exchange; a request here is a line and some headers.
const (
	httpHeaderTimeout = 5 * time.Second
	httpTimeout       = 15 * time.Second
	apiTimeout        = time.Minute // a write waits for the primary, for locks and the KMS, each in its bounds
	httpIdleTimeout   = time.Minute
	httpHeaderBytes   = 16 << 10
	httpEnd           = 2 * time.Second // for answers under way at shutdown
)

// web is the HTTP servers.
type web struct{ servers []*http.Server }

func (n *node) serveHTTP(ctx context.Context, l *listeners, background func(func() error)) *web {
	w := &web{}
	serve := func(l net.Listener, h http.Handler, answer time.Duration) {
		s := &http.Server{
			Handler: h, ReadHeaderTimeout: httpHeaderTimeout, ReadTimeout: httpTimeout, WriteTimeout: answer,
			IdleTimeout: httpIdleTimeout, MaxHeaderBytes: httpHeaderBytes,
			ErrorLog:    slog.NewLogLogger(n.log.Handler(), slog.LevelDebug), // strangers' broken requests
			BaseContext: func(net.Listener) context.Context { return ctx },
		}
		w.servers = append(w.servers, s)
		background(func() error {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	serve(l.api, n.apiHandler(), apiTimeout)
	serve(l.control, n.controlHandler(), httpTimeout)
	if l.metrics != nil {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{}))
		serve(l.metrics, mux, httpTimeout)
	}
	return w
}

func (w *web) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, httpEnd)
	defer cancel()
	for _, s := range w.servers {
		if err := s.Shutdown(ctx); err != nil {
			_ = s.Close() // its time is over
		}
	}
}

// apiHandler serves REST, and what tells of the node's own state.
func (n *node) apiHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", n.readyz)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz", "/readyz":
			mux.ServeHTTP(w, r)
		default: // past the mux, which would clean a path before anybody could refuse it
			n.rest.ServeHTTP(w, r)
		}
	})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client went away
}

// readiness is the answer of /readyz: "ok", "degraded" (a fault that other
// nodes share) or "unavailable" (this node should get no client).
type readiness struct {
	Status string            `json:"status"`
	Parts  map[string]string `json:"parts"`
}

func (n *node) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	answer, status := n.ready(ctx, strings.Split(r.URL.Query().Get("require"), ","))
	writeJSON(w, status, answer)
}

// ready names each part; a shared fault is an error only if it is required.
func (n *node) ready(ctx context.Context, require []string) (readiness, int) {
	r := readiness{Status: "ok", Parts: map[string]string{"server": "ok", "kms": "ok", "primary": "ok"}}
	status := http.StatusOK
	fault := func(part, text string, own bool) {
		r.Parts[part] = text
		if r.Status == "ok" {
			r.Status = "degraded"
		}
		if own || slices.Contains(require, part) {
			r.Status, status = "unavailable", http.StatusServiceUnavailable
		}
	}
	if n.draining.Load() {
		fault("node", "draining", true)
	}
	if err := n.probe.ask(ctx, n.vault); err != nil {
		fault("server", publicText(err), true)
	}
	if err := n.kms.Load().err; err != nil {
		fault("kms", publicText(err), false)
	}
	if _, err := n.vault.Primary(ctx); err != nil {
		fault("primary", "not found", false)
	}
	return r, status
}

// probeEvery bounds how often strangers make the node ask its server.
const probeEvery = time.Second

// A serverProbe remembers the last answer for a moment. Callers wait for each
// other, so that there is one question at a time.
type serverProbe struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

func (p *serverProbe) ask(ctx context.Context, v *vault.Vault) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.at) < probeEvery {
		return p.err
	}
	_, err := v.Status(ctx)
	if ctx.Err() == nil { // a caller that left says nothing of the server
		p.at, p.err = time.Now(), err
	}
	return err
}

// publicText is what a stranger may learn: the message made for clients, no
// cause.
func publicText(err error) string {
	var e *vault.Error
	if errors.As(err, &e) {
		return e.Msg
	}
	return "not usable; see the node's log"
}

// partGauges show the same to Prometheus, without asking anybody.
func (n *node) partGauges() []prometheus.Collector {
	gauge := func(part string, usable func() bool) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "hyperion_vault", Name: "part_usable", Help: "1 if the part could be used when it was last asked.",
			ConstLabels: prometheus.Labels{"part": part},
		}, func() float64 {
			if usable() {
				return 1
			}
			return 0
		})
	}
	return []prometheus.Collector{
		gauge("server", func() bool { return n.vault.Health().Err == nil }),
		gauge("kms", func() bool { return n.kms.Load().err == nil }),
		gauge("rotation", func() bool { return n.vault.Rotation().Err == nil }),
	}
}
