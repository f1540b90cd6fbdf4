// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// A text is sent to the node, and a stand-in for it, that answers alike, to the
// server.
type text struct {
	node, server string
	params       int
	refused      bool // by the node: what its name stood for before stays, and in a Query the unnamed statement
}

// texts are what the random conversations of TestRandomOrder are made of.
var texts = []text{
	{"SELECT vault.read_secret('order/read') AS pw", "SELECT 'opened'::text AS pw", 0, false},
	{"SELECT n, vault.read_secret('order/read') AS pw FROM generate_series(1, 3) n", "SELECT n, 'opened'::text AS pw FROM generate_series(1, 3) n", 0, false},
	{"SELECT vault.read_secret($1) AS pw", "SELECT order_read($1) AS pw", 1, false},
	{"TABLE order_view", "SELECT 'opened'::text AS pw", 0, false},
	{"SELECT vault.read_secret('order/spoilt') AS pw", "SELECT order_fail() AS pw", 0, false},
	{"SELECT vault.put_secret('order/put', 'order canary') > 0 AS v", "SELECT true AS v", 0, false},
	{"SELECT vault.put_secret('order/put', $1) > 0 AS v", "SELECT $1::text > '' AS v", 1, false},
	{"SELECT vault.put_secret('order//bad', 'order canary') > 0 AS v", "SELECT order_nothing()", 0, true},
	{"SELECT vault.put_secret('order/put', 'order ' || 'canary') > 0 AS v", "SELECT order_nothing()", 0, true},
	{"SELECT 1 AS one", "SELECT 1 AS one", 0, false},
	{"SELECT $1::text AS same", "SELECT $1::text AS same", 1, false},
	{"SELECT 1/(n - n) AS fails FROM generate_series(1, 1) n", "SELECT 1/(n - n) AS fails FROM generate_series(1, 1) n", 0, false},
	{"SELEC", "SELEC", 0, false},
	{"", "", 0, false},
	{"FETCH 1 FROM c", "FETCH 1 FROM c", 0, false},
	{"DECLARE c CURSOR FOR SELECT vault.read_secret('order/read') AS pw FROM generate_series(1, 2)", "DECLARE c CURSOR FOR SELECT 'opened'::text AS pw FROM generate_series(1, 2)", 0, false},
	{"CLOSE c", "CLOSE c", 0, false},
}

// blocks control transactions; they stand in a Query of their own, because a
// Parse of COMMIT in a failed block is judged before it is run.
var blocks = []string{"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s"}

// A conversation is what is sent to the node and to the server.
type conversation struct {
	node, server []pgproto3.FrontendMessage
	script       []string
	bound        bool // the unnamed portal, in this batch
	executed     bool // something, in this batch
	split        bool // a Query ends no batch: see query
}

func (c *conversation) add(script string, node, server pgproto3.FrontendMessage) {
	switch script[0] {
	case 'Q', 'S':
		c.bound, c.executed = false, false
	case 'E':
		c.executed = true
	}
	c.node, c.server, c.script = append(c.node, node), append(c.server, server), append(c.script, script)
}

func (c *conversation) both(script string, m pgproto3.FrontendMessage) { c.add(script, m, m) }

// query adds a Query. Behind an Execute without a Sync, PostgreSQL 18 leaves a lone
// one uncommitted; the Sync that comes loses it, and the next statement fails
// (XX000 unexpected state STARTED): there it gets a Sync in front.
func (c *conversation) query(node, server string) {
	if c.split && c.executed {
		c.both("S", rawpg.Sync())
	}
	c.add("Q "+node, rawpg.Query(node), rawpg.Query(server))
}

// randomConversation makes n messages; what they are is the seed's.
func randomConversation(seed uint64, n int, split bool) *conversation {
	r := rand.New(rand.NewPCG(seed, 0))
	c := &conversation{split: split}
	stmts, portals := []string{"", "", "s1", "s2"}, []string{"", "", "p1", "c"}
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	params := map[string]int{}
	for range n {
		stmt, portal := pick(stmts), pick(portals)
		switch k := r.IntN(20); k {
		case 0, 1, 2:
			x := texts[r.IntN(len(texts))]
			if x.params == 0 && !x.refused {
				c.query(x.node, x.server)
			}
		case 3, 4:
			b := pick(blocks)
			c.query(b, b)
		case 5, 6, 7, 8:
			x := texts[r.IntN(len(texts))]
			if x.refused {
				stmt = "refused"
			}
			c.add("P "+stmt+" "+x.node, rawpg.Parse(stmt, x.node), rawpg.Parse(stmt, x.server))
			params[stmt] = x.params
			if r.IntN(2) == 0 { // mostly a statement is used
				c.bind(r, portal, stmt, params[stmt])
				c.execute(portal, r.IntN(2))
			}
		case 9, 10, 11:
			c.bind(r, portal, stmt, params[stmt])
		case 12:
			c.both("D S "+stmt, rawpg.DescribeStatement(stmt))
		case 13:
			c.both("D P "+portal, rawpg.DescribePortal(portal))
		case 14, 15:
			c.execute(portal, r.IntN(3))
		case 16:
			c.both("C S "+stmt, rawpg.CloseStatement(stmt))
		case 17:
			c.both("C P "+portal, rawpg.ClosePortal(portal))
		case 18:
			c.both("H", rawpg.Flush())
		default:
			c.both("S", rawpg.Sync())
		}
	}
	c.both("S", rawpg.Sync())
	c.both("Q ROLLBACK", rawpg.Query("ROLLBACK"))
	c.both("Q end", rawpg.Query("SELECT 'end of the conversation'"))
	return c
}

