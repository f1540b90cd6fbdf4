// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

func putPlan(t testing.TB) *rewrite.Plan {
	t.Helper()
	plan, refusal := rewrite.NewAnalyzer(rewrite.Config{}).Analyze("select vault.put_secret('a', $1)",
		rewrite.Options{Extended: true, StdStrings: true, Settled: true, Encoding: "UTF8"})
	if refusal != nil || len(plan.Calls) != 1 {
		t.Fatalf("plan %v, refusal %v", plan, refusal)
	}
	return plan
}

func TestParseBind(t *testing.T) {
	whole := wire.AppendBind(nil, "p", "s", []byte("v"), nil, []byte{})[wire.HeaderSize:]
	b, ok := parseBind(whole)
	if !ok || string(b.portal) != "p" || string(b.stmt) != "s" || len(b.params) != 3 {
		t.Fatalf("got %+v, %v", b, ok)
	}
	if string(b.params[0]) != "v" || b.params[1] != nil || b.params[2] == nil {
		t.Errorf("NULL and empty differ: %q", b.params)
	}
	for cut := range len(whole) {
		if _, ok := parseBind(whole[:cut]); ok {
			t.Errorf("a Bind cut at %d was taken", cut)
		}
	}
	bad := bytes.Clone(whole)
	binary.BigEndian.PutUint32(bad[len("p\x00s\x00")+4:], 0xfffffffe) // a length of -2 makes pgproto3 v2 panic
	if _, ok := parseBind(bad); ok {
		t.Error("a parameter of length -2 was taken")
	}
}

func TestIsUtility(t *testing.T) {
	for text, want := range map[string]bool{
		"select 1": false, " \n\tSELECT 1": false, "insert into t values (1)": false, "WITH x as (select 1) table x": false,
		"fetch c": true, "execute p": true, "call p()": true, "/* c */ select 1": true, "selectx": true, "": false,
		"show all": true, "(select 1)": true,
	} {
		if got := isUtility([]byte(text)); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func TestInitialResponse(t *testing.T) {
	for name, c := range map[string]struct {
		in  string
		ok  bool
		out string
	}{
		"whole":                      {"SCRAM-SHA-256\x00\x00\x00\x00\x03n,,", true, "n,,"},
		"no data":                    {"SCRAM-SHA-256\x00\xff\xff\xff\xff", true, ""},
		"ends after the mechanism":   {"SCRAM-SHA-256\x00", false, ""},
		"no terminator":              {"SCRAM-SHA-256", false, ""},
		"length beyond the body":     {"X\x00\x00\x00\x00\x09ab", false, ""},
		"data though length says -1": {"X\x00\xff\xff\xff\xffab", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, data, err := initialResponse([]byte(c.in))
			if (err == nil) != c.ok || string(data) != c.out {
				t.Errorf("got %q, %v", data, err)
			}
		})
	}
}

func TestRetypeShowsSealedColumnsAsText(t *testing.T) {
	ss := &session{srv: &Server{}}
	ss.catalog = catalog{sealed: 20001, array: 20002}
	body := binary.BigEndian.AppendUint16(nil, 2)
	for _, typ := range []uint32{23, 20001} {
		body = append(body, "c\x00"...)
		body = binary.BigEndian.AppendUint32(body, 99) // table
		body = binary.BigEndian.AppendUint16(body, 7)  // column
		body = binary.BigEndian.AppendUint32(body, typ)
		body = binary.BigEndian.AppendUint16(body, 4)
		body = binary.BigEndian.AppendUint32(body, 5)
		body = binary.BigEndian.AppendUint16(body, 1) // format
	}
	before := bytes.Clone(body)
	cols, failed := ss.retype(body, true)
	if failed != nil || len(cols) != 1 || cols[0] != 1 {
		t.Fatalf("columns %v, %v", cols, failed)
	}
	second := body[2+20+2:]
	if got := binary.BigEndian.Uint32(second[6:]); got != wire.OIDText {
		t.Errorf("type %d, want text", got)
	}
	if !bytes.Equal(body[:2+20], before[:2+20]) || !bytes.Equal(second[:6], before[2+20+2:][:6]) || second[17] != 1 {
		t.Error("more than type, length and modifier changed")
	}
}

func FuzzServerMessages(f *testing.F) {
	f.Add(byte('D'), []byte{0, 1, 0, 0, 0, 1, 'x'})
	f.Add(byte('E'), []byte("SERROR\x00VERROR\x00C42601\x00Mm\x00P3\x00\x00"))
	f.Add(byte('T'), []byte{0, 1, 'a', 0})
	f.Add(byte('t'), []byte{0, 1, 0, 0, 0, 25})
	f.Add(byte('Z'), []byte{'T'})
	f.Add(byte('S'), []byte("hyperion_vault.did\x00delete ok - 3 4711 a\x00"))
	f.Add(byte('S'), []byte("hyperion_vault.did\x00"))
	f.Add(byte('T'), append([]byte{0, 1, 'a', 0}, 0, 0, 0, 0, 0, 0, 0, 0, 0x4e, 0x22, 0, 0, 0, 0, 0, 0, 0, 0)) // an array of sealed values
	plan, metrics := putPlan(f), newMetrics()
	f.Fuzz(func(_ *testing.T, typ byte, body []byte) {
		for _, k := range []owedKind{oweParse, oweBind, oweDescribe, oweDescribePortal, oweExecute, oweSync, oweQuery, oweCall} {
			ss := &session{srv: &Server{cfg: Config{}, metrics: metrics}}
			ss.catalog = catalog{sealed: 20001, array: 20002}
			st := &statement{plan: plan, own: 1, calls: []int{0}}
			ss.queue.push(owed{kind: k, named: true, stmt: st, portal: &portal{}, task: &task{plan: plan, sql: "select 1"}})
			ss.queue.push(owed{kind: oweSync})
			if typ == wire.DataRow {
				fields(body)
				continue
			}
			ss.serverMessage(typ, wire.AppendMessage(nil, typ, body)) // must not panic
		}
	})
}

func FuzzClientMessages(f *testing.F) {
	f.Add(byte('P'), []byte("s\x00select 1\x00\x00\x00"))
	f.Add(byte('B'), wire.AppendBind(nil, "p", "s", []byte("v"))[wire.HeaderSize:])
	f.Add(byte('D'), []byte("Ss\x00"))
	f.Add(byte('E'), []byte("p\x00\x00\x00\x00\x00"))
	f.Add(byte('F'), []byte{0, 0, 0, 1})
	f.Add(byte('P'), []byte{})
	f.Fuzz(func(t *testing.T, typ byte, body []byte) {
		ss := &session{srv: &Server{}}
		ss.stmts, ss.portals = map[string]*statement{}, map[string]*portal{}
		ss.stmts["s"] = &statement{name: "s", plan: putPlan(t), own: 1}
		before := ss.queue.len()
		v := ss.clientMessage(typ, body)
		if typ == wire.Bind && v == pass {
			if _, stmt, _, ok := bindNames(body); ok && string(stmt) == "s" {
				t.Fatal("a Bind of a put passed")
			}
		}
		if v != pass && ss.queue.len() != before {
			t.Fatal("a message that did not pass is owed an answer")
		}
		parseBind(body)      // must not panic
		parseBody(body)      // as above
		ss.wanted(typ, body) // as above
	})
}
