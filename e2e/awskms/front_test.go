// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package awskms

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// A front stands before the KMS endpoint: it counts calls and answers in its
// place, as AWS does where the endpoint cannot be made to.
type front struct {
	address string
	server  *http.Server
	proxy   *httputil.ReverseProxy

	mu       sync.Mutex
	fault    fault         // nil: all goes on to the endpoint
	released chan struct{} // closed when the fault ends
	calls    map[string]int
	open     int // calls that a fault keeps
	most     int
	sent     []call
	answered []call   // with the answer's body
	keys     [][]byte // data keys that were answered
}

// A call is one of the node's to the KMS.
type call struct {
	operation, method, path string
	header                  http.Header
	body                    []byte
}

// A fault answers a call. next hands it on.
type fault func(w http.ResponseWriter, r *http.Request, released <-chan struct{}, next http.Handler)

func newFront(target string) (*front, error) {
	f := &front{proxy: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target}), calls: map[string]int{}, released: make(chan struct{})}
	f.proxy.ModifyResponse = f.keep
	f.proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	return f, f.listen("127.0.0.1:0")
}

func (f *front) listen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	f.address = l.Addr().String()
	f.server = &http.Server{Handler: f, ReadHeaderTimeout: time.Minute}
	go func() { _ = f.server.Serve(l) }() // ends with Close
	return nil
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	f.mu.Lock()
	f.calls[operation]++
	f.sent = append(f.sent, call{operation, r.Method, r.URL.RequestURI(), r.Header.Clone(), body})
	f.open++
	f.most = max(f.most, f.open)
	do, released := f.fault, f.released
	f.mu.Unlock()
	leave := sync.OnceFunc(func() {
		f.mu.Lock()
		f.open--
		f.mu.Unlock()
	})
	defer leave()
	// Before the answer: behind it the node may make its next call at once.
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { leave(); f.proxy.ServeHTTP(w, r) })
	if do == nil {
		next(w, r)
		return
	}
	do(w, r, released, next)
}

// keep keeps an answer, and its data key.
func (f *front) keep(r *http.Response) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var answer struct{ Plaintext []byte }
	_, operation, _ := strings.Cut(r.Request.Header.Get("X-Amz-Target"), ".")
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.StatusCode == http.StatusOK {
		f.answered = append(f.answered, call{operation: operation, body: body})
	}
	if json.Unmarshal(body, &answer) == nil && len(answer.Plaintext) > 0 {
		f.keys = append(f.keys, answer.Plaintext)
	}
	return nil
}

// suffer has all calls answered by a fault until heal, or the end of the test.
func (f *front) suffer(t *testing.T, do fault) {
	t.Helper()
	f.mu.Lock()
	f.fault, f.released = do, make(chan struct{})
	f.mu.Unlock()
	t.Cleanup(f.heal)
}

func (f *front) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault != nil {
		f.fault = nil
		close(f.released)
	}
}

// count begins to count anew.
func (f *front) count() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.calls)
	f.most, f.sent, f.answered, f.keys = f.open, nil, nil, nil
}

func (f *front) counted(operation string) (calls, most int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[operation], f.most
}

// kept is how many calls a fault keeps now.
func (f *front) kept() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// refused answers as the KMS does (AWS JSON 1.1).
func refused(status int, code, message string) fault {
	return func(w http.ResponseWriter, _ *http.Request, _ <-chan struct{}, _ http.Handler) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("X-Amzn-Requestid", "6f1e-test")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message}) // the node may have gone
	}
}

// once lets only the first call suffer.
func once(do fault) fault {
	var first sync.Once
	return func(w http.ResponseWriter, r *http.Request, released <-chan struct{}, next http.Handler) {
		suffers := false
		first.Do(func() { suffers = true })
		if !suffers {
			next.ServeHTTP(w, r)
			return
		}
		do(w, r, released, next)
	}
}

func hang(_ http.ResponseWriter, r *http.Request, released <-chan struct{}, _ http.Handler) {
	select {
	case <-released:
	case <-r.Context().Done():
	}
}

func slow(d time.Duration) fault {
	return func(w http.ResponseWriter, r *http.Request, _ <-chan struct{}, next http.Handler) {
		select {
		case <-time.After(d):
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}
}

// cut sends half an answer.
func cut(w http.ResponseWriter, _ *http.Request, _ <-chan struct{}, _ http.Handler) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 400\r\n\r\n{\"KeyId\":\"arn:aws:kms:eu-west-2:1111") // the node may have gone
	_ = conn.Close()                                                                                                                                                 // as above
}

// nonsense is no answer of a KMS.
func nonsense(w http.ResponseWriter, _ *http.Request, _ <-chan struct{}, _ http.Handler) {
	_, _ = io.WriteString(w, "<html>a captive portal</html>") // as above
}

// other answers for another key.
func other(w http.ResponseWriter, _ *http.Request, _ <-chan struct{}, _ http.Handler) {
	_, _ = io.WriteString(w, `{"KeyId":"arn:aws:kms:eu-west-2:111122223333:key/another","Plaintext":"`+strings.Repeat("QUJD", 10)+`QUI=","CiphertextBlob":"QUJD"}`)
}
