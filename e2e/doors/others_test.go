// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package doors

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// others are doors that no call in an expression makes: %v is the value's
// literal or parameter. Each is refused.
var others = []struct {
	name, text string
	literal    bool // it makes no sense with a parameter
}{
	{name: "supabase's table", text: "INSERT INTO vault.secrets (secret) VALUES (%v)"},
	{name: "supabase's table, returning", text: "INSERT INTO vault . secrets AS s (name, secret) VALUES ('n', %v) RETURNING s.*"},
	{name: "table without columns", text: "INSERT INTO vault.secrets VALUES (%v)"},
	{name: "table in quotes", text: `INSERT INTO "vault"."secrets" ("secret", "name") SELECT %v, 'n'`},
	{name: "table in escapes", text: `INSERT INTO U&"v\0061ult".secrets (secret) VALUES (%v)`},
	{name: "on conflict", text: "INSERT INTO vault.secrets (id) VALUES (NULL) ON CONFLICT (id) DO UPDATE SET secret = %v"},
	{name: "update of supabase's view", text: "UPDATE vault.decrypted_secrets SET decrypted_secret = %v WHERE id IS NOT NULL"},
	{name: "update only", text: "UPDATE ONLY vault.secrets SET (name, secret) = ('n', %v)"},
	{name: "writing cte", text: "WITH w AS (INSERT INTO vault.secret (v) VALUES (%v) RETURNING 1) SELECT * FROM w"},
	{name: "merge", text: "MERGE INTO vault.secrets s USING (SELECT 1) one ON true WHEN NOT MATCHED THEN INSERT (secret) VALUES (%v)"},
	{name: "merge update", text: "MERGE INTO vault.secrets s USING (SELECT 1) one ON true WHEN MATCHED THEN UPDATE SET secret = %v"},
	{name: "trigger", text: "CREATE TRIGGER t BEFORE INSERT ON many_0 FOR EACH ROW EXECUTE FUNCTION vault.put_secret('n', %v)", literal: true},
	{name: "trigger, old word", text: "CREATE TRIGGER t AFTER DELETE ON many_0 EXECUTE PROCEDURE vault . rotate_secret ('n', %v)", literal: true},
	{name: "file_fdw's program", text: "CREATE FOREIGN TABLE f (v text) SERVER files OPTIONS (program 'psql -c \"select vault.put_secret(''n'', $$' %v '$$)\"')", literal: true},
	{name: "archive_command", text: "ALTER SYSTEM SET archive_command = 'psql -c \"select vault.put_secret(n, v)\" #' %v", literal: true},
	{name: "table of a name of ours", text: "INSERT INTO vault.put_secret(name, value) VALUES ('n', %v)"},
	{name: "type of a name of ours", text: "SELECT %v::vault.put_secret('n')"},
	{name: "call by a field", text: "SELECT (%v::text).vault.put_secret('n')"},
	{name: "UESCAPE of a letter, in a body", text: `DO $do$ BEGIN PERFORM U&"vault".U&"putz005fsecret" UESCAPE 'z' ('n', ` + `%v); END $do$`, literal: true},
	{name: "UESCAPE, doubled, in a body", text: `DO 'BEGIN PERFORM vault.U&"put!005fsecret"/**/UESCAPE/**/''!''(''n'', $v$' %v '$v$); END'`, literal: true},
}

// adjacent writes a value as a literal that goes on from the one before.
func adjacent(text, value string) string {
	if strings.Contains(text, "' %v") {
		return strings.ReplaceAll(text, "' %v", "'\n'"+value+"'\n") // on lines of their own
	}
	return strings.ReplaceAll(text, "%v", plain(value))
}

