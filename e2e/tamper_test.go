// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// tampered is the one SQLSTATE of every forgery (data_corrupted).
const tampered = "XX001"

const kmsCalls = "hyperion_vault_kms_calls_total"

// A forger is the superuser at the server itself, and a user who reads through
// the node.
type forger struct {
	*testing.T
	c      *cluster.Cluster
	super  *pgx.Conn
	reader *session
}

func newForger(t *testing.T, c *cluster.Cluster) *forger {
	t.Helper()
	return &forger{T: t, c: c, super: c.Connect(t, c.SuperDSN(0)), reader: openSession(t, c.DSN(0, c.User))}
}

// put makes a version through the node.
func (f *forger) put(name, value string) {
	f.Helper()
	f.reader.must("SELECT vault.put_secret('" + name + "', '" + value + "')")
}

// exec is the superuser's.
func (f *forger) exec(sql string, args ...any) {
	f.Helper()
	cluster.Exec(f, f.super, sql, args...)
}

// opens says what a read must give.
func (f *forger) opens(name, want string) {
	f.Helper()
	if got := f.reader.must("SELECT vault.read_secret('" + name + "')"); !slices.Equal(got, []string{want}) {
		f.Fatalf("%s: got %q, want %q", name, got, want)
	}
}

// refused reads what must not open, and sees that the session goes on. value is
// what must not show; calls how often the KMS may be asked, -1: as often as need be.
func (f *forger) refused(what, sql, value string, calls float64) {
	f.Helper()
	before := f.c.Nodes[0].Metric(f, kmsCalls)
	a := f.reader.query(sql)
	if err := oneError(a, 'I', value); err != nil {
		f.Errorf("%s: %v: %s", what, err, a)
	}
	if got := f.c.Nodes[0].Metric(f, kmsCalls) - before; calls >= 0 && got > calls {
		f.Errorf("%s: calls of the KMS: got %v, want at most %v", what, got, calls)
	}
	if got := f.reader.must("SELECT 'goes on'"); !slices.Equal(got, []string{"goes on"}) {
		f.Fatalf("%s: the session does not go on: %q", what, got)
	}
}

func read(name string) string { return "SELECT vault.read_secret('" + name + "')" }

// oneError says what is wrong with the answer to a forgery.
func oneError(a answer, status byte, value string) error {
	switch {
	case len(a.errors) != 1:
		return fmt.Errorf("got %d errors, want 1", len(a.errors))
	case a.errors[0].Code != tampered:
		return fmt.Errorf("got SQLSTATE %s, want %s", a.errors[0].Code, tampered)
	case len(a.rows) > 0:
		return fmt.Errorf("got %d values, want none", len(a.rows))
	case a.status != status:
		return fmt.Errorf("got status %q, want %q", a.status, status)
	case strings.Contains(a.String(), value):
		return fmt.Errorf("the answer shows the value")
	}
	return nil
}

// TestFlippedBytes flips each byte of what a version holds, one bit at a time
// of it, and sees that it opens no more.
func TestFlippedBytes(t *testing.T) {
	f := newForger(t, shared)
	f.put("tamper/flip", "flip-s3cr3t")
	f.opens("tamper/flip", "flip-s3cr3t")
	row := "secret_id = (SELECT id FROM vault.secrets WHERE name = 'tamper/flip')"
	for _, column := range []string{"ciphertext", "nonce", "wrapped_dek"} {
		length, err := strconv.Atoi(cluster.Text(t, f.super, "SELECT octet_length("+column+")::text FROM vault.secret_versions WHERE "+row))
		if err != nil || length < 24 {
			t.Fatalf("%s has %d bytes: %v", column, length, err)
		}
		// Only another wrapped key can be news to the KMS.
		calls := 0.0
		if column == "wrapped_dek" {
			calls = 1
		}
		for i := range length {
			flip := fmt.Sprintf("UPDATE vault.secret_versions SET %[1]s = set_byte(%[1]s, %[2]d, get_byte(%[1]s, %[2]d) # %[3]d) WHERE %[4]s", column, i, 1<<(i%8), row)
			f.exec(flip)
			f.refused(fmt.Sprintf("%s, byte %d", column, i), read("tamper/flip"), "flip-s3cr3t", calls)
			f.exec(flip)
		}
		for _, cut := range []string{"substr(%[1]s, 1, length(%[1]s) - 1)", "%[1]s || '\\x00'"} {
			if column == "nonce" {
				continue // the table allows 24 bytes and no others
			}
			was := cluster.Text(t, f.super, "SELECT encode("+column+", 'hex') FROM vault.secret_versions WHERE "+row)
			f.exec(fmt.Sprintf("UPDATE vault.secret_versions SET %[1]s = "+cut+" WHERE "+row, column))
			f.refused(column+", another length", read("tamper/flip"), "flip-s3cr3t", calls)
			f.exec("UPDATE vault.secret_versions SET "+column+" = decode($1, 'hex') WHERE "+row, was)
		}
		f.opens("tamper/flip", "flip-s3cr3t")
	}
}

