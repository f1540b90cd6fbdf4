// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package transcripts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	cluster.Main(m, cluster.Spec{Settings: map[string]string{"log_statement": "all", "max_connections": "60"}}, &shared)
}

// modern says that the server is PostgreSQL 18 or later.
var modern bool

// plain is a database that knows nothing of the vault.
const plain = "plain"

// TestTranscripts sends each conversation of proxy/testdata/transcripts to the
// server and to the node: in a database without the vault as it stands, in the
// vault's own with reads and puts between its steps.
func TestTranscripts(t *testing.T) {
	prepare(t)
	files, err := filepath.Glob("../../proxy/testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("transcripts: got %d, %v", len(files), err)
	}
	defer shared.NeverSent(t, Canary)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runFile(t, filepath.Base(file), string(text)) })
	}
}

// prepare makes what README.md says is there.
func prepare(t *testing.T) {
	t.Helper()
	admin := shared.Connect(t, shared.SuperDSN(0))
	modern = cluster.Text(t, admin, "SELECT (current_setting('server_version_num')::int >= 180000)::text") == "true"
	cluster.Exec(t, admin, "CREATE DATABASE "+plain)
	cluster.Exec(t, admin, cluster.Text(t, admin, "SELECT pg_catalog.format('CREATE ROLE walker LOGIN REPLICATION PASSWORD %L', $1::text)", shared.Password))
	for _, database := range []string{plain, shared.Database} {
		conn := shared.Connect(t, strings.Replace(shared.SuperDSN(0), "dbname="+shared.Database, "dbname="+database, 1))
		cluster.Exec(t, conn, `CREATE TABLE transparent (n int PRIMARY KEY, t text, b bytea);
			CREATE TYPE transparent_pair AS (a int, b text);
			GRANT ALL ON transparent TO PUBLIC`)
	}
	cluster.Exec(t, shared.Connect(t, shared.DSN(0, shared.User)), "SELECT vault.put_secret($1, $2)", ReadName, ReadValue)
}

func sides(database string) (server, node Side) {
	n := shared.Nodes[0]
	server = Side{Address: n.Postgres, User: shared.User, Password: shared.Password, Database: database}
	node = server
	node.Address = n.Proxy
	return server, node
}

func runFile(t *testing.T, file, text string) {
	t.Helper()
	for _, database := range []string{plain, shared.Database} {
		all, err := Parse(text, map[string]string{"user": shared.User, "database": database})
		if err != nil {
			t.Fatal(err)
		}
		for i, transcript := range all {
			if !transcript.For(database != plain) {
				continue
			}
			t.Run(fmt.Sprintf("%s %d %s", database, i+1, transcript.Name), func(t *testing.T) {
				if database == plain || transcript.Vault != "" {
					compare(t, database, transcript, transcript)
					return
				}
				name := fmt.Sprintf("%s/%d", file, i)
				onServer, err := transcript.Interleave(name, false)
				if err != nil {
					t.Fatal(err)
				}
				onNode, err := transcript.Interleave(name, true)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, database, onServer, onNode)
			})
		}
	}
}

// compare plays a conversation in every way of writing.
func compare(t *testing.T, database string, onServer, onNode Transcript) {
	t.Helper()
	server, node := sides(database)
	var want []answer
	var err error
	if onServer.NodeOnly == "" {
		if want, err = server.play(t.Context(), onServer, Steps); err != nil {
			t.Fatalf("the server: %v", err)
		}
	}
	says := onServer.Server
	if modern && onServer.Server18 != "" {
		says = onServer.Server18
	}
	if says != "" && !matches(short(want), says) {
		t.Errorf("the server: got  %s\nwant %s", short(want), says)
	}
	for _, way := range []Way{Steps, Messages, Bytes, AtOnce} {
		if way == AtOnce {
			if !onNode.Pipelines() {
				continue
			}
			if onServer.NodeOnly != "" {
				want = nil
			} else if want, err = server.play(t.Context(), onServer, AtOnce); err != nil { // what is ignored during a COPY depends on when it comes
				t.Fatalf("the server, %s: %v", way, err)
			}
		}
		got, err := node.play(t.Context(), onNode, way)
		if err != nil {
			t.Errorf("the node, %s: %v", way, err)
			return
		}
		if onNode.Node != "" {
			if !matches(short(got), onNode.Node) {
				t.Errorf("the node, %s: got  %s\nwant %s", way, short(got), onNode.Node)
				return
			}
			continue
		}
		for i := range max(len(got), len(want)) {
			if i == len(got) || i == len(want) || !same(got[i], want[i], database != plain) {
				t.Errorf("the node, %s: from message %d on: got %s\n%.400q\nwant %s\n%.400q",
					way, i+1, short(got[min(i, len(got)):]), rest(got, i), short(want[min(i, len(want)):]), rest(want, i))
				return
			}
		}
	}
}

func rest(said []answer, i int) string {
	if i < len(said) {
		return said[i].text + " " + said[i].place
	}
	return "nothing"
}