// TestOthers sends doors in which no call in an expression carries the value.
func TestOthers(t *testing.T) {
	c := shared
	var all []*canary.Canary
	conn := dial(t, c, c.User, c.Database)
	refuse := func(name string, one *canary.Canary, msgs ...pgproto3.FrontendMessage) {
		t.Helper()
		all = append(all, one)
		e, err := conn.send(msgs...)
		switch {
		case err != nil:
			t.Fatalf("%s: %v", name, err)
		case e == nil:
			t.Errorf("%s: taken", name)
		case !slices.Contains([]string{"0A000", "42601", "42883"}, e.Code):
			t.Errorf("%s: got %s, want it refused by the node", name, answer(e))
		case e.Routine != "" || e.Hint == "":
			t.Errorf("%s: got %s, want an error of the node's with a hint", name, answer(e))
		}
	}
	for _, o := range others {
		one := canary.New(o.name, "others")
		refuse(o.name, one, &pgproto3.Query{String: adjacent(o.text, one.Value())})
		one = canary.New(o.name+", in a batch", "others")
		refuse(o.name+", in a batch", one, &pgproto3.Parse{Query: "SELECT 1"}, &pgproto3.Bind{}, &pgproto3.Execute{},
			&pgproto3.Parse{Query: adjacent(o.text, one.Value()+`\`+"")}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})
		if !o.literal {
			one = canary.New(o.name+", parameter", "others")
			refuse(o.name+", parameter", one, &pgproto3.Parse{Query: strings.ReplaceAll(o.text, "%v", "$1"), ParameterOIDs: []uint32{oidText}},
				&pgproto3.Bind{Parameters: [][]byte{[]byte(one.Value())}}, &pgproto3.Execute{}, &pgproto3.Sync{})
		}
	}
	for _, text := range []string{
		"CREATE OPERATOR === (FUNCTION = vault.rotate_secret, LEFTARG = text, RIGHTARG = text)",
		`CREATE OPERATOR === (PROCEDURE = "vault".U&"verify\005fsecret", LEFTARG = text, RIGHTARG = text)`,
	} {
		refuse(text, canary.New("operator", "others"), &pgproto3.Query{String: text})
	}
	scanner := canary.NewScanner(all)
	if err := scanner.Tree(c.Dir()); err != nil {
		t.Fatal(err)
	}
	for _, f := range scanner.Findings {
		t.Errorf("leak: %s", f)
	}
	t.Logf("%d doors", len(all))
}

func dial(t *testing.T, c *cluster.Cluster, user, database string) *session {
	t.Helper()
	conn, err := rawpg.Dial(t.Context(), strings.Replace(c.DSN(0, user), "dbname="+c.Database, "dbname="+database, 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // nothing is owed
	return &session{conn: conn, state: 'I'}
}

// TestTheirs: what is somebody else's passes, as if no node were there.
func TestTheirs(t *testing.T) {
	c := shared
	super := c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, super, "CREATE DATABASE theirs")
	at := func(dsn string) string { return strings.Replace(dsn, "dbname="+c.Database, "dbname=theirs", 1) }
	other := c.Connect(t, at(c.SuperDSN(0)))
	cluster.Exec(t, other, supabase)
	// An extension that is there in every database takes the schema.
	cluster.Exec(t, other, "ALTER EXTENSION plpgsql ADD SCHEMA vault; GRANT ALL ON SCHEMA vault TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA vault TO PUBLIC")
	for _, through := range []string{c.DSN(0, c.User), c.DirectDSN(0, c.User)} {
		conn := c.Connect(t, at(through))
		for _, simple := range []bool{true, false} {
			mode := pgx.QueryExecModeExec
			if simple {
				mode = pgx.QueryExecModeSimpleProtocol
			}
			name := fmt.Sprintf("%d %t", len(through), simple)
			cluster.Exec(t, conn, "SELECT vault.create_secret($1, $2)", mode, `it's \ a value`, name)
			cluster.Exec(t, conn, "INSERT INTO vault.secrets (secret, name) VALUES ($1, $2)", mode, "a row", name+" row")
			got := cluster.Text(t, conn, "SELECT string_agg(decrypted_secret, ',' ORDER BY name) FROM vault.decrypted_secrets WHERE name LIKE $1", mode, name+"%")
			if want := `it's \ a value,a row`; got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
			cluster.Exec(t, conn, "SELECT vault.create_secret(new_name => $1, new_secret => $2, new_description => 'd')", mode, name+" named", `\`)
			cluster.Exec(t, conn, "SELECT vault.update_secret((SELECT id FROM vault.secrets WHERE name = $1), $2)", mode, name+" row", "changed")
			cluster.Exec(t, conn, "SELECT vault.update_secret(new_secret => $2, secret_id => id) FROM vault.secrets WHERE name = $1", mode, name, "also")
			got = cluster.Text(t, conn, "SELECT string_agg(decrypted_secret, ',' ORDER BY name) FROM vault.decrypted_secrets WHERE name LIKE $1", mode, name+"%")
			if want := `also,\,changed`; got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
			cluster.Exec(t, conn, "DELETE FROM vault.secrets", mode)
		}
	}
	// A table of that name, where nothing is an extension's: a call is refused,
	// rows are theirs.
	plain := c.Connect(t, strings.Replace(c.DSN(0, c.User), "dbname="+c.Database, "dbname=postgres", 1))
	if _, err := plain.Exec(t.Context(), "INSERT INTO vault.secrets (secret) VALUES ('x')"); err == nil || !strings.Contains(err.Error(), "42P01") {
		t.Errorf("got %v, want the server's own 42P01", err)
	}
	// A function of the user's own with the name of one of ours.
	owner := c.Connect(t, c.DSN(0, c.User))
	cluster.Exec(t, owner, "CREATE SCHEMA own; CREATE FUNCTION own.put_secret(a text, b text) RETURNS text LANGUAGE sql AS 'SELECT a || b'; SET search_path = own")
	cluster.Exec(t, owner, "CREATE FUNCTION own.update_secret(a text, b text) RETURNS text LANGUAGE sql AS 'SELECT b || a'")
	if got := cluster.Text(t, owner, "SELECT put_secret('a', 'b') || update_secret('a', 'b')"); got != "abba" {
		t.Errorf("got %q, want abba", got)
	}
	cluster.Exec(t, owner, "SET search_path = vault, own")
	if _, err := owner.Exec(t.Context(), "SELECT update_secret('a', 'b')"); err == nil || !strings.Contains(err.Error(), "must be called with its schema") {
		t.Errorf("got %v, want a refusal", err)
	}
}

// reads are shapes in which a secret is read. Opened are those whose column has
// the type of read_secret; in all others no value may be.
var reads = []struct {
	text   string
	opened bool
}{
	{"SELECT %r", true},
	{"SELECT 1, %r AS x, 'y'", true},
	{"SELECT v FROM (SELECT %r AS v OFFSET 0) s", true},
	{"WITH w AS MATERIALIZED (SELECT %r AS v) SELECT v FROM w", true},
	{"SELECT %r UNION ALL SELECT %r", true},
	{"SELECT CASE WHEN true THEN %r END", true},
	{"SELECT coalesce(NULL, %r)", true},
	{"SELECT %r::text", true},
	{"SELECT CAST(%r AS varchar) AS v", true},
	{"VALUES (%r)", true},
	{"SELECT v FROM read_view", true},
	{"SELECT read_function()", true},
	{"SELECT s FROM (SELECT %r AS v OFFSET 0) s", false},
	{"SELECT ROW(%r, 1)", false},
	{"SELECT ARRAY[%r]", false},
	{"SELECT array_agg(v) FROM (SELECT %r AS v OFFSET 0) s", false},
	{"SELECT json_build_object('v', %r)", false},
	{"SELECT to_jsonb(s) FROM (SELECT %r AS v OFFSET 0) s", false},
	{"SELECT row_to_json(s) FROM (SELECT %r AS v OFFSET 0) s", false},
	{"SELECT format('%%s', %r)", false},
	{"SELECT concat(%r, 'x')", false},
	{"SELECT %r || 'x'", false},
	{"SELECT %r::bytea", false},
	{"SELECT %r::varchar(100)", false},
	{"SELECT length(%r::text)", false},
	{"SELECT md5(%r::text)", false},
	{"SELECT %r::text || ''", false},
	{"SELECT xmlelement(name v, %r)", false},
	{"COPY (SELECT %r) TO STDOUT", false},
	{"COPY (SELECT %r) TO STDOUT (FORMAT binary)", false},
	{"INSERT INTO read_table SELECT %r RETURNING v", false},
	{"INSERT INTO read_table SELECT %r::text RETURNING v", false},
	{"UPDATE read_table SET v = %r RETURNING v", false},
	{"CREATE TEMP TABLE kept AS SELECT %r AS v", false},
	{"SELECT %r = 'x'", false},
	{"SELECT DISTINCT %r", false},
	{"SELECT set_config('doors.v', %r::text, false)", false},
	{"DO $$ DECLARE v text; BEGIN SELECT %r INTO v; RAISE NOTICE '%%', v; END $$", false},
	{"EXPLAIN ANALYZE SELECT %r", false},
}

// TestReads reads a secret in every shape by both protocols: a value is in the
// answer only where it is opened, and ciphertext comes with one NOTICE.
func TestReads(t *testing.T) {
	c := shared
	one := canary.New("read", "reads")
	owner := c.Connect(t, c.DSN(0, c.User))
	cluster.Exec(t, owner, "SELECT vault.put_secret($1, $2)", one.Secret, one.Value())
	call := "vault.read_secret(" + plain(one.Secret) + ")"
	cluster.Exec(t, owner, "CREATE TABLE read_table (v text); INSERT INTO read_table VALUES ('x'); CREATE VIEW read_view AS SELECT "+call+" AS v")
	cluster.Exec(t, owner, "CREATE FUNCTION read_function() RETURNS vault.sealed LANGUAGE sql AS $$ SELECT "+call+" $$")
	conn := dial(t, c, c.User, c.Database)
	for _, r := range reads {
		text := strings.ReplaceAll(strings.ReplaceAll(r.text, "%r", call), "%%", "%")
		ways := map[string][]pgproto3.FrontendMessage{
			"simple":      {&pgproto3.Query{String: text}},
			"extended":    {&pgproto3.Parse{Query: text}, &pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{}},
			"undescribed": {&pgproto3.Parse{Query: text}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}},
			"binary": {
				&pgproto3.Parse{Name: "s", Query: text}, &pgproto3.Describe{ObjectType: 'S', Name: "s"},
				&pgproto3.Bind{PreparedStatement: "s", ResultFormatCodes: []int16{1}}, &pgproto3.Execute{MaxRows: 1}, &pgproto3.Execute{}, &pgproto3.Sync{},
			},
		}
		if strings.HasPrefix(text, "SELECT") && !strings.Contains(text, "set_config") {
			ways["cursor"] = []pgproto3.FrontendMessage{&pgproto3.Query{String: "BEGIN; DECLARE c CURSOR FOR " + text + "; FETCH ALL FROM c; ROLLBACK"}}
		}
		for way, msgs := range ways {
			if err := conn.conn.Send(msgs...); err != nil {
				t.Fatal(err)
			}
			answer, notices, failed := hear(t, conn.conn)
			for _, again := range []string{"ROLLBACK", "DISCARD ALL"} {
				if e, err := conn.query(again); e != nil || err != nil {
					t.Fatalf("%s: %+v, %v", text, e, err)
				}
			}
			value, sealed := strings.Contains(answer, one.Head), strings.Contains(answer, "hv1.")
			// A cast at the top is removed only where it is a column of the text itself.
			opened := r.opened && (way != "cursor" || !failed)
			switch {
			case value && !r.opened:
				t.Errorf("%s, %s: the value is in the answer: %q", text, way, answer)
			case opened && !value:
				t.Errorf("%s, %s: not opened: %q", text, way, answer)
			case sealed && notices != 1, !sealed && notices != 0:
				t.Errorf("%s, %s: %d notices, ciphertext %t: %q", text, way, notices, sealed, answer)
			}
		}
	}
	scanner := canary.NewScanner([]*canary.Canary{one})
	if err := scanner.Tree(c.Dir()); err != nil {
		t.Fatal(err)
	}
	for _, f := range scanner.Findings {
		t.Errorf("leak: %s", f)
	}
}

// hear reads up to ReadyForQuery: all bodies but those of notices of ours, which
// it counts.
func hear(t *testing.T, c *rawpg.Conn) (answer string, notices int, failed bool) {
	t.Helper()
	var b strings.Builder
	for {
		m, err := c.Receive()
		switch {
		case err != nil:
			t.Fatal(err)
		case m.Type == 'Z':
			return b.String(), notices, failed
		case m.Type == 'N' && strings.Contains(string(m.Body), "sealed text left in place"):
			notices++
			continue
		case m.Type == 'E':
			failed = true
		}
		b.Write(m.Body)
	}
}
