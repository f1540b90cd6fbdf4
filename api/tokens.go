// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"net/http"
	"net/url"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// tokenMeta is vault.Token as a client gets it.
type tokenMeta struct {
	Name       string     `json:"name"`
	Role       *string    `json:"role"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	RevokedAt  *time.Time `json:"revoked_at"`
}

// POST /v1/tokens
func (h *Handler) createToken(w http.ResponseWriter, r *request) error {
	if _, err := query(r); err != nil {
		return err
	}
	if err := h.vault.PermitAdmin(r.Context(), r.access, vault.ActionTokenCreate, ""); err != nil {
		return err
	}
	var name, role *string
	if err := h.decode(r, map[string]any{"name": &name, "role": &role}); err != nil {
		return err
	}
	switch {
	case name == nil:
		return bad("the name is missing")
	case role == nil:
		return bad("the role is missing")
	}
	made, err := h.vault.CreateToken(r.Context(), r.access, *name, *role)
	if err != nil {
		return err
	}
	defer erase.Zero(made)
	text := make([]byte, 0, 6*(len(*name)+len(*role)+len(made))+64) // never moved
	defer func() { erase.Zero(text) }()
	text = vault.AppendJSON(append(text, `{"name":`...), []byte(*name))
	text = vault.AppendJSON(append(text, `,"role":`...), []byte(*role))
	text = vault.AppendJSON(append(text, `,"token":`...), made)
	text = append(text, "}\n"...)
	w.Header().Set("Location", "/v1/tokens/"+url.PathEscape(*name))
	sendValue(w, r.Request, http.StatusCreated, text)
	return nil
}

// GET /v1/tokens
func (h *Handler) listTokens(w http.ResponseWriter, r *request) error {
	q, limit, err := pageOf(r, "after", "limit")
	if err != nil {
		return err
	}
	list, more, err := h.vault.Tokens(r.Context(), r.access, q["after"], limit)
	if err != nil {
		return err
	}
	out := make([]tokenMeta, len(list))
	for i, t := range list {
		out[i] = tokenMeta{t.Name, t.Role, t.CreatedAt.UTC(), utc(t.LastUsedAt), utc(t.RevokedAt)}
	}
	if more {
		next(w, "/v1/tokens", out[len(out)-1].Name, limit, "")
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// DELETE /v1/tokens/{name}
func (h *Handler) revokeToken(w http.ResponseWriter, r *request) error {
	if _, err := query(r); err != nil {
		return err
	}
	if err := h.vault.RevokeToken(r.Context(), r.access, r.name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
