// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// problem is what is wrong with a request itself. Its text never quotes the request.
type problem struct {
	status     int
	code, text string
}

func (p *problem) Error() string { return p.text }

func bad(text string) error { return &problem{http.StatusBadRequest, "invalid", text} }

// status is what a kind of error is in HTTP.
func status(k vault.Kind) int {
	switch k {
	case vault.KindInvalid, vault.KindBinary:
		return http.StatusBadRequest
	case vault.KindUnknown:
		return http.StatusUnauthorized
	case vault.KindDenied:
		return http.StatusForbidden
	case vault.KindMissing:
		return http.StatusNotFound
	case vault.KindExists, vault.KindInUse:
		return http.StatusConflict
	case vault.KindChanged:
		return http.StatusPreconditionFailed
	case vault.KindLimited:
		return http.StatusTooManyRequests
	case vault.KindKMS, vault.KindAudit, vault.KindServer, vault.KindStale, vault.KindNotReady, vault.KindPrimary, vault.KindBusy, vault.KindCanceled:
		return http.StatusServiceUnavailable
	default: // KindTampered and KindInternal: the client cannot help it
		return http.StatusInternalServerError
	}
}

// newGrumbles is for what fails for everybody, strangers as well, while a part is away:
// an operator needs some lines of that, and a disk bears no more.
func newGrumbles() map[vault.Kind]*rate.Sometimes {
	of := map[vault.Kind]*rate.Sometimes{}
	for _, k := range []vault.Kind{vault.KindKMS, vault.KindAudit, vault.KindServer, vault.KindNotReady, vault.KindPrimary} {
		of[k] = &rate.Sometimes{First: 10, Interval: time.Second}
	}
	return of
}

// tells says whether to log that a request failed. One that found the node busy, or asked
// for what is not there yet, is no fault of the node's, and who sends it decides how many
// there are. What is answered 500 the log has always: the answer says so.
func (h *Handler) tells(k vault.Kind) (yes bool) {
	if status(k) < http.StatusInternalServerError || k == vault.KindBusy || k == vault.KindStale || k == vault.KindCanceled {
		return false
	}
	some := h.grumbles[k]
	if some == nil {
		return true
	}
	some.Do(func() { yes = true })
	return yes
}

// fail answers with an error, and logs what an operator has to know.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, client netip.Addr, err error) {
	var p *problem
	if errors.As(err, &p) {
		writeError(w, p.status, p.code, p.text)
		return
	}
	var e *vault.Error
	if !errors.As(err, &e) {
		e = &vault.Error{Kind: vault.KindInternal, Err: err}
	}
	code := status(e.Kind)
	if h.tells(e.Kind) {
		h.log.LogAttrs(r.Context(), slog.LevelWarn, "a request failed", slog.String("request_id", w.Header().Get(headerID)),
			slog.String("kind", e.Kind.String()), slog.String("secret", e.Secret), slog.String("client", client.String()), slog.String("error", err.Error()))
	}
	text := e.Msg
	switch {
	case code == http.StatusInternalServerError:
		text = "the vault failed; the node's log has more under this request's id"
	case e.Hint != "":
		text += ". " + e.Hint
	}
	if e.Wait > time.Second {
		w.Header().Set("Retry-After", strconv.Itoa(int((e.Wait+time.Second-1)/time.Second)))
	}
	writeError(w, code, e.Kind.String(), text)
}

// rescue keeps a panic within its request: the connection closes, the process goes on.
// net/http would log what it was about, which may hold a client's bytes.
func (h *Handler) rescue(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	h.log.LogAttrs(r.Context(), slog.LevelError, "internal error; the connection was closed",
		slog.String("request_id", w.Header().Get(headerID)), slog.String("type", fmt.Sprintf("%T", p)), slog.String("at", vault.PanicSite()))
	if c := connOf(r.Context()); c != nil {
		erase.Zero(c.buffer) // nothing else is read by it
	}
	panic(http.ErrAbortHandler) // which net/http does not log
}

func writeError(w http.ResponseWriter, status int, code, text string) {
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="hyperion-vault"`)
	}
	if later := status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests; later && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, status, map[string]string{"error": text, "code": code})
}

// writeJSON is for what holds no value.
func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil { // not of our types
		status, text = http.StatusInternalServerError, []byte(`{"error":"the vault failed","code":"internal"}`)
	}
	send(w, status, append(text, '\n'))
}

// writeList is writeJSON for what may be long, and counts then.
func writeList(w http.ResponseWriter, r *request, body any) error {
	text, err := json.Marshal(body)
	if err == nil && !r.answer.resize(min(len(text), eachValues)) {
		return noRoom()
	}
	if err == nil {
		send(w, http.StatusOK, append(text, '\n'))
	}
	return err // of our types there is none
}

// answerTime is how long a client may take to read an answer.
const answerTime = 15 * time.Second

func send(w http.ResponseWriter, status int, text []byte) {
	sendHead(w, status, len(text))
	_, _ = w.Write(text) // the client went away
}

func sendHead(w http.ResponseWriter, status, length int) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime)) // a recorder in a test has none
	header := w.Header()
	header["Content-Type"] = jsonType
	header["Content-Length"] = []string{strconv.Itoa(length)}
	w.WriteHeader(status)
}
