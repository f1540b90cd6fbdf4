// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"net/http"
	"path/filepath"
	"time"
)

// controlPath is the socket where `status` and `flush` find the node of their host: in
// VAULT_AUDIT_DIR, which only the node's own user can enter, as root can.
func controlPath(auditDir string) string { return filepath.Join(auditDir, "control.sock") }

// statusTimeout bounds an answer to `status`, which waits for other hosts.
const statusTimeout = 10 * time.Second

// controlHandler answers those who may enter the node's own directory.
func (n *node) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), statusTimeout)
		defer cancel()
		writeJSON(w, http.StatusOK, n.status(ctx))
	})
	mux.HandleFunc("POST /flush", func(w http.ResponseWriter, r *http.Request) {
		n.flush(r.Context())
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}
