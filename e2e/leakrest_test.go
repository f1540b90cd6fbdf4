// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
)

// rest sends a canary by each of REST's doors, to either node, and has one made.
func (r *leakRun) rest(t *testing.T) {
	t.Helper()
	for node := range r.c.Nodes {
		client := r.client(node)
		for _, d := range canary.RESTDoors() {
			one := canary.New(fmt.Sprintf("%s at node %d", d.Name, node), "rest")
			r.canaries = append(r.canaries, one)
			r.openREST(t, client, &d, one)
		}
		made, err := client.Generate(t.Context(), canary.New("made by the node", fmt.Sprintf("rest%d", node)).Secret)
		if err != nil {
			t.Fatal(err)
		}
		r.canaries = append(r.canaries, made...)
	}
}

func (r *leakRun) client(node int) *canary.RESTClient {
	return &canary.RESTClient{Base: r.c.Nodes[node].REST, Token: r.c.AdminToken, HTTP: http.DefaultClient}
}

func (r *leakRun) openREST(t *testing.T, client *canary.RESTClient, d *canary.RESTDoor, one *canary.Canary) {
	t.Helper()
	status, text, err := d.Open(t.Context(), client, one)
	if err != nil || status != d.Status {
		t.Errorf("door %q: got %d %.300s, %v, want %d", one.Door, status, text, err, d.Status)
	}
	if !d.Quotes {
		r.seen = append(r.seen, shown{"the answer to door " + one.Door, text})
	}
	if there, err := client.ReadBack(t.Context(), one); err != nil || there != d.Keeps {
		t.Errorf("door %q: the value can be read: got %t, %v, want %t", one.Door, there, err, d.Keeps)
	}
}

// request sends one as the administrator, unless its headers say otherwise.
func (r *leakRun) request(t *testing.T, node int, method, path, headers, body string) (int, string) {
	t.Helper()
	status, text, err := r.client(node).Do(t.Context(), method, path, headers, body)
	if err != nil {
		t.Fatal(err)
	}
	return status, text
}
