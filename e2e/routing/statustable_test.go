// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package routing

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// answer is what scripts may rely on.
type answer struct {
	Status  string
	Parts   map[string]string
	Servers []struct {
		Address, Error, Role, Version string
		Beside, Reached               bool
		Timeline                      int
		Lag                           *int64 `json:"lag_bytes"`
	}
	Nodes []struct {
		ID      string `json:"node_id"`
		Shipped int
		Self    bool
	} `json:"audit_nodes"`
	KMS   struct{ Usable bool }
	Cache struct{ Entries, Capacity int }
	Audit struct {
		ID                      string `json:"node_id"`
		Records, Shipped, Depth int
		Waiting                 float64 `json:"waiting_seconds"`
		Error                   string
	}
	Rotation struct {
		Enabled               bool
		Due, Claimed, Failing *int
	}
}

func asked(t *testing.T, n *cluster.Node, code int) (a answer) {
	t.Helper()
	out, got := n.Status(t, "--json")
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got != code {
		t.Errorf("exit code %d, want %d: %s", got, code, out)
	}
	return a
}

// servers are the rows in a word each.
func (a *answer) servers(c *cluster.Cluster) string {
	var words []string
	for i, s := range a.Servers {
		if s.Address != c.Nodes[i].Postgres {
			return "wrong addresses"
		}
		word := s.Role
		if !s.Reached {
			word = s.Error
		}
		if s.Lag != nil {
			word += "+"
		}
		if s.Beside {
			word += "!"
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

// TestStatusTable asks all nodes of a cluster that loses a standby, then its primary.
func TestStatusTable(t *testing.T) {
	c := cluster.Start(t, cluster.Spec{Standbys: 2})
	put := c.Connect(t, c.DSN(0, c.User))
	cluster.Text(t, put, "SELECT vault.put_secret('status/a', 's3cr3t-status')::text")
	c.WaitReplayed(t, 1)
	for _, n := range c.Nodes {
		cluster.Eventually(t, n.Name+" to be ready and all nodes' audits in the vault", func() bool {
			out, code := n.Status(t, "--json")
			return code == 0 && strings.Count(out, `"shipped":`) == 4 && strings.Contains(out, `"depth":0`) // its own, too
		})
	}
	for i, want := range []string{"primary!, standby+, standby+", "primary, standby+!, standby+", "primary, standby+, standby+!"} {
		a := asked(t, c.Nodes[i], 0)
		if got := a.servers(c); got != want {
			t.Errorf("node %d sees %s; want %s", i, got, want)
		}
		self := 0
		for _, n := range a.Nodes {
			if n.Self != (n.ID == a.Audit.ID) || n.Shipped == 0 {
				t.Errorf("node %d: %+v", i, n)
			}
			if n.Self {
				self++
			}
		}
		if self != 1 || len(a.Nodes) != 3 || !a.KMS.Usable || a.Cache.Capacity == 0 || !a.Rotation.Enabled || a.Rotation.Claimed == nil {
			t.Errorf("node %d: %+v", i, a)
		}
	}

	if err := c.Nodes[2].StopServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := asked(t, c.Nodes[1], 0)
	if got, want := a.servers(c), "primary, standby+!, connection refused"; got != want {
		t.Errorf("one standby down: %s; want %s", got, want)
	}
	cluster.Eventually(t, "the node beside it to know", func() bool { // it asks once a second
		_, code := c.Nodes[2].Status(t)
		return code == 1
	})
	if a := asked(t, c.Nodes[2], 1); a.Status != "unavailable" || a.servers(c) != "primary, standby+, connection refused!" {
		t.Errorf("the node beside it: %+v", a)
	}
	out, _ := c.Nodes[1].Status(t)
	line := fmt.Sprintf(`(?m)^%s +- +- +- +- +connection refused$`, regexp.QuoteMeta(c.Nodes[2].Postgres))
	if !regexp.MustCompile(line).MatchString(out) {
		t.Errorf("the table has no line like %s:\n%s", line, out)
	}
	if strings.Contains(out, "s3cr3t") {
		t.Error("a value is in it")
	}

	if err := c.Nodes[0].StopServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	read := c.Connect(t, c.DSN(1, c.User))
	if got := cluster.Text(t, read, "SELECT vault.read_secret('status/a')"); got != "s3cr3t-status" {
		t.Fatalf("got %q", got)
	}
	cluster.Eventually(t, "the node to be degraded, with a record that waits", func() bool {
		out, code := c.Nodes[1].Status(t)
		return code == 1 && regexp.MustCompile(`(?m)^status +degraded$`).MatchString(out) && regexp.MustCompile(`(?m)^primary +not found$`).MatchString(out) &&
			regexp.MustCompile(`(?m)^audit .* [1-9]\d* wait, none was shipped for [1-9]\d* s: no primary`).MatchString(out)
	})
	if a := asked(t, c.Nodes[1], 1); a.servers(c) != "connection refused, standby!, connection refused" || a.Audit.Depth == 0 || a.Audit.Depth != a.Audit.Records-a.Audit.Shipped {
		t.Errorf("without a primary: %s, %+v", a.servers(c), a.Audit)
	}
	if err := c.Nodes[0].StartServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, "the node to be well again", func() bool {
		out, code := c.Nodes[1].Status(t, "--json")
		return code == 0 && strings.Contains(out, `"depth":0`)
	})

	if err := c.Nodes[1].StopNode(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, code := c.Nodes[1].Status(t); code != 2 || !strings.Contains(out, "no node answers") {
		t.Errorf("of a node that does not run: %d, %s", code, out)
	}
}