// A forgery changes rows; undo changes them back.
type forgery struct {
	what  string
	forge []string
	undo  []string
	read  string  // what is read; empty: secret a
	calls float64 // of the KMS, at most
}

// TestForgedRows puts sealed rows where they do not belong.
func TestForgedRows(t *testing.T) {
	f := newForger(t, shared)
	for _, name := range []string{"tamper/a", "tamper/b"} {
		f.put(name, "s3cr3t-1-"+name)
		// Else the first version is gone as soon as somebody tidies up.
		f.reader.must("SELECT vault.update_secret('" + name + "', grace_period => interval '1 day')")
		f.put(name, "s3cr3t-2-"+name)
	}
	f.exec("CREATE TABLE public.forger AS SELECT name, v.* FROM vault.secrets s JOIN vault.secret_versions v ON v.secret_id = s.id WHERE name LIKE 'tamper/_'")
	for _, forged := range forgeries() {
		f.opens("tamper/a", "s3cr3t-2-tamper/a")
		f.opens("tamper/b", "s3cr3t-2-tamper/b")
		for _, sql := range forged.forge {
			f.exec(sql)
		}
		sql := forged.read
		if sql == "" {
			sql = read("tamper/a")
		}
		f.refused(forged.what, sql, "s3cr3t", forged.calls)
		for _, sql := range forged.undo {
			f.exec(sql)
		}
	}
	f.opens("tamper/a", "s3cr3t-2-tamper/a")
	f.opens("tamper/b", "s3cr3t-2-tamper/b")
}