func (c *conversation) bind(r *rand.Rand, portal, stmt string, params int) {
	b := rawpg.Bind(portal, stmt)
	for range params {
		b.Parameters = append(b.Parameters, []byte("order/read"))
	}
	if r.IntN(3) == 0 {
		b.ResultFormatCodes = []int16{1}
	}
	c.both(fmt.Sprint("B ", portal, " ", stmt, " ", b.ResultFormatCodes), b)
	c.bound = c.bound || portal == ""
}

// execute leaves out the unnamed portal unless it was bound just now: PostgreSQL
// 15 crashes when a portal is executed that a failed Query left in a block.
func (c *conversation) execute(portal string, rows int) {
	if portal != "" || c.bound {
		c.both(fmt.Sprint("E ", portal, " ", rows), rawpg.Execute(portal, uint32(rows)))
	}
}

// spoken sends the messages and spells the answers, errors without their code. A
// patient client reads at each Sync all that came until there; another sends
// everything at once.
func spoken(t *testing.T, c *rawpg.Conn, msgs []pgproto3.FrontendMessage, patient bool) (got []string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("the conversation until then: %s", strings.Join(got, " "))
		}
	}()
	until := func(last string) {
		for {
			m, err := c.Receive()
			if err != nil {
				t.Fatalf("receive: %v", err)
			}
			s := m.String()
			if m.Type == 'E' {
				s = "E"
				switch {
				case c.Err.Code == "26000" && strings.Contains(c.Err.Detail, "skipped"):
					s = lost
				case strings.Contains(c.Err.Message, mark):
					s = mark
				}
			}
			got = append(got, s)
			if s == last {
				return
			}
		}
	}
	var all []pgproto3.FrontendMessage
	for _, m := range msgs {
		all = append(all, m)
		if _, sync := m.(*pgproto3.Sync); !sync || !patient {
			continue
		}
		// An error that nothing else gives, in whatever state: behind it all is said.
		if err := c.Send(append(all, rawpg.DescribeStatement(mark), rawpg.Sync())...); err != nil {
			t.Fatal(err)
		}
		all = nil
		until(mark)
	}
	if err := c.Send(all...); err != nil {
		t.Fatal(err)
	}
	until("D(end_of_the_conversation)")
	return got
}

const mark = "mark"

// lost spells the node's refusal to bind to a name whose Parse was skipped and
// might have taken a value: the server, who never saw that, would have bound to
// what the name stood for before. From there on the answers differ.
const lost = "lost"

// TestRandomOrder sends random messages in random order to a node and, with
// stand-ins for what concerns the vault, to the server: the answers must be
// spelt alike, but for an error's code.
func TestRandomOrder(t *testing.T) {
	const conversations, length = 100, 24
	put(t, "order/read", "opened")
	spoil(t, "order/spoilt")
	conn := client(t)
	cluster.Exec(t, conn, "CREATE VIEW order_view AS SELECT vault.read_secret('order/read') AS pw")
	cluster.Exec(t, conn, `CREATE FUNCTION order_fail() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$`)
	cluster.Exec(t, conn, `CREATE FUNCTION order_read(name text) RETURNS text LANGUAGE sql STRICT AS $$ SELECT 'opened'::text $$`)
	split := cluster.Text(t, conn, "SELECT (current_setting('server_version_num')::int >= 180000)::text") == "true"
	for seed := range uint64(conversations) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { compareConversation(t, randomConversation(seed, length, split)) })
		if t.Failed() {
			break
		}
	}
	shared.NeverSent(t, "order canary")
}

func compareConversation(t *testing.T, conv *conversation) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("the conversation:\n%s", strings.Join(conv.script, "\n"))
		}
	}()
	direct, through := dial(t, shared.DirectDSN(0, shared.User)), raw(t)
	// A client that does not read would bind to a name whose Parse of a put was
	// skipped: that is looked at by TestSkippedParse.
	patient := strings.Contains(strings.Join(conv.script, " "), "put_secret")
	want, got := spoken(t, direct, conv.server, patient), spoken(t, through, conv.node, patient)
	if i := slices.Index(got, lost); i >= 0 {
		got, want = got[:i], want[:min(i, len(want))]
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), strings.Join(want, " "))
	}
}
