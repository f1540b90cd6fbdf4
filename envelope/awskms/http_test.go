// SPDX-License-Identifier: GPL-3.0-or-later

package awskms

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A served is a server that answers with what it was sent, and counts its
// connections.
type served struct {
	*httptest.Server
	connections atomic.Int32
	mu          sync.Mutex
	answer      http.HandlerFunc
}

func serve(t *testing.T, start func(*httptest.Server)) *served {
	t.Helper()
	s := &served{answer: func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		answer := s.answer
		s.mu.Unlock()
		answer(w, r)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	start(s.Server)
	t.Cleanup(s.Close)
	return s
}

func ask(t *testing.T, c *client, ctx context.Context, to, body string) (string, error) { //nolint:revive // t goes first
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Do(r)
	if err != nil {
		return "", err
	}
	got, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return string(got), nil
}

func wantAnswer(t *testing.T, c *client, to string) {
	t.Helper()
	if got, err := ask(t, c, t.Context(), to, "a body"); got != "a body" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
}

// TestConnections: one is used again, one that the other end has closed is
// replaced, and each call that is under way has its own.
func TestConnections(t *testing.T) {
	s := serve(t, (*httptest.Server).Start)
	c := newClient(&http.Transport{})
	for range 3 {
		wantAnswer(t, c, s.URL)
	}
	if n := s.connections.Load(); n != 1 {
		t.Errorf("%d connections for one call after the other, want 1", n)
	}
	s.CloseClientConnections()
	wantAnswer(t, c, s.URL)
	if n := s.connections.Load(); n != 2 {
		t.Errorf("%d connections after one was closed, want 2", n)
	}

	const calls = 5
	var entered, done sync.WaitGroup
	entered.Add(calls)
	s.mu.Lock()
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		entered.Done()
		entered.Wait() // all of them are here
		_, _ = io.Copy(w, r.Body)
	}
	s.mu.Unlock()
	for range calls {
		done.Go(func() {
			if got, err := ask(t, c, t.Context(), s.URL, "x"); got != "x" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	done.Wait()
}

// TestErased: an answer's bytes are zero when its body has been closed.
func TestErased(t *testing.T) {
	body := []byte("a data key")
	e := &erased{bytes: body}
	if err := e.Close(); err != nil || strings.Trim(string(body), "\x00") != "" {
		t.Errorf("left: %q, %v", body, err)
	}
}

// TestInformational: what a proxy says before the answer is none, or the next call
// would get this one's.
func TestInformational(t *testing.T) {
	s := serve(t, (*httptest.Server).Start)
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.Copy(w, r.Body)
	}
	c := newClient(&http.Transport{})
	for _, body := range []string{"one", "two"} {
		if got, err := ask(t, c, t.Context(), s.URL, body); got != body || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, body)
		}
	}
	s.mu.Lock()
	s.answer = func(w http.ResponseWriter, _ *http.Request) {
		for range maxAnswer {
			w.WriteHeader(http.StatusEarlyHints)
		}
	}
	s.mu.Unlock()
	if got, err := ask(t, c, t.Context(), s.URL, "x"); err == nil {
		t.Errorf("got %q, though no answer came", got)
	}
}

// TestEndsWithContext: whoever goes away is not held up by an answer that does
// not come, nor is the next caller given that connection.
func TestEndsWithContext(t *testing.T) {
	s := serve(t, (*httptest.Server).Start)
	c := newClient(&http.Transport{})
	wantAnswer(t, c, s.URL)
	ctx, cancel := context.WithCancel(t.Context())
	s.mu.Lock()
	s.answer = func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then the server notices the end
		cancel()
		<-r.Context().Done()
	}
	s.mu.Unlock()
	if _, err := ask(t, c, ctx, s.URL, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	s.mu.Lock()
	s.answer = func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }
	s.mu.Unlock()
	wantAnswer(t, c, s.URL)
}

// TestBounded: an answer without an end is not read to its end.
func TestBounded(t *testing.T) {
	s := serve(t, (*httptest.Server).Start)
	for what, answer := range map[string]http.HandlerFunc{
		"body": func(w http.ResponseWriter, _ *http.Request) {
			for err := error(nil); err == nil; {
				_, err = w.Write(make([]byte, 4096))
			}
		},
		"header": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 2*maxAnswer)) },
		"length": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "9000000000000") },
	} {
		s.mu.Lock()
		s.answer = answer
		s.mu.Unlock()
		if got, err := ask(t, newClient(&http.Transport{}), t.Context(), s.URL, "x"); err == nil {
			t.Errorf("%s: got %d bytes", what, len(got))
		}
	}
}

