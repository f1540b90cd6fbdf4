// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
	"unique"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// FuzzRowDescription shows sealed columns as text: nothing else changes, and
// what cannot be read is left alone.
func FuzzRowDescription(f *testing.F) {
	f.Add([]byte("\x00\x01c\x00\x00\x00\x00\x63\x00\x07\x00\x00\x4e\x21\x00\x04\x00\x00\x00\x05\x00\x01"), true)
	f.Add([]byte("\x00\x02a\x00aaaabbccccddeeeeff"), false)
	f.Fuzz(func(t *testing.T, body []byte, open bool) {
		ss := &session{srv: &Server{}}
		ss.catalog = catalog{sealed: 20001, array: 20002}
		before := bytes.Clone(body)
		cols, _ := ss.retype(body, open)
		if len(body) != len(before) || !open && len(cols) > 0 {
			t.Fatalf("%x became %x, columns %v", before, body, cols)
		}
		// Read again by hand, what was and what is.
		n, was, is := 0, before, body
		if len(body) >= 2 {
			n, was, is = int(binary.BigEndian.Uint16(body)), was[2:], is[2:]
		}
		for i := range n {
			end := bytes.IndexByte(was, 0) + 1
			if end == 0 || len(was) < end+18 {
				break
			}
			oldType, newType := binary.BigEndian.Uint32(was[end+6:]), binary.BigEndian.Uint32(is[end+6:])
			sealed := len(cols) > 0 && cols[0] == i
			if sealed != (oldType == 20001 && open) || sealed && newType != wire.OIDText || !sealed && newType != oldType {
				t.Fatalf("column %d: type %d became %d, columns %v", i, oldType, newType, cols)
			}
			if sealed {
				cols = cols[1:]
			}
			if !bytes.Equal(was[:end+6], is[:end+6]) || !bytes.Equal(was[end+16:end+18], is[end+16:end+18]) {
				t.Fatalf("column %d: more than the type changed", i)
			}
			was, is = was[end+18:], is[end+18:]
		}
		if len(cols) > 0 || !bytes.Equal(was, is) {
			t.Fatalf("columns %v are none, or bytes behind changed", cols)
		}
	})
}