func forgeries() []forgery {
	const (
		a = "(SELECT id FROM vault.secrets WHERE name = 'tamper/a')"
		b = "(SELECT id FROM vault.secrets WHERE name = 'tamper/b')"
	)
	// from makes a's second version of another one's columns.
	from := func(name string, version int, columns ...string) string {
		return fmt.Sprintf("UPDATE vault.secret_versions v SET (%[1]s) = (SELECT %[1]s FROM public.forger WHERE name = '%[2]s' AND version = %[3]d) WHERE v.secret_id = %[4]s AND v.version = 2",
			strings.Join(append(columns, "envelope_format"), ", "), name, version, a)
	}
	all := []string{"value_format", "kms_key_id", "wrapped_dek", "nonce", "ciphertext"}
	undo := []string{from("tamper/a", 2, all...)}
	set := func(column, value string) string {
		return "UPDATE vault.secret_versions SET " + column + " = " + value + " WHERE version = 2 AND secret_id = " + a
	}
	return []forgery{
		{"row of another name", []string{from("tamper/b", 2, all...)}, undo, "", 1},
		{"row of another version", []string{from("tamper/a", 1, all...)}, undo, "", 1},
		{"ciphertext of another version", []string{from("tamper/a", 1, "ciphertext")}, undo, "", 0},
		{"key of another version", []string{from("tamper/a", 1, "wrapped_dek")}, undo, "", 1},
		{"key of another name", []string{from("tamper/b", 2, "wrapped_dek")}, undo, "", 1},
		{"nonce and ciphertext of another name", []string{from("tamper/b", 2, "nonce", "ciphertext")}, undo, "", 0},
		{"value format", []string{set("value_format", "3")}, undo, "", 0},
		{"foreign KMS key", []string{set("kms_key_id", "'local:0000000000000000'")}, undo, "", 0},
		{"KMS key of another provider", []string{set("kms_key_id", "'arn:aws:kms:eu-central-1:123456789012:key/1'")}, undo, "", 0},
		{"names exchanged", exchangeNames(), exchangeNames(), "", 1},
		{
			"versions exchanged", exchangeVersions(a), exchangeVersions(a), "", 1,
		},
		{
			"version that is called another",
			[]string{"UPDATE vault.secrets SET current_version = 9 WHERE name = 'tamper/a'", "UPDATE vault.secret_versions SET version = 9 WHERE version = 2 AND secret_id = " + a},
			[]string{"UPDATE vault.secrets SET current_version = 2 WHERE name = 'tamper/a'", "UPDATE vault.secret_versions SET version = 2 WHERE version = 9 AND secret_id = " + a},
			"", 1,
		},
		{
			"older version under a new number",
			[]string{"INSERT INTO vault.secret_versions SELECT " + a + ", 7, envelope_format, value_format, kms_key_id, wrapped_dek, nonce, ciphertext, 'previous', now(), now() + interval '1 day' FROM public.forger WHERE name = 'tamper/a' AND version = 1"},
			[]string{"DELETE FROM vault.secret_versions WHERE version = 7 AND secret_id = " + a},
			"SELECT vault.read_secret('tamper/a', 7)", 1,
		},
		{
			"rows exchanged between two secrets", exchangeSecrets(a, b), exchangeSecrets(a, b), "", 1,
		},
		{
			"another vault id",
			[]string{"UPDATE vault.meta SET vault_id = gen_random_uuid()"},
			[]string{"UPDATE vault.meta SET vault_id = '" + shared.VaultID + "'"},
			"", 0,
		},
		{
			"one bad among good",
			[]string{from("tamper/b", 2, "ciphertext")},
			undo,
			"SELECT vault.read_secret(name) FROM unnest('{tamper/b,tamper/a,tamper/b}'::text[]) AS name", 0,
		},
		{"verify of a forged row", []string{from("tamper/b", 2, "ciphertext")}, undo, "SELECT vault.verify_secret('tamper/a', 'no')", 0},
	}
}

func exchangeNames() []string {
	return []string{
		"UPDATE vault.secrets SET name = 'tamper/x' WHERE name = 'tamper/a'",
		"UPDATE vault.secrets SET name = 'tamper/a' WHERE name = 'tamper/b'",
		"UPDATE vault.secrets SET name = 'tamper/b' WHERE name = 'tamper/x'",
	}
}

// exchangeVersions gives the two versions of a secret each other's number.
func exchangeVersions(id string) []string {
	of := "secret_id = " + id
	return []string{
		"UPDATE vault.secret_versions SET stage = 'previous', expires_at = now() + interval '1 day' WHERE version = 2 AND " + of,
		"UPDATE vault.secret_versions SET version = 100 WHERE version = 2 AND " + of,
		"UPDATE vault.secret_versions SET version = 2, stage = 'current', expires_at = NULL WHERE version = 1 AND " + of,
		"UPDATE vault.secret_versions SET version = 1 WHERE version = 100 AND " + of,
	}
}

// exchangeSecrets gives the second versions of two secrets each other's secret.
func exchangeSecrets(a, b string) []string {
	const nobody = "'00000000-0000-4000-8000-000000000000'"
	move := func(from, to string) string {
		return "UPDATE vault.secret_versions SET secret_id = " + to + " WHERE version = 2 AND secret_id = " + from
	}
	return []string{move(a, nobody), move(b, a), move(nobody, b)}
}

