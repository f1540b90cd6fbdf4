// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// maxPage is how many secrets one answer lists at most, and if nobody asks for less.
const maxPage = 1000

// query returns a request's parameters, of which it may have these, each once.
func query(r *request, names ...string) (map[string]string, error) {
	return queryOf(r.Request, names...)
}

func queryOf(r *http.Request, names ...string) (map[string]string, error) {
	if r.URL.RawQuery == "" {
		return nil, nil
	}
	sent, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, bad("the query string is malformed")
	}
	got := map[string]string{}
	for _, name := range names {
		if list, ok := sent[name]; ok && len(list) == 1 {
			got[name] = list[0]
		}
	}
	if len(got) != len(sent) {
		return nil, bad("the query has a parameter that is not known here, or one twice")
	}
	return got, nil
}

// versionOf is which version of a secret a query asks for; 0: the current one.
func versionOf(q map[string]string) (int32, error) {
	text, ok := q["version"]
	if !ok {
		return 0, nil
	}
	version, err := strconv.ParseInt(text, 10, 32)
	if err != nil || version < 1 {
		return 0, bad("version should be a number from 1 to 2147483647")
	}
	return int32(version), nil
}

// wanted is what a request will read, if that is a secret; nil: it is something else.
// What is wrong with it the operation says, once it is known who asks.
func wanted(r *http.Request, name string) *vault.Wanted {
	if of, ok := strings.CutPrefix(r.URL.Path, "/v1/secrets/"); !ok || of != name || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil
	}
	q, err := queryOf(r, "version")
	if err != nil {
		return nil
	}
	version, err := versionOf(q)
	if err != nil {
		return nil
	}
	return &vault.Wanted{Name: name, Version: version}
}

// GET /v1/secrets/{name}
func (h *Handler) read(w http.ResponseWriter, r *request) error {
	q, err := query(r, "version")
	if err != nil {
		return err
	}
	version, err := versionOf(q)
	if err != nil {
		return err
	}
	s, err := h.vault.Read(r.Context(), r.access, r.name, version)
	if err != nil {
		return err
	}
	return sendSecret(w, r, http.StatusOK, &s)
}

// POST /v1/batch/secrets
func (h *Handler) readMany(w http.ResponseWriter, r *request) error {
	if _, err := query(r); err != nil {
		return err
	}
	if err := h.vault.Permit(r.Context(), r.access, vault.ActionRead, ""); err != nil {
		return err
	}
	var names *[]string
	if err := h.decode(r, map[string]any{"names": &names}); err != nil {
		return err
	}
	if names == nil {
		return bad("the names are missing")
	}
	r.bounded(h.many)
	list, err := h.vault.ReadMany(r.Context(), r.access, *names)
	if err != nil {
		return err
	}
	return sendSecrets(w, r, list)
}

// body is what requests that write have in common.
type body struct {
	value, encoded, username, password []byte
	description                        *string
	interval, grace                    *int64
	next                               *string
	cidrs                              *[]string
}

func (b *body) fields() map[string]any {
	return map[string]any{
		"value": &b.value, "value_base64": &b.encoded, "username": &b.username, "password": &b.password,
		"description": &b.description, "rotation_interval_secs": &b.interval, "grace_period_secs": &b.grace,
		"next_rotation_at": &b.next, "allowed_cidrs": &b.cidrs,
	}
}

func (b *body) zero() {
	for _, v := range [][]byte{b.value, b.encoded, b.username, b.password} {
		erase.Zero(v)
	}
}

// change returns what the body says. Its values are the body's own.
func (b *body) change() (c vault.Change, err error) {
	c = vault.Change{
		Value: b.value, Username: b.username, Password: b.password,
		Description: b.description, RotationInterval: b.interval, GracePeriod: b.grace, AllowedCIDRs: b.cidrs,
	}
	if b.next != nil {
		at, err := time.Parse(time.RFC3339, *b.next)
		if year := at.UTC().Year(); err != nil || year < 1 || year > 9999 {
			return c, bad("next_rotation_at should be a time as 2027-01-31T03:00:00Z")
		}
		c.NextRotationAt = &at
	}
	if b.encoded == nil {
		return c, nil
	}
	if b.value != nil {
		return c, bad("value and value_base64 are two ways to say one thing")
	}
	if b.value, err = unbase64(b.encoded); err != nil {
		return c, err
	}
	c.Value, c.Binary = b.value, true
	return c, nil
}

// POST /v1/secrets
func (h *Handler) create(w http.ResponseWriter, r *request) error {
	if _, err := query(r); err != nil {
		return err
	}
	if err := h.vault.Permit(r.Context(), r.access, vault.ActionCreate, ""); err != nil {
		return err
	}
	var b body
	var name, kind *string
	fields := b.fields()
	fields["name"], fields["kind"] = &name, &kind
	defer b.zero()
	if err := h.decode(r, fields); err != nil {
		return err
	}
	switch {
	case name == nil:
		return bad("the name is missing")
	case kind == nil || *kind != "manual" && *kind != "automatic":
		return bad("the kind of a secret is manual or automatic")
	}
	c, err := b.change()
	if err != nil {
		return err
	}
	r.answer.of = nil // what is done is told
	s, err := h.vault.Create(r.Context(), r.access, *name, *kind == "automatic", c)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/secrets/"+(&url.URL{Path: s.Name}).EscapedPath())
	return sendSecret(w, r, http.StatusCreated, &s)
}