// FuzzDataRow takes a row apart and puts it together again.
func FuzzDataRow(f *testing.F) {
	f.Add([]byte("\x00\x03\x00\x00\x00\x01x\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Add([]byte("\x00\x01\xff\xff\xff\xfe"))
	f.Add([]byte("\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		row := fields(body)
		if row == nil {
			return
		}
		ss := &session{srv: &Server{}}
		ss.appendRow(row)
		size := len(ss.out) - wire.HeaderSize
		if size > len(body) || !bytes.Equal(ss.out[wire.HeaderSize:], body[:size]) {
			t.Fatalf("%x became %x", body, ss.out)
		}
		textArray(body)
		var c catalog
		c.read(row) // must not panic
	})
}

// FuzzServerError corrects positions of an error; everything else stays.
func FuzzServerError(f *testing.F) {
	f.Add([]byte("SERROR\x00VERROR\x00C42601\x00Mm\x00P40\x00\x00"), "é")
	f.Add([]byte("SERROR\x00C42601\x00P-1\x00P99999999999999999999\x00\x00"), "")
	f.Add([]byte("X\x00Y"), "x")
	f.Fuzz(func(t *testing.T, body []byte, before string) {
		if !utf8.ValidString(before) || strings.ContainsAny(before, "*'\\/\"$\x00") || len(body) == 0 || body[len(body)-1] != 0 {
			return
		}
		sql := "/*" + before + "*/ select vault.put_secret('a', 'b'), c"
		plan, refusal := rewrite.NewAnalyzer(rewrite.Config{}).Analyze(sql, rewrite.Options{StdStrings: true, Settled: true, Encoding: "UTF8"})
		if refusal != nil {
			return // too deep, say
		}
		ss := &session{srv: &Server{}}
		ss.editError(body, &task{plan: plan, sql: sql, sent: rewrite.Sent{Prefix: 7, Lengths: []int{30}}}, "")
		was, is := parseFields(body), parseFields(ss.out[wire.HeaderSize:])
		kept := 0
		for _, w := range was {
			switch {
			case w.Code != 'P':
				if kept >= len(is) || is[kept] != w {
					t.Fatalf("%q became %q", was, is)
				}
			case kept < len(is) && is[kept].Code == 'P':
				n, err := strconv.Atoi(is[kept].Text)
				if is[kept].Text != "" && (err != nil || n < 1 || n > utf8.RuneCountInString(sql)+1) {
					t.Fatalf("position %q became %q", w.Text, is[kept].Text)
				}
			default:
				continue // dropped
			}
			kept++
		}
		if kept != len(is) {
			t.Fatalf("%q became %q", was, is)
		}
	})
}

// FuzzBind takes a Bind apart and puts it together again.
func FuzzBind(f *testing.F) {
	f.Add(wire.AppendBind(nil, "p", "s", []byte("v"), nil, []byte{})[wire.HeaderSize:])
	f.Add([]byte("\x00s\x00\x00\x02\x00\x01\x00\x00\x00\x02\x00\x00\x00\x00\xff\xff\xff\xff\x00\x01\x00\x01"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x01\xff\xff\xff\xfe\x00\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		portal, stmt, rest, named := bindNames(body)
		b, ok := parseBind(body)
		if !ok {
			return
		}
		if !named || !bytes.Equal(portal, b.portal) || !bytes.Equal(stmt, b.stmt) || len(portal) > maxName || len(stmt) > maxName {
			t.Fatalf("names differ: %q %q, %+v", portal, stmt, b)
		}
		again := binary.BigEndian.AppendUint16(nil, uint16(len(b.formats)/2))
		again = binary.BigEndian.AppendUint16(append(again, b.formats...), uint16(len(b.params)))
		for _, p := range b.params {
			again = wire.AppendParam(again, p)
		}
		if again = append(again, b.results...); !bytes.Equal(again, rest) {
			t.Fatalf("%x became %x", rest, again)
		}
	})
}

// FuzzParse takes a Parse apart and puts it together again.
func FuzzParse(f *testing.F) {
	f.Add(wire.AppendParse(nil, "s", "select $1", 25, 0)[wire.HeaderSize:])
	f.Add([]byte("select 1\x00\xff\xff"))
	f.Fuzz(func(t *testing.T, body []byte) {
		text, types, ok := parseBody(body)
		if !ok {
			return
		}
		again := wire.AppendParse(nil, "", text, types...)[wire.HeaderSize+1:]
		if !bytes.Equal(again, body) {
			t.Fatalf("%x became %x", body, again)
		}
		isUtility([]byte(text)) // must not panic
	})
}

// FuzzConversation walks a stream of a client's and one of a server's messages
// through one session, by turns: no panic, and a value's Bind never passes.
func FuzzConversation(f *testing.F) {
	say := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	sync := wire.AppendEmpty(nil, wire.Sync)
	f.Add(say(wire.AppendParse(nil, "a", "select 1"), wire.AppendBind(nil, "", "a"), wire.AppendExecute(nil, ""), sync),
		say([]byte("1\x00\x00\x00\x042\x00\x00\x00\x04C\x00\x00\x00\x0dSELECT 1\x00"), wire.AppendReady(nil, 'I')), uint8(0))
	f.Add(say(wire.AppendBind(nil, "p", "s", []byte("v")), wire.AppendDescribe(nil, 'P', "p"), wire.AppendExecute(nil, "p"), wire.AppendClose(nil, 'S', "s"), sync),
		say([]byte("2\x00\x00\x00\x04n\x00\x00\x00\x04s\x00\x00\x00\x043\x00\x00\x00\x04"), wire.AppendReady(nil, 'T')), uint8(3))
	f.Add(say(wire.AppendQuery(nil, "copy t from stdin"), wire.AppendMessage(nil, wire.CopyData, []byte("x\n")), wire.AppendEmpty(nil, wire.CopyDone), wire.AppendQuery(nil, "select 1")),
		say(wire.AppendMessage(nil, wire.CopyInResponse, []byte{0, 0, 0}), wire.AppendMessage(nil, wire.CommandComplete, []byte("COPY 1\x00")), wire.AppendReady(nil, 'E')), uint8(7))
	plan := putPlan(f)
	f.Fuzz(func(t *testing.T, client, server []byte, turns uint8) {
		ss := &session{srv: &Server{cfg: Config{}}}
		ss.state = wire.Idle
		ss.catalog = catalog{sealed: 20001, array: 20002, functions: unique.Make("20003")}
		put := &statement{name: "s", plan: plan, own: 1}
		ss.stmts, ss.portals = map[string]*statement{"s": put}, map[string]*portal{}
		for i := range 64 {
			from := &client
			if turns>>(i%8)&1 == 1 && len(server) > 0 || len(client) == 0 {
				from = &server
			}
			if len(*from) < wire.HeaderSize {
				return
			}
			typ, size := (*from)[0], int(binary.BigEndian.Uint32((*from)[1:]))+1
			if size < wire.HeaderSize || size > len(*from) {
				return
			}
			msg := (*from)[:size]
			*from = (*from)[size:]
			if from == &server {
				if e := ss.queue.front(); typ == wire.DataRow && ss.sealedRow() != nil || e != nil && e.task != nil && e.task.pre != nil {
					return // opened by the core, which is not here
				}
				ss.serverMessage(typ, msg)
				continue
			}
			owed := ss.queue.len()
			v := ss.clientMessage(typ, msg[wire.HeaderSize:])
			if v != pass && typ != wire.CopyData && typ != wire.CopyDone && typ != wire.CopyFail && ss.queue.len() != owed {
				t.Fatalf("%q did not pass and is owed an answer", typ)
			}
			_, stmt, _, ok := bindNames(msg[wire.HeaderSize:])
			if typ == wire.Bind && v == pass && ok && ss.stmts[string(stmt)] == put {
				t.Fatal("a Bind of a put passed")
			}
		}
	})
}
