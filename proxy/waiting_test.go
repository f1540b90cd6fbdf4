// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// TestWaitIsOver: what a message would have to wait for beside a standby has come
// before anybody waits. It goes to the server, and can go to the primary if that refuses it.
func TestWaitIsOver(t *testing.T) {
	for name, msg := range map[string][]byte{
		"query":         wire.AppendQuery(nil, "select w()"),
		"parse":         wire.AppendParse(nil, "", "select w()"),
		"bind":          wire.AppendBind(nil, "", "s"),
		"function call": wire.AppendMessage(nil, wire.FunctionCall, []byte{0, 0, 3, 0xb8, 0, 0, 0, 0, 0, 0}), // lo_open
	} {
		t.Run(name, func(t *testing.T) {
			ss, client, _ := newSession(t, catalog{sealed: 20001, array: 20002})
			ss.srv.cfg.Analyzer, ss.standby = rewrite.NewAnalyzer(rewrite.Config{}), true
			if _, err := client.Write(msg); err != nil {
				t.Fatal(err)
			}
			if err := ss.cr.Hold(len(msg), len(msg)); err != nil {
				t.Fatal(err)
			}
			ss.queue.push(owed{kind: oweSync})
			h := ss.passClient()
			if h.err != nil || h.v == pass {
				t.Fatalf("it does not wait: %+v", h)
			}
			ss.queue.pop()
			if err := ss.oneClient(h.size, h.v); err != nil {
				t.Fatal(err)
			}
			if ss.trial == nil || string(ss.trial.sent) != string(msg) {
				t.Errorf("a write would stay at the standby: %+v", ss.trial)
			}
		})
	}
}
