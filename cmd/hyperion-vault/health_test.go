// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/api"
)

// TestHealthDescribed: what tells of the node's state is as api/openapi.json says.
func TestHealthDescribed(t *testing.T) {
	text, err := os.ReadFile("../../api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var described struct {
		Paths      map[string]any
		Components struct {
			Parameters struct {
				Require struct {
					Schema struct{ Items struct{ Enum []string } }
				}
			}
			Schemas struct {
				Readiness struct{ Properties map[string]any }
			}
		}
	}
	if err := json.Unmarshal(text, &described); err != nil {
		t.Fatal(err)
	}
	paths := slices.Collect(maps.Keys(described.Paths))
	paths = slices.DeleteFunc(paths, func(path string) bool { return strings.HasPrefix(path, "/v1/") || path == "/openapi.json" })
	slices.Sort(paths)
	if got := slices.Sorted(maps.Keys((&node{}).healthPaths())); !slices.Equal(got, paths) {
		t.Errorf("served are %v, described are %v", got, paths)
	}
	if got := described.Components.Parameters.Require.Schema.Items.Enum; !slices.Equal(got, parts) {
		t.Errorf("described parts are %v, known are %v", got, parts)
	}
	var fields []string
	for f := range reflect.TypeFor[readiness]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields = append(fields, name)
	}
	slices.Sort(fields)
	if got := slices.Sorted(maps.Keys(described.Components.Schemas.Readiness.Properties)); !slices.Equal(got, fields) {
		t.Errorf("described are %v, written are %v", got, fields)
	}
}

// TestHealthTakesNoTurn: strangers may ask how the node is while its server does not
// answer, as often as they like: REST has room and time for others.
func TestHealthTakesNoTurn(t *testing.T) {
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	const most = 10
	n := &node{log: slog.New(slog.DiscardHandler), rest: api.New(api.Config{MaxConnections: most})}
	n.probe.mu.Lock() // for good: nobody is told
	l := &listeners{api: listen(), control: listen()}
	w := n.serveHTTP(t.Context(), l, func(f func() error) { go f() })
	defer func() {
		for _, s := range w.servers {
			_ = s.Close()
		}
	}()
	ask := func(path string) net.Conn {
		conn, err := net.Dial("tcp", l.api.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") // it may be closed
		return conn
	}
	for i := range 10 * most {
		ask("/readyz")
		said, err := io.ReadAll(ask("/v1/nothing"))
		if want := fmt.Sprintf("HTTP/1.1 %d ", http.StatusNotFound); !strings.HasPrefix(string(said), want) {
			t.Fatalf("with %d who ask: got %q, %v", i+1, said, err)
		}
	}
	// One more is told so. On a slow machine those before may have been closed before they
	// were heard: then he is one of the few who wait on.
	for range 10 * most {
		conn := ask("/readyz")
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if said, _ := io.ReadAll(conn); strings.HasPrefix(string(said), "HTTP/1.1 503 ") {
			return
		}
	}
	t.Error("all who ask wait")
}
