// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// TestSendValueHead: the HTTP server would drop the value, from a buffer that nobody
// erases.
func TestSendValueHead(t *testing.T) {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodHead, "/v1/secrets/a", nil)
	sendValue(w, r, http.StatusOK, []byte(`{"value":"hunter2"}`))
	if got := w.Body.Len(); got != 0 {
		t.Errorf("%d bytes of the answer to HEAD were written", got)
	}
	if got := w.Result().Header.Get("Content-Length"); got != "19" {
		t.Errorf("Content-Length: got %q, want 19", got)
	}
}

// TestHeadAndValue: what a connection keeps for its next answer holds nothing of the
// last one's value, and no answer is another's.
func TestHeadAndValue(t *testing.T) {
	c := &conn{Conn: &written{}}
	for _, n := range []int{1, 100, maxKept - roomForHead, 1, maxKept, sendAlong, sendAlong + 1, 1 << 20, 3} {
		for _, head := range []string{"head", strings.Repeat("h", roomForHead), strings.Repeat("h", roomForHead+1)} {
			value := strings.Repeat("v", n)
			c.hold(n)
			if _, err := io.WriteString(c, head); err != nil {
				t.Fatal(err)
			}
			kept := c.head
			text := []byte(value)
			if sent, err := c.ReadFrom(newAnswer(text)); err != nil || sent != int64(n) {
				t.Errorf("%d bytes behind %d: sent %d, %v", n, len(head), sent, err)
			}
			if left := c.release(); left != nil || c.held {
				t.Errorf("%d bytes behind %d: %d wait", n, len(head), len(left))
			}
			if got := c.Conn.(*written).take(); got != head+value {
				t.Errorf("%d bytes behind %d: got %d other ones", n, len(head), len(got))
			}
			for _, b := range [][]byte{kept, c.room} {
				if bytes.ContainsRune(b[:cap(b)], 'v') {
					t.Errorf("%d bytes behind %d: the value is kept", n, len(head))
				}
			}
			if cap(c.room) > maxKept {
				t.Errorf("%d bytes are kept", cap(c.room))
			}
		}
	}
}

// written is a connection's other end.
type written struct {
	net.Conn
	text strings.Builder
}

func (w *written) Write(p []byte) (int, error) { return w.text.Write(p) }

func (w *written) take() string {
	defer w.text.Reset()
	return w.text.String()
}

// ended tells whether a body was read to its end.
type ended struct {
	io.ReadCloser
	told *atomic.Bool
}

func (e ended) Read(p []byte) (int, error) {
	n, err := e.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		e.told.Store(true)
	}
	return n, err
}

// TestRefusedBody: what the HTTP server would read of it is in buffers that nobody
// erases.
func TestRefusedBody(t *testing.T) {
	h := New(Config{})
	var whole atomic.Bool
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = ended{r.Body, &whole}
		h.ServeHTTP(w, r)
	}))
	s.Listener, s.Config.ConnContext = h.Listen(s.Listener), ConnContext
	s.Start()
	defer s.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+"/nowhere", strings.NewReader(strings.Repeat("hunter2 ", 20_000)))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("got %d, want 404", answer.StatusCode)
	}
	if !whole.Load() {
		t.Error("the body was left to the HTTP server")
	}
}

// TestPanicIsNoAnswer: a client whose request met a panic hears nothing that could be
// taken for success.
func TestPanicIsNoAnswer(t *testing.T) {
	h := New(Config{Draining: func() bool { panic("panic canary") }})
	s := httptest.NewUnstartedServer(h)
	s.Listener, s.Config.ConnContext = h.Listen(s.Listener), ConnContext
	s.Start()
	defer s.Close()
	for _, last := range []bool{false, true} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL+"/v1/secrets/a", strings.NewReader(`{"value":"hunter2"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Close = last
		if answer, err := s.Client().Do(r); err == nil {
			_ = answer.Body.Close()
			t.Errorf("the connection's last request %v: got %d", last, answer.StatusCode)
		}
	}
}
