// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const dashes = "----------\n"

// TestChains runs testdata/chains: what was done to chains, dashes, and what
// Verify says to it. Nodes are letters. See drawing.do for the words.
func TestChains(t *testing.T) {
	paths, err := filepath.Glob("testdata/chains/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no chains: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			script, want, _ := strings.Cut(string(b), dashes)
			d := &drawing{original: map[string][]Row{}, demands: Demands{Trust: Trust{}, Grace: 5 * time.Minute}, now: testTime.Add(time.Hour)}
			for line := range strings.Lines(script) {
				line, _, _ = strings.Cut(line, "#")
				if words := strings.Fields(line); len(words) > 0 {
					d.do(t, words)
				}
			}
			report, err := d.evidence().Verify(t.Context(), d.demands)
			if err != nil {
				t.Fatal(err)
			}
			got := d.text(report)
			if *update {
				if err := os.WriteFile(path, []byte(script+dashes+got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// TestVerifyManyNodes: what others make up takes no more memory than some nodes do, and
// hides no node that is trusted.
func TestVerifyManyNodes(t *testing.T) {
	trusted := nodeOf("a").node
	var made []NodeID
	for i := range maxNodes + 5 {
		made = append(made, NodeID{0xff, byte(i >> 8), byte(i)})
	}
	e := &Evidence{At: testTime, Rows: func(yield func(Row, error) bool) {
		for _, node := range append(made, NodeID{0xfe}, trusted) {
			if !yield(Row{Node: node, Seq: 1, Record: Record{At: testTime}}, nil) {
				return
			}
		}
	}}
	for _, node := range made {
		e.Heads = append(e.Heads, Head{Node: node, Position: Position{Seq: 1}})
	}
	report, err := e.Verify(t.Context(), Demands{Trust: Trust{trusted: nil}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(report.Nodes); n != maxNodes+1 || !slices.ContainsFunc(report.Nodes, func(r NodeReport) bool { return r.Node == trusted }) {
		t.Errorf("%d nodes were followed, want %d and the one that is trusted", n, maxNodes)
	}
	const want = "5 heads are of more nodes than 10000, and were not looked at"
	if report.OK() || !strings.Contains(fmt.Sprint(report.Findings), want) {
		t.Errorf("%d findings, want one that says %q", len(report.Findings), want)
	}
}

// drawing is chains as they were written, and what became of them.
type drawing struct {
	original map[string][]Row
	rows     []Row
	heads    []Head
	changes  []Change
	unknown  bool // changes are
	demands  Demands
	now      time.Time
}

func (d *drawing) evidence() *Evidence {
	e := &Evidence{At: d.now, Heads: d.heads, Rows: d.all()}
	if !d.unknown {
		e.Changes = func(yield func(Change, error) bool) {
			for _, c := range d.changes {
				if !yield(c, nil) {
					return
				}
			}
		}
	}
	return e
}

func nodeOf(name string) *identity {
	return &identity{NodeID(bytes.Repeat([]byte(name[:1]), 16)), ed25519.NewKeyFromSeed(bytes.Repeat([]byte(name[:1]), ed25519.SeedSize))}
}

// write continues a chain up to so many records.
func write(name string, rows []Row, upTo int, content string) []Row {
	id, link := nodeOf(name), newLinker()
	for len(rows) < upTo {
		r := Row{Node: id.node, Seq: uint64(len(rows)) + 1, Record: read(fmt.Sprintf("%s/%d", content, len(rows)+1))}
		r.At = testTime.Add(time.Duration(r.Seq) * time.Second)
		if len(rows) > 0 {
			r.Prev = rows[len(rows)-1].Hash
		}
		_, r.Hash = link.record(&r.Record, r.Node, r.Seq, r.Prev)
		rows = append(rows, r)
	}
	return rows
}

// do carries out a line: a word, a node, a record's number, and what else the
// word needs.
func (d *drawing) do(t *testing.T, words []string) {
	t.Helper()
	if d.world(t, words) {
		return
	}
	word, name, n := words[0], words[1], 0
	if len(words) > 2 {
		n, _ = strconv.Atoi(words[2])
	}
	rest := words[min(3, len(words)):]
	id, chain := nodeOf(name), d.original[name]
	switch word {
	case "chain": // NODE LENGTH: a chain as a node writes it
		d.original[name] = write(name, nil, n, "s")
		d.rows = append(d.rows, d.original[name]...)
	case "says": // NODE N ACTION REASON…: record N is one of the node itself; the chain is written anew
		chain[n-1].Face, chain[n-1].Action, chain[n-1].Reason = FaceNode, Action(rest[0]), strings.Join(rest[1:], " ")
		d.rehash(name)
	case "at": // NODE N SECONDS: record N was written so much later; the chain is written anew
		seconds, _ := strconv.Atoi(rest[0])
		chain[n-1].At = chain[n-1].At.Add(time.Duration(seconds) * time.Second)
		d.rehash(name)
	case "names": // NODE N CHANGE: record N names it; the chain is written anew
		chain[n-1].Change, _ = strconv.ParseInt(rest[0], 10, 64)
		d.rehash(name)
	case "writes": // NODE N [M]: records N to M change secrets; the chain is written anew
		upTo := n
		if len(rest) > 0 {
			upTo, _ = strconv.Atoi(rest[0])
		}
		for i := n - 1; i < upTo; i++ {
			chain[i].Action = ActionUpdate
		}
		d.rehash(name)
	case "restored": // NODE N M: the operator says that records N to M were lost by a restore
		to, _ := strconv.ParseUint(rest[0], 10, 64)
		d.demands.Restored = append(d.demands.Restored, Range{id.node, uint64(n), to})
	case "ships-writes": // NODE: the operator says that it ships writes alone
		d.demands.Writes = append(d.demands.Writes, id.node)
	case "head": // NODE N [KEY]: a head over record N of the chain as it was is known
		h := id.sign(chain[n-1].Position(), testTime)
		if len(rest) > 0 {
			h = (&identity{id.node, nodeOf(rest[0]).key}).sign(h.Position, testTime)
		}
		d.heads = append(d.heads, h)
	case "forge-head": // NODE N: as head, with a wrong signature
		h := id.sign(chain[n-1].Position(), testTime)
		h.Signature[0] ^= 1
		d.heads = append(d.heads, h)
	case "plant", "plant-well": // NODE N [before]: a record N that follows none that is there, beside the other or at the end; -well: with the hash that goes with it
		d.plant(id.node, uint64(n), word == "plant-well", slices.Contains(rest, "before"), 0)
	case "plant-naming": // NODE N CHANGE: as plant-well, and it names a change
		seq, _ := strconv.ParseUint(words[2], 10, 64)
		change, _ := strconv.ParseInt(rest[0], 10, 64)
		d.plant(id.node, seq, true, false, change)
	case "trust": // NODE: its key is trusted
		d.demands.Trust[id.node] = append(d.demands.Trust[id.node], fingerprint(id.public()))
	default:
		d.tamper(t, word, name, uint64(n), rest)
	}
}

// world carries out a line that is of no node.
func (d *drawing) world(t *testing.T, words []string) bool {
	t.Helper()
	seconds := func(i int) time.Duration {
		n, err := strconv.Atoi(words[i])
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(n) * time.Second
	}
	switch words[0] {
	case "no-changes": // they are not known
		d.unknown = true
	case "noted": // CHANGE SECONDS ACTION SUBJECT: the server noted it then
		id, _ := strconv.ParseInt(words[1], 10, 64)
		d.changes = append(d.changes, Change{
			ID: id, At: testTime.Add(seconds(2)), Action: words[3], Subject: words[4], SessionRole: "eve", CurrentRole: "owner",
		})
	case "part": // it is a part of what there is
		d.demands.Part = true
	case "spool": // it is one
		d.demands.Part, d.demands.Ahead, d.unknown = true, true, true
	case "min-age": // SECONDS: what is younger must be there
		d.demands.MinAge = seconds(1)
	case "now": // SECONDS: when it is read
		d.now = testTime.Add(seconds(1))
	default:
		return false
	}
	return true
}

func (d *drawing) rehash(name string) {
	link, chain := newLinker(), d.original[name]
	for i := range chain {
		r := &chain[i]
		if i > 0 {
			r.Prev = chain[i-1].Hash
		}
		_, r.Hash = link.record(&r.Record, r.Node, r.Seq, r.Prev)
	}
	d.rows = slices.DeleteFunc(d.rows, func(r Row) bool { return r.Node == nodeOf(name).node })
	d.rows = append(d.rows, chain...)
}

func (d *drawing) tamper(t *testing.T, word, name string, n uint64, rest []string) {
	t.Helper()
	id, link := nodeOf(name), newLinker()
	is := func(seq uint64) func(Row) bool {
		return func(r Row) bool { return r.Node == id.node && r.Seq == seq }
	}
	at := slices.IndexFunc(d.rows, is(n))
	if at < 0 {
		t.Fatalf("%s: node %s has no record %d", word, name, n)
	}
	upTo := n
	if len(rest) > 0 {
		upTo, _ = strconv.ParseUint(rest[0], 10, 64)
	}
	within := func(r Row) bool { return r.Node == id.node && r.Seq >= n && r.Seq <= upTo }
	switch word {
	case "remove": // NODE N [M]: records N to M
		d.rows = slices.DeleteFunc(d.rows, within)
	case "change": // NODE N: another secret; the hash stays
		d.rows[at].Secret = "other"
	case "withhold": // NODE N [M]: their contents are not there
		for i := range d.rows {
			if r := &d.rows[i]; within(*r) {
				r.Record = Record{At: r.At, Action: ActionWithheld}
			}
		}
	case "relink": // NODE N: it seems to follow the one before that is there; the hash stays
		d.rows[at].Prev = d.rows[at-1].Hash
	case "date": // NODE N SECONDS: it seems to be so much later; the hash stays
		d.rows[at].At = d.rows[at].At.Add(time.Duration(upTo) * time.Second)
	case "reason": // NODE N REASON…: another one, and the hash that goes with it
		d.rows[at].Reason = strings.Join(rest, " ")
		_, d.rows[at].Hash = link.record(&d.rows[at].Record, id.node, n, d.rows[at].Prev)
	case "rename": // NODE N CHANGE: it names another one; the hash stays
		d.rows[at].Change, _ = strconv.ParseInt(rest[0], 10, 64)
	case "change-hash": // NODE N: the hash alone
		d.rows[at].Hash[5] ^= 1
	case "change-well": // NODE N: another secret, and the hash that goes with it
		d.rows[at].Secret = "other"
		_, d.rows[at].Hash = link.record(&d.rows[at].Record, id.node, n, d.rows[at].Prev)
	case "spoil": // NODE N: a text that no node writes
		d.rows[at].Actor = "\xff"
	case "swap": // NODE N M: each with the other's number
		other := slices.IndexFunc(d.rows, is(upTo))
		d.rows[at], d.rows[other] = d.rows[other], d.rows[at]
		d.rows[at].Seq, d.rows[other].Seq = n, upTo
	case "late": // NODE N M: record N comes after record M
		r := d.rows[at]
		d.rows = slices.Delete(d.rows, at, at+1)
		d.rows = slices.Insert(d.rows, slices.IndexFunc(d.rows, is(upTo))+1, r)
	case "twice": // NODE N
		d.rows = slices.Insert(d.rows, at, d.rows[at])
	case "insert": // NODE N: another record N beside it, that follows the same one
		d.rows = slices.Insert(d.rows, at+1, write(name, slices.Clone(d.original[name][:n-1]), int(n), "inserted")[n-1])
	case "squeeze": // NODE N: a record before N; the others move on by one
		d.rows = slices.Insert(d.rows, at, d.rows[at])
		for i := at + 1; i < len(d.rows) && d.rows[i].Node == id.node; i++ {
			d.rows[i].Seq++
		}
		d.rows[at].Secret = "squeezed"
	case "rewrite": // NODE N: from N on other records, with hashes that go with them
		length := len(d.original[name])
		d.rows = slices.DeleteFunc(d.rows, func(r Row) bool { return r.Node == id.node })
		d.rows = append(d.rows, write(name, slices.Clone(d.original[name][:n-1]), length, "rewritten")...)
	case "fork": // NODE N: another node goes on from N under the same identity; its records are there too
		other := write(name, slices.Clone(d.original[name][:n-1]), len(d.original[name]), "forked")
		d.rows = append(d.rows, other[n-1:]...)
		slices.SortStableFunc(d.rows, func(a, b Row) int {
			return cmp.Or(slices.Compare(a.Node[:], b.Node[:]), cmp.Compare(a.Seq, b.Seq))
		})
	case "fork-head": // NODE N M: a head over record M of a node that went on from N
		other := write(name, slices.Clone(d.original[name][:n-1]), len(d.original[name]), "forked")
		d.heads = append(d.heads, id.sign(other[upTo-1].Position(), testTime))
	default:
		t.Fatalf("%s: no such word", word)
	}
}

// plant puts in a record that no node wrote.
func (d *drawing) plant(node NodeID, seq uint64, well, before bool, change int64) {
	link, r := newLinker(), Row{Node: node, Seq: seq, Record: read("planted"), Prev: Hash{1}, Hash: Hash{2}}
	r.At, r.Change = testTime, change
	if well {
		_, r.Hash = link.record(&r.Record, node, seq, r.Prev)
	}
	at := slices.IndexFunc(d.rows, func(r Row) bool { return r.Node == node && r.Seq == seq })
	switch {
	case at < 0:
		at = len(d.rows)
	case !before:
		at++
	}
	d.rows = slices.Insert(d.rows, at, r)
}

func (d *drawing) all() func(func(Row, error) bool) {
	return func(yield func(Row, error) bool) {
		for _, r := range d.rows {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (d *drawing) text(report *Report) string {
	var b strings.Builder
	for _, n := range report.Nodes {
		fmt.Fprintf(&b, "node %v: records %d to %d, proven up to %d\n", n.Node, n.First, n.Last, n.Proven)
	}
	for _, f := range report.Findings {
		fmt.Fprintf(&b, "%v (at %d)\n", f, f.Seq)
	}
	for _, f := range report.Notes {
		fmt.Fprintf(&b, "note: %v (at %d)\n", f, f.Seq)
	}
	if more := report.MoreFindings + report.MoreNotes; more > 0 {
		fmt.Fprintf(&b, "and %d more\n", more)
	}
	if report.OK() {
		b.WriteString("ok\n")
	}
	s := b.String()
	for name := range d.original {
		id := nodeOf(name)
		s = strings.ReplaceAll(s, id.node.String(), name)
		s = strings.ReplaceAll(s, string(fingerprint(id.public())), "the key of "+name)
	}
	return s
}

func TestVerifyEnds(t *testing.T) {
	errSource := errors.New("the source failed")
	rows := func(yield func(Row, error) bool) { yield(Row{}, errSource) }
	if _, err := verifyChains(t.Context(), rows, nil, nil); !errors.Is(err, errSource) {
		t.Errorf("got %v, want the source's error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := &drawing{rows: write("a", nil, 3, "s")}
	if _, err := verifyChains(ctx, d.all(), nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	d.rows = nil
	for range 3 * maxFindings {
		d.rows = append(d.rows, write("a", nil, 1, "s")...)
	}
	report, err := verifyChains(t.Context(), d.all(), nil, nil)
	if err != nil || len(report.Findings) != maxFindings || report.MoreFindings != 2*maxFindings {
		t.Errorf("got %d findings and %d more, %v", len(report.Findings), report.MoreFindings, err)
	}
}

// TestVerifyManyHoles: what is known to be lost takes no room from what is wrong, and
// more of it than is looked at is wrong.
func TestVerifyManyHoles(t *testing.T) {
	for name, c := range map[string]struct {
		holes    int
		changed  bool
		findings int
		more     int
	}{
		"all of them known":         {maxFindings, false, 0, 0},
		"and a changed record":      {maxFindings, true, 1, 0},
		"one more":                  {maxFindings + 1, false, 0, 1},
		"one more, and the changed": {maxFindings + 1, true, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			id, last := nodeOf("a"), 2*c.holes+4
			d := &drawing{original: map[string][]Row{"a": write("a", nil, last, "s")}}
			d.do(t, []string{"says", "a", strconv.Itoa(last - 1), "gap", fmt.Sprintf("records 2 to %d; timeline 1 to 2", 2*c.holes)})
			if c.changed {
				d.do(t, []string{"change", "a", strconv.Itoa(last - 2)})
			}
			d.rows = slices.DeleteFunc(d.rows, func(r Row) bool { return r.Seq <= uint64(2*c.holes) && r.Seq%2 == 0 })
			for i := range d.rows { // each hole is behind a head
				d.heads = append(d.heads, id.sign(d.rows[i].Position(), testTime))
			}
			d.demands = Demands{Trust: Trust{id.node: {fingerprint(id.public())}}, Restored: []Range{{id.node, 2, uint64(2 * c.holes)}}}
			report, err := d.evidence().Verify(t.Context(), d.demands)
			if err != nil || len(report.Findings) != c.findings || report.MoreFindings != c.more || len(report.Notes) != maxFindings || report.MoreNotes != 0 {
				t.Fatalf("got %d findings and %d more, %d notes and %d more, %v", len(report.Findings), report.MoreFindings, len(report.Notes), report.MoreNotes, err)
			}
			if want := c.findings+c.more == 0; report.OK() != want {
				t.Errorf("OK is %v", !want)
			}
		})
	}
}

func TestParseTrust(t *testing.T) {
	a, b := nodeOf("a"), nodeOf("b")
	line := func(id *identity) string { return id.node.String() + " " + string(fingerprint(id.public())) + "\n" }
	trust, err := ParseTrust("# keys\n\n" + line(a) + "  " + line(b))
	if err != nil || len(trust) != 2 {
		t.Fatalf("got %v, %v", trust, err)
	}
	for _, id := range []*identity{a, b} {
		if h := id.sign(Position{Seq: 1}, testTime); !trust.trusts(&h) {
			t.Errorf("node %v is not trusted", id.node)
		}
	}
	if h := (&identity{a.node, b.key}).sign(Position{Seq: 1}, testTime); trust.trusts(&h) {
		t.Error("one node's key is trusted for another")
	}
	for _, wrong := range []string{
		"x\n", a.node.String() + "\n", strings.ToUpper(line(a)), "6f1c " + string(fingerprint(a.public())), a.node.String() + " SHA256:AAAA\n",
		a.node.String() + " " + strings.Replace(string(fingerprint(a.public())), "SHA256", "MD5", 1), line(a) + "more words here\n",
	} {
		if _, err := ParseTrust(wrong); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

func TestParseRange(t *testing.T) {
	node := nodeOf("a").node
	if got, err := ParseRange(node.String() + ":5-9223372036854775807"); err != nil || got != (Range{node, 5, maxSeq}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, wrong := range []string{
		"", "5-7", node.String(), node.String() + ":", node.String() + ":5", node.String() + ":5-", node.String() + ":-7", node.String() + ":7-5",
		node.String() + ":0-7", node.String() + ":5-9223372036854775808", node.String() + ":5-7-9", strings.ToUpper(node.String()) + "x:5-7",
	} {
		if got, err := ParseRange(wrong); err == nil || got != (Range{}) {
			t.Errorf("%q is taken: %+v", wrong, got)
		}
	}
}
