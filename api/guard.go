// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

const (
	headerID = "X-Request-Id"
	maxID    = 64

	// maxToken is more than any token of ours has.
	maxToken = 512
)

// request is an HTTP request whose sender is known.
type request struct {
	*http.Request
	ctx    bound // zero: it is the HTTP request's alone
	access *vault.Access
	name   string // of the secret, role or token; empty: none is named
	body   hold
	answer hold // and what it is made of
}

// bounded has what the request reads and is answered with count.
func (r *request) bounded(by *memory) {
	r.answer = hold{of: by, access: r.access}
	r.access.SetRoom(&r.answer)
}

// Context is the operation's.
func (r *request) Context() context.Context {
	if r.ctx.parent == nil {
		return r.Request.Context()
	}
	return &r.ctx
}

// guard sets what every answer has, and turns away what a browser sends for a
// stranger's page: of names only those count that the operator gave, so that a name
// which somebody points at this node (DNS rebinding) is none.
func (h *Handler) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer h.rescue(w, r)
		c := connOf(r.Context())
		if c != nil {
			c.whole = false
		}
		h.admit(w, r, next)
		if c != nil { // not after a panic, to which it would answer
			c.forget(w, r)
		}
	})
}

// Headers that every answer has. Nobody changes what they hold.
var (
	noStore  = []string{"no-store"}
	noSniff  = []string{"nosniff"}
	jsonType = []string{"application/json"}
)

// admit is what guard does for one request.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request, next http.Handler) {
	header := w.Header()
	header[headerID] = []string{requestID(r.Header.Values(headerID))}
	header["Cache-Control"] = noStore
	header["X-Content-Type-Options"] = noSniff
	switch {
	case !h.front.Load().knownHost(r.Host):
		writeError(w, http.StatusForbidden, "host", "this node is not called so; an administrator lists names in VAULT_API_HOSTS")
	case crossSite(r):
		writeError(w, http.StatusForbidden, "cross_site", "requests of other sites' pages are not answered")
	case h.draining():
		header.Set("Connection", "close") // the next one goes to another node
		writeError(w, http.StatusServiceUnavailable, vault.KindNotReady.String(), "this node is shutting down. Connect to another node.")
	case h.crowd.full():
		h.turnAway(r.RemoteAddr)
		writeError(w, http.StatusServiceUnavailable, vault.KindBusy.String(), textBusy)
	default:
		next.ServeHTTP(w, r)
	}
}

// requestID is what the client calls its request, if that can stand in a log and is no
// token, else a random one.
func requestID(sent []string) string {
	if len(sent) == 1 && sent[0] != "" && len(sent[0]) <= maxID && !vault.HoldsToken(sent[0]) && strings.Trim(sent[0],
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == "" {
		return sent[0]
	}
	var b [12]byte
	_, _ = rand.Read(b[:]) // never returns an error, see crypto/rand
	var text [2 * len(b)]byte
	hex.Encode(text[:], b[:])
	return string(text[:])
}

// knownHost says whether a Host header names an address, localhost, or a name that
// was given.
func (f *front) knownHost(hostport string) bool {
	host := hostport
	if strings.IndexByte(hostport, ':') >= 0 { // else there is nothing to split off
		if name, _, err := net.SplitHostPort(hostport); err == nil {
			host = name
		}
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if name == "localhost" || f.hosts[name] {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

// crossSite says whether a browser sends this for another site's page.
func crossSite(r *http.Request) bool {
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" {
			return true
		}
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return false
	}
	u, err := url.Parse(origins[0])
	return len(origins) > 1 || err != nil || !strings.EqualFold(u.Host, r.Host)
}

// authenticate finds out who sends a request.
func (h *Handler) authenticate(r *http.Request, client netip.Addr, want *vault.Wanted) (*vault.Access, error) {
	token, ok := bearer(r.Header.Values("Authorization"))
	if !ok {
		h.vault.NoteStranger(r.Context(), client, vault.KindUnknown.String())
		return nil, &problem{status: http.StatusUnauthorized, code: "unknown", text: "the Authorization header should be: Bearer TOKEN"}
	}
	if c := connOf(r.Context()); c != nil {
		defer c.keepWaiting()() // strangers take no turn
		defer c.crowd.strangers.Add(-1)
		if !c.crowd.room(&c.crowd.strangers) {
			return nil, &vault.Error{Kind: vault.KindBusy, Msg: textBusy}
		}
	}
	access, err := h.vault.Authenticate(r.Context(), token, client, want)
	if err == nil && access.Public() && !client.IsLoopback() {
		h.public.Do(func() {
			h.log.Warn("every address in VAULT_ALLOWED_IPS may read every secret without a token; a role named ip narrows that, or VAULT_READ_AUTH=both")
		})
	}
	return access, err
}

// bearer takes the token out of an Authorization header; "": there is none. false: it
// is none of ours.
func bearer(sent []string) (token string, ok bool) {
	if len(sent) == 0 {
		return "", true
	}
	scheme, token, _ := strings.Cut(sent[0], " ")
	token = strings.TrimSpace(token)
	return token, len(sent) == 1 && strings.EqualFold(scheme, "Bearer") && token != "" && len(token) <= maxToken
}