// TestRecreatedSecret brings a deleted secret's row back under its name.
func TestRecreatedSecret(t *testing.T) {
	f := newForger(t, shared)
	f.put("tamper/again", "s3cr3t-before")
	f.exec("CREATE TABLE public.forger_again AS SELECT * FROM vault.secret_versions WHERE secret_id = (SELECT id FROM vault.secrets WHERE name = 'tamper/again')")
	f.reader.must("SELECT vault.delete_secret('tamper/again')")
	f.put("tamper/again", "s3cr3t-after")
	f.opens("tamper/again", "s3cr3t-after")
	f.exec(`UPDATE vault.secret_versions v SET (kms_key_id, wrapped_dek, nonce, ciphertext) = (SELECT kms_key_id, wrapped_dek, nonce, ciphertext FROM public.forger_again)
		WHERE secret_id = (SELECT id FROM vault.secrets WHERE name = 'tamper/again')`)
	f.refused("row of the deleted secret", read("tamper/again"), "s3cr3t", 1)
}

// TestForgedInTransaction sees that the server's transaction ends as the error
// says, whichever way the statement was sent.
func TestForgedInTransaction(t *testing.T) {
	f := newForger(t, shared)
	f.put("tamper/good", "s3cr3t-good")
	f.put("tamper/bad", "s3cr3t-bad")
	f.exec("CREATE TABLE public.forger_marks (mark text)")
	f.exec("GRANT ALL ON public.forger_marks TO " + f.c.User)
	f.exec("UPDATE vault.secret_versions SET ciphertext = set_byte(ciphertext, 40, get_byte(ciphertext, 40) # 1) WHERE secret_id = (SELECT id FROM vault.secrets WHERE name = 'tamper/bad')")
	mark := func(text string) string { return "INSERT INTO public.forger_marks VALUES ('" + text + "')" }
	marks := func() string {
		f.Helper()
		return cluster.Text(f, f.super, "SELECT coalesce(string_agg(mark, ',' ORDER BY mark), '') FROM public.forger_marks")
	}
	bad, s := read("tamper/bad"), f.reader
	check := func(what string, a answer, status byte) {
		f.Helper()
		if err := oneError(a, status, "s3cr3t-bad"); err != nil {
			f.Errorf("%s: %v: %s", what, err, a)
		}
	}

	check("extended", s.do(batch(bad)...), 'I')
	check("extended, behind a write", s.do(batch(mark("behind"), bad, mark("after"))...), 'I')
	if got := marks(); got != "" {
		t.Errorf("a batch that failed left %q", got)
	}

	for _, extended := range []bool{false, true} {
		send := func(sql string) answer {
			if extended {
				return s.do(batch(sql)...)
			}
			return s.query(sql)
		}
		what := fmt.Sprintf("in a block, extended %t", extended)
		s.must("BEGIN")
		s.must(mark("block"))
		check(what, send(bad), 'E')
		if a := s.query("SELECT 1"); len(a.errors) != 1 || a.errors[0].Code != "25P02" {
			t.Errorf("%s: the block does not know of its failure: %s", what, a)
		}
		if a := s.query("COMMIT"); a.status != 'I' {
			t.Errorf("%s: COMMIT: %s", what, a)
		}
		if got := marks(); got != "" {
			t.Errorf("%s: left %q", what, got)
		}

		s.must("BEGIN")
		s.must(mark("kept"))
		s.must("SAVEPOINT s")
		s.must(mark("undone"))
		check(what+", savepoint", send(bad), 'E')
		s.must("ROLLBACK TO s")
		if got := s.must(read("tamper/good")); !slices.Equal(got, []string{"s3cr3t-good"}) {
			t.Errorf("%s, behind the savepoint: got %q", what, got)
		}
		s.must("COMMIT")
		if got := marks(); got != "kept" {
			t.Errorf("%s, savepoint: got %q, want kept", what, got)
		}
		f.exec("TRUNCATE public.forger_marks")
	}

	s.must("BEGIN")
	s.must("DECLARE c CURSOR FOR SELECT vault.read_secret(name) FROM unnest('{tamper/good,tamper/bad}'::text[]) AS name")
	if got := s.must("FETCH c"); !slices.Equal(got, []string{"s3cr3t-good"}) {
		t.Errorf("cursor: got %q", got)
	}
	check("cursor", s.query("FETCH c"), 'E')
	s.must("ROLLBACK")

	// A statement of its own is committed before its rows come: the error says so.
	a := s.query("INSERT INTO public.forger_marks VALUES ('told') RETURNING vault.read_secret('tamper/bad')")
	check("RETURNING", a, 'I')
	if len(a.errors) == 1 && !strings.Contains(a.errors[0].Detail, "committed") {
		t.Errorf("RETURNING: the detail %q does not say that the row is there", a.errors[0].Detail)
	}
	if got := marks(); got != "told" {
		t.Errorf("RETURNING: got %q, want told", got)
	}
	// By the extended protocol it is not.
	check("RETURNING, extended", s.do(batch("INSERT INTO public.forger_marks VALUES ('untold') RETURNING vault.read_secret('tamper/bad')")...), 'I')
	if got := marks(); got != "told" {
		t.Errorf("RETURNING, extended: got %q, want told", got)
	}

	prepared := []pgproto3.FrontendMessage{&pgproto3.Bind{PreparedStatement: "p"}, &pgproto3.Execute{}, &pgproto3.Sync{}}
	s.do(&pgproto3.Parse{Name: "p", Query: bad}, &pgproto3.Sync{})
	for range 2 {
		check("prepared", s.do(prepared...), 'I')
	}
	check("prepared, binary", s.do(&pgproto3.Bind{PreparedStatement: "p", ResultFormatCodes: []int16{1}}, &pgproto3.Execute{}, &pgproto3.Sync{}), 'I')
}

