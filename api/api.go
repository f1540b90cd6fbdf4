// SPDX-License-Identifier: GPL-3.0-or-later

// Package api is the HTTP face of the vault: it reads requests strictly, asks the
// core, and writes answers. It decides nothing: who may do what, from where, and how
// that is recorded is [vault.Vault]'s.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/julienschmidt/httprouter"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// requestTime bounds what is done for a request, whatever waits for whatever.
const requestTime = 30 * time.Second

// maxBodies bounds how many request bodies are held at once.
const maxBodies = 64

// Config is what the API needs. Vault has no default.
type Config struct {
	Vault      *vault.Vault
	Hosts      []string         // names by which clients may call this node, beside addresses and localhost
	TrustProxy *vault.AllowList // whose X-Forwarded-For is believed; nil: nobody's
	Log        *slog.Logger     // nil: nothing is logged
}

// Handler serves /v1. Safe for concurrent use. Make it with New.
type Handler struct {
	vault  *vault.Vault
	log    *slog.Logger
	front  atomic.Pointer[front]
	bodies chan struct{}
	public sync.Once // warned that everybody may read everything
	served http.Handler
}

// front is what a request has to come through.
type front struct {
	hosts   map[string]bool
	proxies *vault.AllowList
}

// An operation answers a request. An error that it returns is not answered yet.
type operation func(w http.ResponseWriter, r *request) error

// A resource has an operation for each method that it takes.
type resource map[string]operation

// methods that httprouter is asked for; any other is answered as an unknown path.
var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.served.ServeHTTP(w, r) }

// SetFront replaces Hosts and TrustProxy from the next request on.
func (h *Handler) SetFront(hosts []string, trustProxy *vault.AllowList) {
	f := &front{hosts: map[string]bool{}, proxies: trustProxy}
	for _, name := range hosts {
		f.hosts[strings.ToLower(strings.TrimSuffix(name, "."))] = true
	}
	h.front.Store(f)
}

// New returns the handler of everything under /v1; any other path is 404.
func New(c Config) *Handler {
	h := &Handler{vault: c.Vault, log: c.Log, bodies: make(chan struct{}, maxBodies)}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.SetFront(c.Hosts, c.TrustProxy)
	router := httprouter.New()
	router.RedirectTrailingSlash, router.RedirectFixedPath = false, false // a name is what was sent
	router.HandleMethodNotAllowed, router.HandleOPTIONS = false, false    // a resource says what it takes
	// One resource, or of a path that ends in /*name those that the name's end chooses.
	route := func(path string, choose func(rest string) (res resource, name string)) {
		handle := func(w http.ResponseWriter, r *http.Request, p httprouter.Params) {
			res, name := choose(strings.TrimPrefix(p.ByName("name"), "/"))
			h.run(w, r, res, name)
		}
		for _, m := range methods {
			router.Handle(m, path, handle)
		}
	}
	one := func(res resource) func(string) (resource, string) {
		return func(name string) (resource, string) { return res, name }
	}
	route("/v1/secrets", one(resource{http.MethodGet: h.list, http.MethodPost: h.create}))
	verbs := map[string]resource{
		"":         {http.MethodGet: h.read, http.MethodPut: h.update, http.MethodDelete: h.remove},
		"versions": {http.MethodGet: h.versions},
		"verify":   {http.MethodPost: h.verify},
		"rotate":   {http.MethodPost: h.rotate},
	}
	route("/v1/secrets/*name", func(rest string) (resource, string) {
		name, verb := splitVerb(rest)
		return verbs[verb], name
	})
	route("/v1/batch/secrets", one(resource{http.MethodPost: h.readMany}))
	route("/v1/roles", one(resource{http.MethodGet: h.listRoles, http.MethodPost: h.createRole}))
	role, rules := resource{http.MethodGet: h.readRole, http.MethodDelete: h.deleteRole}, resource{http.MethodPut: h.setPermissions}
	route("/v1/roles/*name", func(rest string) (resource, string) {
		if name, ok := strings.CutSuffix(rest, "/permissions"); ok {
			return rules, name
		}
		return role, rest
	})
	route("/v1/tokens", one(resource{http.MethodGet: h.listTokens, http.MethodPost: h.createToken}))
	route("/v1/tokens/*name", one(resource{http.MethodDelete: h.revokeToken}))
	router.NotFound = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusNotFound, "not_found", "there is no such path")
	})
	h.served = h.guard(router)
	return h
}

// splitVerb takes a path behind /v1/secrets/ apart. No name ends in a verb.
func splitVerb(path string) (name, verb string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 && slices.Contains([]string{"rotate", "verify", "versions"}, path[i+1:]) {
		return path[:i], path[i+1:]
	}
	return path, ""
}

// run answers a request for a resource.
func (h *Handler) run(w http.ResponseWriter, r *http.Request, res resource, name string) {
	do := res[r.Method]
	if do == nil {
		allow := make([]string, 0, len(res))
		for m := range res {
			allow = append(allow, m)
		}
		slices.Sort(allow)
		w.Header().Set("Allow", strings.Join(allow, ", "))
		writeError(w, http.StatusMethodNotAllowed, "method", "this path does not take this method")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTime)
	defer cancel()
	r = r.WithContext(ctx)
	client, err := h.front.Load().client(r)
	var access *vault.Access
	if err == nil {
		access, err = h.authenticate(r, client)
	}
	if err == nil {
		err = do(w, &request{Request: r, access: access, name: name})
	}
	if err != nil {
		h.fail(w, r, client, err)
	}
}
