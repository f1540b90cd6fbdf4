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

	"github.com/hyperiondb/hyperion-vault/api"
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
			BaseContext: func(net.Listener) context.Context { return ctx }, ConnContext: api.ConnContext,

			DisableGeneralOptionsHandler: true, // OPTIONS * is answered as all else
		}
		w.servers = append(w.servers, s)
		background(func() error {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	serve(n.rest.Listen(l.api), n.apiHandler(), apiTimeout)
	serve(l.control, n.controlHandler(), httpTimeout)
	if l.metrics != nil {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{}))
		serve(l.metrics, mux, httpTimeout)
	}
	return w
}

// close lets requests that are under way be answered, for as long as sessions may
// finish, and for a moment at least.
func (w *web) close(ctx context.Context, drained time.Time) {
	end := time.Now().Add(httpEnd)
	if drained.After(end) {
		end = drained
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	for _, s := range w.servers {
		if err := s.Shutdown(ctx); err != nil {
			_ = s.Close() // its time is over
		}
	}
}

// apiHandler serves REST, and what tells of the node's own state: by any name, for
// who asks for that often names none.
func (n *node) apiHandler() http.Handler {
	own, rest := map[string]http.Handler{}, api.Turns(n.rest)
	for path, tell := range n.healthPaths() {
		own[path] = api.Aside(tell, path != "/healthz")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tell := own[r.URL.Path]
		if tell == nil {
			rest.ServeHTTP(w, r)
			return
		}
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions: // the last one as HAProxy asks
			tell.ServeHTTP(w, r)
		default:
			w.Header().Set("Allow", "GET, HEAD, OPTIONS")
			writeJSON(w, http.StatusMethodNotAllowed, map[string]string{"error": "this path does not take this method", "code": "method"})
		}
	})
}

// healthPaths are the paths that tell of the node's state.
func (n *node) healthPaths() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"/healthz": func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, readiness{Status: "ok"}) },
		"/readyz":  n.readyz,
		"/primary": func(w http.ResponseWriter, r *http.Request) { n.is("primary", w, r) },
		"/replica": func(w http.ResponseWriter, r *http.Request) { n.is("replica", w, r) },
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client went away
}

// readiness is the answer of /readyz: "ok", "degraded" (a fault that other
// nodes share, or with which all but secrets is served) or "unavailable" (this node should get no client).
type readiness struct {
	Status string            `json:"status"`
	Role   string            `json:"role,omitempty"`
	Parts  map[string]string `json:"parts,omitempty"`
}

// healthTimeout bounds how long a question about the node's state takes.
const healthTimeout = 5 * time.Second

// parts are what readyz can be asked to require.
var parts = []string{"server", "kms", "primary", "lag", "audit"}

func (n *node) readyz(w http.ResponseWriter, r *http.Request) {
	// A client that has closed its half of the connection waits for the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), healthTimeout)
	defer cancel()
	var require []string
	for part := range strings.SplitSeq(r.URL.Query().Get("require"), ",") {
		switch {
		case slices.Contains(parts, part):
			require = append(require, part)
		case part != "":
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": "require should be some of " + strings.Join(parts, ", "), "code": "invalid"})
			return
		}
	}
	answer, status := n.ready(ctx, require)
	writeJSON(w, status, answer)
}

// is answers as Patroni does: 200 if this node can be used, and its server is what is
// asked for. Of a standby that shows too old things nothing is opened.
func (n *node) is(role string, w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	answer, status := n.ready(ctx, []string{"lag"})
	answer.Role = n.probe.role()
	if answer.Role != role {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, answer)
}

// ready names each part; a shared fault is an error only if it is required.
func (n *node) ready(ctx context.Context, require []string) (readiness, int) {
	r := readiness{Status: "ok", Parts: map[string]string{"server": "ok", "kms": "ok", "primary": "ok", "audit": "ok"}}
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
	} else if n.vault.LocalReplaced() {
		fault("server", "another server has replaced it as the primary", true)
	}
	if err := n.kms.Load().err; err != nil {
		fault("kms", publicText(err), false)
	}
	if _, err := n.vault.Primary(ctx); err != nil {
		fault("primary", "not found", false)
	}
	if text := n.auditFault(); text != "" {
		fault("audit", text, false)
	}
	if bound := n.config.maxStaleness; bound > 0 {
		r.Parts["lag"] = "ok"
		if age, known := n.vault.Staleness(); !known || age > bound {
			fault("lag", "the standby is too far behind the primary", false)
		}
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
	st  vault.Status
	err error
}

// last is what the server said, or why it said nothing.
func (p *serverProbe) last() (vault.Status, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at.IsZero() {
		return p.st, errNotTried
	}
	return p.st, p.err
}

// role is what the server was when it was asked; empty: it does not answer.
func (p *serverProbe) role() string {
	st, err := p.last()
	switch {
	case err != nil:
		return ""
	case st.InRecovery:
		return "replica"
	}
	return "primary"
}

func (p *serverProbe) ask(ctx context.Context, v *vault.Vault) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.at) < probeEvery {
		return p.err
	}
	st, err := v.Status(ctx)
	if ctx.Err() == nil { // a caller that left says nothing of the server
		p.at, p.st, p.err = time.Now(), st, err
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
		}, func() float64 { return oneIf(usable()) })
	}
	return []prometheus.Collector{
		gauge("server", func() bool { return n.vault.Health().Err == nil }),
		gauge("kms", func() bool { return n.kms.Load().err == nil }),
		gauge("audit", func() bool { return n.spool.Status().Err == nil }),
		gauge("rotation", func() bool { return n.vault.Rotation().Err == nil }),
	}
}
