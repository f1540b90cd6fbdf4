// SPDX-License-Identifier: GPL-3.0-or-later

// Package api is the HTTP face of the vault: it reads requests strictly, asks the
// core, and writes answers. It decides nothing: who may do what, from where, and how
// that is recorded is [vault.Vault]'s.
package api

import (
	"cmp"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/julienschmidt/httprouter"
	"golang.org/x/time/rate"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// requestTime bounds what is done for a request once its sender is known, whatever
// waits for whatever.
const requestTime = 30 * time.Second

// Config is what the API needs. Vault has no default.
type Config struct {
	Vault      *vault.Vault
	Hosts      []string         // names by which clients may call this node, beside addresses and localhost
	TrustProxy *vault.AllowList // whose X-Forwarded-For is believed; nil: nobody's
	Draining   func() bool      // the node ends: nothing new is begun; nil: never

	// MaxConnections bounds requests that are served at once, and, with a few more,
	// connections of Listen. 0: 1,000.
	MaxConnections int

	Log *slog.Logger // nil: nothing is logged
}

// Handler serves everything that the description has. Safe for concurrent use. Make it
// with New.
type Handler struct {
	vault    *vault.Vault
	log      *slog.Logger
	front    atomic.Pointer[front]
	draining func() bool
	crowd    *crowd
	bodies   *memory
	values   *memory
	many     *memory
	grumbles map[vault.Kind]*rate.Sometimes // of what may fail for everybody at once
	public   sync.Once                      // warned that everybody may read everything
	served   http.Handler
}

// front is what a request has to come through.
type front struct {
	hosts   map[string]bool
	proxies *vault.AllowList
}

// An operation answers a request. An error that it returns is not answered yet.
type operation func(w http.ResponseWriter, r *request) error

// An endpoint is an operation, and as what the audit knows it.
type endpoint struct {
	action vault.Action
	do     operation
}

// A resource has an endpoint for each method that it takes, beside OPTIONS, and HEAD
// where it takes GET.
type resource map[string]endpoint

// paths is what is served under /v1, each as the description writes it: a test
// compares the two.
func (h *Handler) paths() map[string]resource {
	return map[string]resource{
		"/v1/secrets": {
			http.MethodGet:  {vault.ActionList, h.list},
			http.MethodPost: {vault.ActionCreate, h.create},
		},
		"/v1/secrets/{name}": {
			http.MethodGet:    {vault.ActionRead, h.read},
			http.MethodPut:    {vault.ActionPut, h.update},
			http.MethodDelete: {vault.ActionDelete, h.remove},
		},
		"/v1/secrets/{name}/versions": {http.MethodGet: {vault.ActionList, h.versions}},
		"/v1/secrets/{name}/verify":   {http.MethodPost: {vault.ActionVerify, h.verify}},
		"/v1/secrets/{name}/rotate":   {http.MethodPost: {vault.ActionRotate, h.rotate}},
		"/v1/batch/secrets":           {http.MethodPost: {vault.ActionRead, h.readMany}},

		"/v1/roles": {
			http.MethodGet:  {vault.ActionRoleList, h.listRoles},
			http.MethodPost: {vault.ActionRoleCreate, h.createRole},
		},
		"/v1/roles/{name}": {
			http.MethodGet:    {vault.ActionRoleList, h.readRole},
			http.MethodDelete: {vault.ActionRoleDelete, h.deleteRole},
		},
		"/v1/roles/{name}/permissions": {http.MethodPut: {vault.ActionRoleUpdate, h.setPermissions}},
		"/v1/tokens": {
			http.MethodGet:  {vault.ActionTokenList, h.listTokens},
			http.MethodPost: {vault.ActionTokenCreate, h.createToken},
		},
		"/v1/tokens/{name}": {http.MethodDelete: {vault.ActionTokenRevoke, h.revokeToken}},
	}
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

// New returns the handler of everything under /v1, and of the description; any other
// path is 404.
func New(c Config) *Handler {
	h := &Handler{
		vault: c.Vault, log: c.Log, draining: c.Draining, crowd: newCrowd(), grumbles: newGrumbles(),
		bodies: newMemory(allBodies, eachBodies), values: newMemory(allValues, eachValues), many: newMemory(allMany, eachMany),
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.draining == nil {
		h.draining = func() bool { return false }
	}
	h.SetFront(c.Hosts, c.TrustProxy)
	h.SetMaxConnections(cmp.Or(c.MaxConnections, 1000))
	router := h.router()
	h.served = h.guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve, params, _ := router.Lookup(http.MethodGet, r.URL.Path) // cleans nothing: a name is what was sent
		if serve == nil {
			writeError(w, http.StatusNotFound, "not_found", "there is no such path")
			return
		}
		serve(w, r, params)
	}))
	return h
}