// ifMatch is the version that a client has seen; 0: it does not say.
func ifMatch(r *request) (int32, error) {
	sent := r.Header.Values("If-Match")
	if len(sent) == 0 || len(sent) == 1 && sent[0] == "*" {
		return 0, nil
	}
	text := strings.TrimSuffix(strings.TrimPrefix(sent[0], `"`), `"`)
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 || len(sent) > 1 || etag(int32(n)) != sent[0] {
		return 0, bad(`If-Match should be one version as ETag has it: "3"`)
	}
	return int32(n), nil
}

// PUT /v1/secrets/{name}
func (h *Handler) update(w http.ResponseWriter, r *request) error {
	version, err := ifMatch(r)
	if err != nil {
		return err
	}
	if _, err := query(r); err != nil {
		return err
	}
	if err := h.vault.Permit(r.Context(), r.access, vault.ActionPut, r.name); err != nil {
		return err
	}
	var b body
	defer b.zero()
	if err := h.decode(r, b.fields()); err != nil {
		return err
	}
	c, err := b.change()
	if err != nil {
		return err
	}
	m, err := h.vault.Update(r.Context(), r.access, r.name, version, c)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(m.Version))
	writeJSON(w, http.StatusOK, metaOf(&m))
	return nil
}

// DELETE /v1/secrets/{name}
func (h *Handler) remove(w http.ResponseWriter, r *request) error {
	version, err := ifMatch(r)
	if err != nil {
		return err
	}
	if _, err := query(r); err != nil {
		return err
	}
	if err := h.vault.Delete(r.Context(), r.access, r.name, version); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// POST /v1/secrets/{name}/rotate
func (h *Handler) rotate(w http.ResponseWriter, r *request) error {
	if _, err := query(r); err != nil {
		return err
	}
	r.answer.of = nil // what is done is told
	s, err := h.vault.Rotate(r.Context(), r.access, r.name)
	if err != nil {
		return err
	}
	return sendSecret(w, r, http.StatusOK, &s)
}

// POST /v1/secrets/{name}/verify
func (h *Handler) verify(w http.ResponseWriter, r *request) error {
	if _, err := query(r); err != nil {
		return err
	}
	if err := h.vault.Permit(r.Context(), r.access, vault.ActionVerify, r.name); err != nil {
		return err
	}
	var b body
	defer b.zero()
	if err := h.decode(r, map[string]any{"value": &b.value, "value_base64": &b.encoded}); err != nil {
		return err
	}
	c, err := b.change()
	switch {
	case err != nil:
		return err
	case c.Value == nil:
		return bad("the value is missing")
	}
	r.bounded(h.many)
	version, err := h.vault.Verify(r.Context(), r.access, r.name, c.Value)
	if err != nil {
		return err
	}
	answer := verdict{Valid: version != 0}
	if answer.Valid {
		answer.Version = &version
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// GET /v1/secrets/{name}/versions
func (h *Handler) versions(w http.ResponseWriter, r *request) error {
	if _, err := query(r); err != nil {
		return err
	}
	list, err := h.vault.Versions(r.Context(), r.access, r.name)
	if err != nil {
		return err
	}
	out := make([]versionMeta, len(list))
	for i, v := range list {
		out[i] = versionMeta{v.Version, v.Stage, v.CreatedAt.UTC(), utc(v.ExpiresAt)}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// GET /v1/secrets
func (h *Handler) list(w http.ResponseWriter, r *request) error {
	q, limit, err := pageOf(r, "prefix", "after", "limit")
	if err != nil {
		return err
	}
	if !listable(q["prefix"]) || !listable(q["after"]) {
		return bad("prefix and after should be names, or their beginnings")
	}
	list, more, err := h.vault.List(r.Context(), r.access, q["prefix"], q["after"], limit)
	if err != nil {
		return err
	}
	out := make([]meta, len(list))
	for i := range list {
		out[i] = metaOf(&list[i])
	}
	if more {
		next(w, "/v1/secrets", out[len(out)-1].Name, limit, q["prefix"])
	}
	return writeList(w, r, out)
}

// pageOf is query for a list, with how many are listed.
func pageOf(r *request, names ...string) (q map[string]string, limit int, err error) {
	q, err = query(r, names...)
	if err != nil {
		return nil, 0, err
	}
	text, ok := q["limit"]
	if !ok {
		return q, maxPage, nil
	}
	limit, err = strconv.Atoi(text)
	if err != nil || limit < 1 || limit > math.MaxInt32 {
		return nil, 0, bad("limit should be a number from 1 up")
	}
	return q, min(limit, maxPage), nil
}

// next says where a list goes on.
func next(w http.ResponseWriter, path, after string, limit int, prefix string) {
	q := url.Values{"after": {after}, "limit": {strconv.Itoa(limit)}}
	if prefix != "" {
		q.Set("prefix", prefix)
	}
	w.Header().Set("Link", "<"+path+"?"+q.Encode()+`>; rel="next"`)
}

// listable says whether a name can begin so.
func listable(text string) bool {
	return len(text) <= 255 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/@+-") == ""
}