// TestTLS: a certificate counts if it is trusted, and for its name only.
func TestTLS(t *testing.T) {
	s := serve(t, (*httptest.Server).StartTLS)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	trusting := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	c := newClient(trusting)
	wantAnswer(t, c, s.URL)
	wantAnswer(t, c, s.URL)
	if n := s.connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	if _, err := ask(t, newClient(&http.Transport{}), t.Context(), s.URL, "x"); err == nil {
		t.Error("a certificate that nobody trusts was taken")
	}
	if _, err := ask(t, newClient(trusting), t.Context(), strings.Replace(s.URL, "127.0.0.1", "localhost", 1), "x"); err == nil {
		t.Error("a certificate for another name was taken")
	}
}

// TestProxies: through a proxy that asks for a password, to a server with TLS and
// to one without.
func TestProxies(t *testing.T) {
	behind, secure := serve(t, (*httptest.Server).Start), serve(t, (*httptest.Server).StartTLS)
	var asked []string
	through := serve(t, (*httptest.Server).Start)
	through.answer = func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.Host)
		if r.Header.Get("Proxy-Authorization") != "Basic dXNlcjpwYXNz" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		if r.Method != http.MethodConnect {
			_, _ = io.WriteString(w, "a body")
			return
		}
		to, err := net.Dial("tcp", r.Host)
		if err != nil {
			t.Error(err)
			return
		}
		from, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(from, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
		_, _ = io.Copy(from, to)
		_ = from.Close()
	}
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	by := func(user string) *client {
		via, err := url.Parse(strings.Replace(through.URL, "//", "//"+user, 1))
		if err != nil {
			t.Fatal(err)
		}
		return newClient(&http.Transport{Proxy: http.ProxyURL(via), TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
	}
	c := by("user:pass@")
	wantAnswer(t, c, behind.URL)
	wantAnswer(t, c, secure.URL)
	wantAnswer(t, c, secure.URL)
	want := "POST " + behind.Listener.Addr().String() + ", CONNECT " + secure.Listener.Addr().String()
	if got := strings.Join(asked, ", "); got != want {
		t.Errorf("the proxy was asked for %s, want %s", got, want)
	}
	if behind.connections.Load() != 0 {
		t.Error("the server was asked past the proxy")
	}
	if _, err := ask(t, by(""), t.Context(), secure.URL, "x"); err == nil || strings.Contains(err.Error(), "pass") {
		t.Errorf("without its password the proxy gave: %v", err)
	}
}

// TestIdle: a connection that waits is closed, and forgotten.
func TestIdle(t *testing.T) {
	s := serve(t, (*httptest.Server).Start)
	c := newClient(&http.Transport{})
	wantAnswer(t, c, s.URL)
	key := slices.Collect(maps.Keys(c.idle))[0]
	if err := c.idle[key][0].SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	forgotten(t, c, key)
	wantAnswer(t, c, s.URL)
}

// forgotten waits until no connection waits.
func forgotten(t *testing.T, c *client, key string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for waiting := 1; waiting > 0; {
		if time.Now().After(deadline) {
			t.Fatal("it still waits")
		}
		c.mu.Lock()
		waiting = len(c.idle[key])
		c.mu.Unlock()
	}
}

// TestUnasked: who gets an answer that nobody has asked for takes no further call.
func TestUnasked(t *testing.T) {
	for what, start := range map[string]func(*httptest.Server){"plain": (*httptest.Server).Start, "TLS": (*httptest.Server).StartTLS} {
		s := serve(t, start)
		late := make(chan net.Conn, 1)
		s.answer = func(w http.ResponseWriter, _ *http.Request) {
			to, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(to, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
			late <- to
		}
		c := newClient(s.Client().Transport.(*http.Transport)) //nolint:forcetypeassert // httptest says so
		if got, err := ask(t, c, t.Context(), s.URL, "x"); got != "one" || err != nil {
			t.Fatalf("%s: got %q, %v", what, got, err)
		}
		key := slices.Collect(maps.Keys(c.idle))[0]
		if err := c.idle[key][0].SetReadDeadline(time.Time{}); err != nil { // only what comes ends its wait
			t.Fatal(err)
		}
		to := <-late
		_, _ = io.WriteString(to, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
		forgotten(t, c, key)
		s.mu.Lock()
		s.answer = func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }
		s.mu.Unlock()
		wantAnswer(t, c, s.URL)
		_ = to.Close() // it has done its work
	}
}
