// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !race

package proxy

// The race detector makes pools drop what they are given; without it, here,
// allocations are counted.

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// exchange is what a client asks and a server answers, in one round.
type exchange struct {
	name        string
	ask, answer []byte
}

// untouched are exchanges of which the vault wants nothing, in each of the
// protocol's forms.
func untouched() []exchange {
	rowDescription := wire.AppendMessage(nil, wire.RowDescription, append([]byte{0, 1, 'c', 0}, make([]byte, 18)...))
	row := wire.AppendMessage(nil, wire.DataRow, []byte{0, 1, 0, 0, 0, 1, 'x'})
	complete := wire.AppendMessage(nil, wire.CommandComplete, []byte("SELECT 1\x00"))
	ready := wire.AppendReady(nil, wire.Idle)
	ack := func(types ...byte) (b []byte) {
		for _, typ := range types {
			b = wire.AppendEmpty(b, typ)
		}
		return b
	}
	const sql = "select abalance from pgbench_accounts where aid = $1"
	bind := wire.AppendBind(nil, "", "", []byte("4711"))
	execute := slices.Concat(wire.AppendDescribe(nil, 'P', ""), wire.AppendExecute(nil, ""), wire.AppendEmpty(nil, wire.Sync))
	answer := slices.Concat(rowDescription, row, complete, ready)
	return []exchange{
		{"simple", wire.AppendQuery(nil, sql), answer},
		{"extended", slices.Concat(wire.AppendParse(nil, "", sql), bind, execute), slices.Concat(ack('1', '2'), answer)},
		{"prepared", slices.Concat(wire.AppendBind(nil, "", "p", []byte("4711")), execute), slices.Concat(ack('2'), answer)},
	}
}

// round moves one exchange through a session whose ends these are.
func (e exchange) round(tb testing.TB, client, server net.Conn) func() {
	tb.Helper()
	toServer, toClient := make([]byte, len(e.ask)), make([]byte, len(e.answer))
	check := func(err error) {
		if err != nil {
			tb.Fatal(err)
		}
	}
	return func() {
		_, err := client.Write(e.ask)
		check(err)
		_, err = io.ReadFull(server, toServer)
		check(err)
		_, err = server.Write(e.answer)
		check(err)
		_, err = io.ReadFull(client, toClient)
		check(err)
		if string(toServer) != string(e.ask) || string(toClient) != string(e.answer) {
			tb.Fatal("bytes changed")
		}
	}
}

// warmUp fills pools and the ring.
const warmUp = 100

// Untouched traffic allocates nothing in any of the protocol's forms.
// Allocations are counted, not timed.
func TestUntouchedTrafficAllocatesNothing(t *testing.T) {
	for _, e := range untouched() {
		t.Run(e.name, func(t *testing.T) {
			client, server := relaySession(t, catalog{sealed: 20001, array: 20002})
			round := e.round(t, client, server)
			for range warmUp {
				round()
			}
			if got := testing.AllocsPerRun(500, round); got != 0 {
				t.Errorf("%v allocations per round, want none", got)
			}
		})
	}
}

// TestNamesAllocNothing: a text is looked through for names without a copy of it, or of
// its words.
func TestNamesAllocNothing(t *testing.T) {
	ss := &session{}
	ss.directNames = map[string]struct{}{"wanted": {}}
	text := append([]byte("explain "), bytes.Repeat([]byte("A bb "), 1000)...)
	if got := testing.AllocsPerRun(10, func() { ss.namesDirect(text) }); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
	for word, want := range map[string]bool{"wanted": true, "WanTed": true, "(wanted)": true, "wanted2": false, strings.Repeat("w", 100): false} {
		if got := ss.namesDirect([]byte("execute " + word)); got != want {
			t.Errorf("%s: %v, want %v", word, got, want)
		}
	}
}

// BenchmarkUntouched is the same for -benchmem: `make unit` fails if it shows an
// allocation.
func BenchmarkUntouched(b *testing.B) {
	for _, e := range untouched() {
		b.Run(e.name, func(b *testing.B) {
			client, server := relaySession(b, catalog{sealed: 20001, array: 20002})
			round := e.round(b, client, server)
			for range warmUp {
				round()
			}
			b.ReportAllocs()
			for b.Loop() {
				round()
			}
		})
	}
}
