// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"net/http"
	"net/url"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// roleMeta is vault.Role as a client gets it.
type roleMeta struct {
	Name        string             `json:"name"`
	Description *string            `json:"description"`
	Admin       bool               `json:"is_admin"`
	Permissions []vault.Permission `json:"permissions"`
	CreatedAt   *time.Time         `json:"created_at"`
}

func roleOf(r *vault.Role) roleMeta {
	out := roleMeta(*r)
	out.CreatedAt = utc(r.CreatedAt)
	if out.Permissions == nil {
		out.Permissions = []vault.Permission{}
	}
	return out
}

// POST /v1/roles
func (h *Handler) createRole(w http.ResponseWriter, r *request) error {
	if _, err := query(r); err != nil {
		return err
	}
	if err := h.vault.PermitAdmin(r.Context(), r.access, vault.ActionRoleCreate, ""); err != nil {
		return err
	}
	var name, description *string
	var admin *bool
	var permissions *[]vault.Permission
	err := h.decode(r, map[string]any{"name": &name, "description": &description, "is_admin": &admin, "permissions": &permissions})
	if err != nil {
		return err
	}
	made := vault.Role{Description: description, Admin: admin != nil && *admin}
	switch {
	case name == nil:
		return bad("the name is missing")
	case permissions != nil:
		made.Permissions = *permissions
	case !made.Admin:
		return bad("the permissions are missing")
	}
	made.Name = *name
	if made, err = h.vault.CreateRole(r.Context(), r.access, made); err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/roles/"+url.PathEscape(made.Name))
	writeJSON(w, http.StatusCreated, roleOf(&made))
	return nil
}

// GET /v1/roles
func (h *Handler) listRoles(w http.ResponseWriter, r *request) error {
	q, limit, err := pageOf(r, "after", "limit")
	if err != nil {
		return err
	}
	list, more, err := h.vault.Roles(r.Context(), r.access, q["after"], limit)
	if err != nil {
		return err
	}
	out := make([]roleMeta, len(list))
	for i := range list {
		out[i] = roleOf(&list[i])
	}
	if more {
		next(w, "/v1/roles", out[len(out)-1].Name, limit, "")
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// GET /v1/roles/{name}
func (h *Handler) readRole(w http.ResponseWriter, r *request) error {
	if _, err := query(r); err != nil {
		return err
	}
	found, err := h.vault.Role(r.Context(), r.access, r.name)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, roleOf(&found))
	return nil
}

// PUT /v1/roles/{name}/permissions
func (h *Handler) setPermissions(w http.ResponseWriter, r *request) error {
	if _, err := query(r); err != nil {
		return err
	}
	if err := h.vault.PermitAdmin(r.Context(), r.access, vault.ActionRoleUpdate, r.name); err != nil {
		return err
	}
	var permissions *[]vault.Permission
	if err := h.decode(r, map[string]any{"permissions": &permissions}); err != nil {
		return err
	}
	if permissions == nil {
		return bad("the permissions are missing")
	}
	changed, err := h.vault.SetPermissions(r.Context(), r.access, r.name, *permissions)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, roleOf(&changed))
	return nil
}

// DELETE /v1/roles/{name}
func (h *Handler) deleteRole(w http.ResponseWriter, r *request) error {
	if _, err := query(r); err != nil {
		return err
	}
	if err := h.vault.DeleteRole(r.Context(), r.access, r.name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
