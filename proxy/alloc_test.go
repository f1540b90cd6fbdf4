// SPDX-License-Identifier: GPL-3.0-or-later

//go:build !race

package proxy

// The race detector makes pools drop what they are given; without it, here,
// allocations are counted.

import (
	"io"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// Untouched traffic allocates nothing in any of the protocol's forms.
// Allocations are counted, not timed.
func TestUntouchedTrafficAllocatesNothing(t *testing.T) {
	rowDescription := wire.AppendMessage(nil, wire.RowDescription, append([]byte{0, 1, 'c', 0}, make([]byte, 18)...))
	row := wire.AppendMessage(nil, wire.DataRow, []byte{0, 1, 0, 0, 0, 1, 'x'})
	complete := wire.AppendMessage(nil, wire.CommandComplete, []byte("SELECT 1\x00"))
	ack := func(types ...byte) (b []byte) {
		for _, typ := range types {
			b = wire.AppendEmpty(b, typ)
		}
		return b
	}
	cat := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	ready := wire.AppendReady(nil, wire.Idle)
	const sql = "select abalance from pgbench_accounts where aid = $1"
	bind := wire.AppendBind(nil, "", "", []byte("4711"))
	execute := cat(wire.AppendDescribe(nil, 'P', ""), wire.AppendExecute(nil, ""), wire.AppendEmpty(nil, wire.Sync))
	for name, c := range map[string]struct{ ask, answer []byte }{
		"simple":   {wire.AppendQuery(nil, sql), cat(rowDescription, row, complete, ready)},
		"extended": {cat(wire.AppendParse(nil, "", sql), bind, execute), cat(ack('1', '2'), rowDescription, row, complete, ready)},
		"prepared": {cat(wire.AppendBind(nil, "", "p", []byte("4711")), execute), cat(ack('2'), rowDescription, row, complete, ready)},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := relaySession(t, catalog{sealed: 20001, array: 20002})
			toServer, toClient := make([]byte, len(c.ask)), make([]byte, len(c.answer))
			round := func() {
				if _, err := client.Write(c.ask); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(server, toServer); err != nil {
					t.Fatal(err)
				}
				if _, err := server.Write(c.answer); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(client, toClient); err != nil {
					t.Fatal(err)
				}
			}
			for range 100 { // pools and the ring fill
				round()
			}
			if got := testing.AllocsPerRun(500, round); got != 0 {
				t.Errorf("%v allocations per round, want none", got)
			}
			if string(toServer) != string(c.ask) || string(toClient) != string(c.answer) {
				t.Error("bytes changed")
			}
		})
	}
}