// router has each path once, as GET's: a resource says which methods it takes.
func (h *Handler) router() *httprouter.Router {
	router := httprouter.New()
	router.GET(descriptionPath, func(w http.ResponseWriter, r *http.Request, _ httprouter.Params) {
		if to := choose(w, r, resource{http.MethodGet: {do: describe}}); to.do != nil {
			_ = to.do(w, &request{Request: r}) // it has no error
		}
	})
	named := map[string]map[string]resource{} // by what stands before the name, and behind it
	for path, res := range h.paths() {
		before, verb, ok := strings.Cut(path, "{name}")
		if !ok {
			router.GET(path, func(w http.ResponseWriter, r *http.Request, _ httprouter.Params) { h.run(w, r, res, "") })
			continue
		}
		if named[before] == nil {
			named[before] = map[string]resource{}
		}
		named[before][strings.TrimPrefix(verb, "/")] = res
	}
	for before, verbs := range named {
		router.GET(before+"*name", func(w http.ResponseWriter, r *http.Request, p httprouter.Params) {
			name, verb := splitVerb(strings.TrimPrefix(p.ByName("name"), "/"), verbs)
			h.run(w, r, verbs[verb], name)
		})
	}
	return router
}

// splitVerb takes a path apart at one of the verbs. No name of a secret ends in one
// of its own.
func splitVerb(path string, verbs map[string]resource) (name, verb string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 && path[i+1:] != "" && verbs[path[i+1:]] != nil {
		return path[:i], path[i+1:]
	}
	return path, ""
}

// choose returns the endpoint that a request asks for; without an operation: it has been
// answered.
func choose(w http.ResponseWriter, r *http.Request, res resource) (to endpoint) {
	to = res[r.Method]
	if r.Method == http.MethodHead {
		to = res[http.MethodGet] // the server leaves its body out
	}
	if to.do != nil {
		return to
	}
	allow := []string{http.MethodOptions}
	for m := range res {
		if allow = append(allow, m); m == http.MethodGet {
			allow = append(allow, http.MethodHead)
		}
	}
	slices.Sort(allow)
	w.Header().Set("Allow", strings.Join(allow, ", "))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return to
	}
	writeError(w, http.StatusMethodNotAllowed, "method", "this path does not take this method")
	return to
}

// headerAfter has the position up to which a write went, and one from which on a
// request's reads may be answered.
const headerAfter = "Vault-Read-After"

// readAfter reads that header; the zero Position: it is not there.
func readAfter(sent []string) (p vault.Position, err error) {
	if len(sent) == 0 {
		return p, nil
	}
	p, ok := vault.ParsePosition(sent[0])
	if !ok || len(sent) > 1 {
		return vault.Position{}, bad("Vault-Read-After should be what a write was answered with: 5/0/3000148")
	}
	return p, nil
}

// run answers a request for a resource.
func (h *Handler) run(w http.ResponseWriter, r *http.Request, res resource, name string) {
	to := choose(w, r, res)
	if to.do == nil {
		return
	}
	client, err := h.front.Load().client(r)
	if err == nil {
		err = h.as(w, r, client, to, name)
	} else if client.IsValid() {
		h.vault.NoteStranger(r.Context(), client, "proxy")
	}
	if err != nil {
		h.fail(w, r, client, err)
	}
}

// as runs an operation for whoever sends the request. What is wrong with a request's form
// the core does not see.
func (h *Handler) as(w http.ResponseWriter, r *http.Request, client netip.Addr, to endpoint, name string) error {
	after, malformed := readAfter(r.Header.Values(headerAfter))
	var want *vault.Wanted
	if malformed == nil && after == (vault.Position{}) {
		want = wanted(r, name)
	}
	access, err := h.authenticate(r, client, want)
	if err != nil {
		return err
	}
	access.ReadAfter(after)
	access.OnWrite(func(p vault.Position) { w.Header().Set(headerAfter, p.String()) })
	known := &request{Request: r, access: access, name: name, ctx: bound{parent: r.Context(), until: time.Now().Add(requestTime)}}
	defer known.ctx.end()
	known.bounded(h.values)
	defer known.answer.free()
	defer known.body.free()
	if err = malformed; err == nil {
		err = to.do(w, known)
	}
	if p, ok := errors.AsType[*problem](err); ok {
		h.vault.Malformed(r.Context(), access, to.action, name, p.code)
	}
	return err
}
