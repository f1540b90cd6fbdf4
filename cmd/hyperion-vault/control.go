// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy"
)

// controlPath is the socket where `status` and `flush` find the node of their host: in
// VAULT_AUDIT_DIR, which only the node's own user can enter, as root can.
func controlPath(auditDir string) string { return filepath.Join(auditDir, "control.sock") }

// nodeStatus is the answer to `status`.
type nodeStatus struct {
	Node    string `json:"node"`
	Version string `json:"version"`
	readiness
	Primary string `json:"primary,omitempty"` // address; empty: not found
	// Staleness is how old is what the server beside the node shows; nil: not known,
	// or VAULT_MAX_STALENESS does not want to know.
	Staleness *float64            `json:"staleness_seconds,omitempty"`
	Sessions  []proxy.SessionInfo `json:"sessions"`
}

// controlHandler answers those who may enter the node's own directory.
func (n *node) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		ready, _ := n.ready(ctx, nil)
		s := nodeStatus{Node: n.name, Version: version, readiness: ready, Sessions: n.proxy.Sessions()}
		if p, err := n.vault.Primary(ctx); err == nil {
			s.Primary = p.Addr
		}
		if bound := n.config.maxStaleness; bound > 0 {
			s.Parts["replay"] = fmt.Sprintf("how old what the server shows is cannot be told (VAULT_MAX_STALENESS=%s)", bound)
			if age, known := n.vault.Staleness(); known {
				seconds := age.Seconds()
				s.Staleness = &seconds
				s.Parts["replay"] = fmt.Sprintf("what the server shows is %.1f s old (VAULT_MAX_STALENESS=%s)", seconds, bound)
			}
		}
		s.Parts["rotation"] = n.rotationText()
		s.Parts["audit"] = n.auditText(s.Parts["audit"])
		writeJSON(w, http.StatusOK, s)
	})
	mux.HandleFunc("POST /flush", func(w http.ResponseWriter, r *http.Request) {
		n.flush(r.Context())
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

func (n *node) rotationText() string {
	r := n.vault.Rotation()
	switch {
	case n.config.rotationPoll == 0:
		return "not by this node (VAULT_ROTATION_POLL_SECS=0)"
	case r.Err != nil:
		return publicText(r.Err)
	}
	return fmt.Sprintf("%d due, %d secrets failing", r.Open, r.Failing)
}