// TestTwoClusters copies a row into another cluster that has the same master
// key and a secret of the same name and id.
func TestTwoClusters(t *testing.T) {
	here := newForger(t, shared)
	there := newForger(t, cluster.Start(t, cluster.Spec{NodeEnv: map[string]string{"VAULT_LOCAL_MASTER_KEY": masterKey(t, shared)}}))
	here.put("tamper/two", "s3cr3t-here")
	there.put("tamper/two", "s3cr3t-there")
	there.opens("tamper/two", "s3cr3t-there")
	var id, keyID string
	var wrapped, nonce, ciphertext []byte
	const query = "SELECT s.id::text, kms_key_id, wrapped_dek, nonce, ciphertext FROM vault.secrets s JOIN vault.secret_versions v ON v.secret_id = s.id WHERE name = 'tamper/two'"
	if err := here.super.QueryRow(t.Context(), query).Scan(&id, &keyID, &wrapped, &nonce, &ciphertext); err != nil {
		t.Fatal(err)
	}
	there.exec("UPDATE vault.secret_versions SET secret_id = $1::uuid, kms_key_id = $2, wrapped_dek = $3, nonce = $4, ciphertext = $5 WHERE secret_id = (SELECT id FROM vault.secrets WHERE name = 'tamper/two')",
		id, keyID, wrapped, nonce, ciphertext)
	there.exec("UPDATE vault.secrets SET id = $1::uuid WHERE name = 'tamper/two'", id)
	there.refused("row of another cluster", read("tamper/two"), "s3cr3t", 1)
	// With the other's vault id as well it is no longer this node's vault.
	there.exec("UPDATE vault.meta SET vault_id = $1::uuid", shared.VaultID)
	there.refused("row and vault id of another cluster", read("tamper/two"), "s3cr3t", 0)
	here.opens("tamper/two", "s3cr3t-here")
}

// masterKey is that of a cluster's nodes.
func masterKey(t *testing.T, c *cluster.Cluster) string {
	t.Helper()
	for line := range strings.Lines(readFile(t, c.Nodes[0].Config)) {
		if key, found := strings.CutPrefix(strings.TrimSpace(line), "VAULT_LOCAL_MASTER_KEY="); found {
			return key
		}
	}
	t.Fatal("the node's configuration has no master key")
	return ""
}
