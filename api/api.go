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
	Vault *vault.Vault
	Hosts []string     // names by which clients may call this node, beside addresses and localhost
	Log   *slog.Logger // nil: nothing is logged
}

// handler serves /v1. Safe for concurrent use.
type handler struct {
	vault  *vault.Vault
	log    *slog.Logger
	hosts  map[string]bool
	bodies chan struct{}
	public sync.Once // warned that everybody may read everything
}

// An operation answers a request. An error that it returns is not answered yet.
type operation func(w http.ResponseWriter, r *request) error

// A resource has an operation for each method that it takes.
type resource map[string]operation

// methods that httprouter is asked for; any other is answered as an unknown path.
var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// New returns the handler of everything under /v1; any other path is 404.
func New(c Config) http.Handler {
	h := &handler{vault: c.Vault, log: c.Log, hosts: map[string]bool{}, bodies: make(chan struct{}, maxBodies)}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	for _, name := range c.Hosts {
		h.hosts[strings.ToLower(strings.TrimSuffix(name, "."))] = true
	}
	router := httprouter.New()
	router.RedirectTrailingSlash, router.RedirectFixedPath = false, false // a name is what was sent
	router.HandleMethodNotAllowed, router.HandleOPTIONS = false, false    // a resource says what it takes
	route := func(path string, handle httprouter.Handle) {
		for _, m := range methods {
			router.Handle(m, path, handle)
		}
	}
	all := resource{http.MethodGet: h.list, http.MethodPost: h.create}
	route("/v1/secrets", func(w http.ResponseWriter, r *http.Request, _ httprouter.Params) { h.run(w, r, all, "") })
	verbs := map[string]resource{
		"":         {http.MethodGet: h.read, http.MethodPut: h.update, http.MethodDelete: h.remove},
		"versions": {http.MethodGet: h.versions},
		"verify":   {http.MethodPost: h.verify},
		"rotate":   {http.MethodPost: h.rotate},
	}
	route("/v1/secrets/*name", func(w http.ResponseWriter, r *http.Request, p httprouter.Params) {
		name, verb := splitVerb(strings.TrimPrefix(p.ByName("name"), "/"))
		h.run(w, r, verbs[verb], name)
	})
	many := resource{http.MethodPost: h.readMany}
	route("/v1/batch/secrets", func(w http.ResponseWriter, r *http.Request, _ httprouter.Params) { h.run(w, r, many, "") })
	for _, path := range []string{"/v1/roles", "/v1/roles/*rest", "/v1/tokens", "/v1/tokens/*rest"} {
		route(path, func(w http.ResponseWriter, _ *http.Request, _ httprouter.Params) {
			writeError(w, http.StatusNotImplemented, "not_implemented", "this is not built yet")
		})
	}
	router.NotFound = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, http.StatusNotFound, "not_found", "there is no such path")
	})
	return h.guard(router)
}

// splitVerb takes a path behind /v1/secrets/ apart. No name ends in a verb.
func splitVerb(path string) (name, verb string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 && slices.Contains([]string{"rotate", "verify", "versions"}, path[i+1:]) {
		return path[:i], path[i+1:]
	}
	return path, ""
}

// run answers a request for a resource.
func (h *handler) run(w http.ResponseWriter, r *http.Request, res resource, name string) {
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
	access, err := h.authenticate(r)
	if err == nil {
		err = do(w, &request{Request: r, access: access, name: name})
	}
	if err != nil {
		h.fail(w, r, err)
	}
}
