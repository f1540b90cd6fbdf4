// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// verify runs audit verify and says what it printed.
func (a *auditedServer) verify(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	code, out, errs := finish(t, a.env, slices.Concat([]string{"audit", "verify", "--trust", a.trust}, a.accepted, args)...)
	return code, out + errs
}

// hashing is docs/AUDIT.md in SQL: what who can write to the table can do as well.
const hashing = `
	CREATE FUNCTION public.field(b bytea) RETURNS bytea LANGUAGE sql AS 'SELECT int4send(octet_length(b)) || b';
	CREATE FUNCTION public.field(t text) RETURNS bytea LANGUAGE sql AS $$SELECT public.field(convert_to(coalesce(t, ''), 'UTF8'))$$;
	CREATE FUNCTION public.rehash(node uuid, first bigint) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		l vault.audit_log;
		before bytea = coalesce((SELECT hash FROM vault.audit_log WHERE node_id = node AND seq = first - 1), decode(repeat('00', 32), 'hex'));
	BEGIN
		FOR l IN SELECT * FROM vault.audit_log WHERE node_id = node AND seq >= first ORDER BY seq LOOP
			UPDATE vault.audit_log SET prev_hash = before, hash = sha256(public.field('hv/audit/1'::text) || public.field(before)
				|| public.field('\x01'::bytea) || public.field(uuid_send(node)) || public.field(int8send(l.seq))
				|| public.field(int8send((extract(epoch FROM l.at) * 1000000)::bigint)) || public.field(l.actor) || public.field(l.session_role)
				|| public.field(coalesce(substr(inet_send(l.client_ip), 5), '')) || public.field(l.face) || public.field(l.database)
				|| public.field(l.action) || public.field(l.secret_name) || public.field(int4send(coalesce(l.version, 0))) || public.field(l.outcome)
				|| public.field(CASE WHEN l.direct THEN '\x01'::bytea ELSE '\x00' END) || public.field(l.reason)
				|| public.field(int8send(coalesce(l.change, 0))) || public.field(int8send(coalesce(l.statement, 0))))
				WHERE node_id = node AND seq = l.seq RETURNING hash INTO before;
		END LOOP;
		UPDATE vault.audit_heads h SET hash = before WHERE h.node_id = node;
	END $$`

// signHead is what a head's signature is, for who has another key.
func signHead(key ed25519.PrivateKey, node [16]byte, seq uint64, hash []byte, at time.Time) (public, signature []byte) {
	public = key[ed25519.SeedSize:]
	var b []byte
	for _, field := range [][]byte{
		[]byte("hv/audit-head/1"), node[:], binary.BigEndian.AppendUint64(nil, seq), hash, binary.BigEndian.AppendUint64(nil, uint64(at.UnixMicro())), public,
	} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(field))), field...)
	}
	return public, ed25519.Sign(key, b)
}

// TestAuditCommands asks a server, of which everything is as it should be, and then
// not.
func TestAuditCommands(t *testing.T) {
	a := startAudited(t)
	a.append(t, 0, 40, 0)
	a.append(t, 1, 5, 0)
	first, _, _ := a.spools[0].Identity()
	code, export, errs := finish(t, a.env, "audit", "export")
	if code != exitOK {
		t.Fatalf("export: %s", errs)
	}
	heads := auditFile(t, "heads", export)
	a.append(t, 0, 3, 0)

	t.Run("whole", func(t *testing.T) {
		code, said := a.verify(t, "--heads", heads)
		if code != exitOK || !strings.Contains(said, "records 1 to 44, proven up to 44") || !strings.Contains(said, "records 1 to 6, proven up to 6") {
			t.Errorf("exit code %d: %s", code, said)
		}
	})
	t.Run("export", func(t *testing.T) {
		if code, said := a.verify(t, "--export", heads); code != exitOK || !strings.Contains(said, "records 1 to 41, proven up to 41") {
			t.Errorf("exit code %d: %s", code, said)
		}
		for i := range a.spools { // the spool has the very same records
			_, files, _ := finish(t, nil, "audit", "export", "--spool", a.dirs[i])
			for line := range strings.Lines(files) {
				if strings.Contains(line, `"kind":"record"`) && !strings.Contains(line, `"seq":4`) && !strings.Contains(export, line) {
					t.Fatalf("the table has not %s", line)
				}
			}
		}
	})
	t.Run("since", func(t *testing.T) { a.checkSince(t) })
	t.Run("readers", func(t *testing.T) { a.checkReaders(t) })
	t.Run("standby", func(t *testing.T) {
		eventually(t, "the standby has it", func() bool {
			code, out, _ := finish(t, pgEnv(t, a.cluster, a.cluster.Nodes[1]), "audit", "verify", "--trust", a.trust)
			return code == exitOK && strings.Contains(out, "records 1 to 44")
		})
	})
	t.Run("trap", func(t *testing.T) { a.checkTrap(t) })
	t.Run("tail", func(t *testing.T) { a.checkTail(t) })
	t.Run("changes", func(t *testing.T) { a.checkChanges(t) })
	t.Run("gap", func(t *testing.T) { a.checkGap(t) })
	t.Run("tampering", func(t *testing.T) { a.checkTampering(t, first, heads) })
	t.Run("pruned", func(t *testing.T) { a.checkPruned(t) })
}

func (a *auditedServer) checkSince(t *testing.T) {
	t.Helper()
	code, out, errs := finish(t, a.env, "audit", "export", "--since", "0s")
	if code != exitOK || strings.Contains(out, `"seq":41,"prev"`) || !strings.Contains(out, `"seq":44,"prev"`) {
		t.Errorf("exit code %d, got %s%s, want what is behind the first anchors", code, out, errs)
	}
	part := auditFile(t, "part", out)
	if code, said := a.verify(t, "--export", part, "--part"); code != exitOK || !strings.Contains(said, "pruned") {
		t.Errorf("exit code %d: %s", code, said)
	}
	if code, said := a.verify(t, "--export", part); code != exitFault || !strings.Contains(said, "too late to be deleted for its age") {
		t.Errorf("a part that is given out for everything: exit code %d: %s", code, said)
	}
}

// checkReaders: who may not read it all sees an error, not an empty audit.
func (a *auditedServer) checkReaders(t *testing.T) {
	t.Helper()
	a.exec(t, "CREATE ROLE auditor LOGIN PASSWORD 'auditor' IN ROLE pg_read_all_data; CREATE ROLE nobody LOGIN PASSWORD 'nobody'")
	as := func(role string) []string { return append(slices.Clone(a.env), "PGUSER="+role, "PGPASSWORD="+role) }
	ask := func(role string, want int, words string) {
		t.Helper()
		for _, args := range [][]string{{"audit", "verify", "--trust", a.trust}, {"audit", "export"}, {"audit", "tail"}} {
			if code, out, errs := finish(t, as(role), args...); code != want || !strings.Contains(out+errs, words) {
				t.Errorf("%s: %v: exit code %d: %s%s, want %d and %q", role, args, code, out, errs, want, words)
			}
		}
	}
	ask("nobody", exitBlind, "BYPASSRLS")
	ask("auditor", exitBlind, "BYPASSRLS")
	a.exec(t, "ALTER ROLE auditor BYPASSRLS")
	ask("auditor", exitOK, "")
	if code, _, errs := finish(t, a.env, "audit", "verify", "--database", "postgres"); code != exitBlind || !strings.Contains(errs, "has no audit of a vault") {
		t.Errorf("another database: exit code %d: %s", code, errs)
	}
	if code, _, errs := finish(t, append(slices.Clone(a.env), "PGDATABASE="), "audit", "verify"); code != exitBlind || !strings.Contains(errs, `database "postgres" has no audit`) {
		t.Errorf("no database named: exit code %d: %s", code, errs)
	}
	if code, _, errs := finish(t, append(slices.Clone(a.env), "PGPORT=1"), "audit", "verify"); code != exitBlind {
		t.Errorf("no server: exit code %d: %s", code, errs)
	}
}

// checkTrap: what has the names of the vault's tables, in a database of another's, is not
// read: he would have run what he likes, as who reads.
func (a *auditedServer) checkTrap(t *testing.T) {
	t.Helper()
	a.exec(t, "CREATE ROLE trapper LOGIN PASSWORD 'trapper'")
	a.exec(t, "CREATE DATABASE trap OWNER trapper")
	conn, err := connectTo(t.Context(), a.cluster.Nodes[0].Postgres, "trapper", "trapper", "trap")
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.PgConn().Exec(t.Context(), `CREATE SCHEMA vault;
		CREATE FUNCTION vault.spring() RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RAISE 'the trap ran as %', current_user; END$$;
		CREATE VIEW vault.audit_heads AS SELECT NULL::uuid AS node_id, vault.spring() AS seq, ''::bytea AS hash, now() AS at, ''::bytea AS public_key, ''::bytea AS signature;
		CREATE VIEW vault.audit_anchors AS SELECT * FROM vault.audit_heads;
		CREATE TABLE vault.audit_log (node_id uuid, seq bigint); CREATE TABLE vault.changes (subject text)`).ReadAll()
	if err = errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify", "--trust", a.trust}, {"export"}, {"tail"}} {
		code, out, errs := finish(t, a.env, slices.Concat([]string{"audit"}, args, []string{"--database", "trap"})...)
		if code != exitBlind || strings.Contains(out+errs, "the trap ran") || !strings.Contains(errs, `schema vault of database "trap" is not the extension's`) {
			t.Errorf("%v: exit code %d: %s%s", args, code, out, errs)
		}
	}
}

func (a *auditedServer) checkTail(t *testing.T) {
	t.Helper()
	code, out, errs := finish(t, a.env, "audit", "tail", "-n", "2")
	if lines := strings.Split(out, "\n"); code != exitOK || len(lines) != 3 || !strings.Contains(lines[1], `:44 sql ann/app_rw app update "Größe/2\x1b" v7 ok direct`) {
		t.Errorf("got %q, %s, want records 43 and 44", out, errs)
	}
	p := startProgram(t, a.env, "audit", "tail", "-f", "-n", "1", "--json")
	got := make(chan string, 100)
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := p.out.Read(b)
			if err != nil {
				close(got)
				return
			}
			got <- string(b[:n])
		}
	}()
	if line := <-got; !strings.Contains(line, `"seq":44,`) {
		t.Errorf("got %q, want record 44", line)
	}
	a.append(t, 1, 2, 0)
	var text string
	for !strings.Contains(text, `"seq":8,`) {
		text += <-got
	}
	if strings.Count(text, "\n") != 2 || !strings.Contains(text, `"seq":7,`) {
		t.Errorf("got %q, want records 7 and 8 of the other node", text)
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for range got {
		continue // to its end
	}
	_ = p.cmd.Wait()
	if code := p.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("Ctrl-C: exit code %d: %s", code, p.err.String())
	}
}

// checkChanges: what is done at the server's own port is found, and what a node has
// recorded is not.
func (a *auditedServer) checkChanges(t *testing.T) {
	t.Helper()
	role := pgx.Identifier{a.cluster.User}.Sanitize()
	a.exec(t, "SELECT vault.grant_access('"+role+"', 'billing/*', 'read')")
	var change int64
	if err := a.conn.QueryRow(t.Context(), "SELECT id FROM vault.changes ORDER BY id DESC LIMIT 1").Scan(&change); err != nil {
		t.Fatal(err)
	}
	found := fmt.Sprintf(`change %d: not through a node: "grant" of "app billing/*" by "postgres"`, change)
	if code, said := a.verify(t, "--grace", "0s"); code != exitFault || !strings.Contains(said, found) {
		t.Errorf("exit code %d: %s, want %s", code, said, found)
	}
	if code, said := a.verify(t); code != exitOK || !strings.Contains(said, "less than 5m0s old: 1") {
		t.Errorf("it may be on its way: exit code %d: %s", code, said)
	}
	_, export, _ := finish(t, a.env, "audit", "export")
	if code, said := a.verify(t, "--grace", "0s", "--export", auditFile(t, "export", export)); code != exitFault || !strings.Contains(said, found) {
		t.Errorf("the same offline: exit code %d: %s, want %s", code, said, found)
	}
	a.append(t, 0, 2, change)
	if code, said := a.verify(t, "--grace", "0s"); code != exitOK || !strings.Contains(said, "changes compared with records: 1\n") ||
		!strings.Contains(said, fmt.Sprintf("note: change missing: 1 that records name, rolled back, not yet committed, or removed: %d\n", change+1)) {
		t.Errorf("recorded: exit code %d: %s", code, said)
	}
}

// checkGap: the server is restored to an earlier state, and the node no longer has
// what was shipped since. It says so.
func (a *auditedServer) checkGap(t *testing.T) {
	t.Helper()
	s := a.spools[1]
	a.exec(t, "CREATE TABLE public.earlier AS SELECT * FROM vault.audit_heads")
	before := a.position(t, s)
	a.append(t, 1, 4, 0)
	gone := a.position(t, s)
	node, _, _ := s.Identity()
	a.exec(t, "DELETE FROM vault.audit_log WHERE node_id = $1 AND seq > $2", [16]byte(node), before.Seq)
	a.exec(t, "UPDATE vault.audit_heads h SET (seq, hash, signature, at) = (e.seq, e.hash, e.signature, e.at) FROM public.earlier e WHERE e.node_id = h.node_id AND h.node_id = $1", [16]byte(node))
	r := audit.Record{
		Face: audit.FaceNode, Action: audit.ActionGap, Outcome: audit.OutcomeOK, Reason: fmt.Sprintf("records %d to %d; timeline 1 to 2", before.Seq+1, gone.Seq),
	}
	if err := s.Append(t.Context(), []audit.Record{r}); err != nil {
		t.Fatal(err)
	}
	a.last[1]++
	eventually(t, "everything is durable", func() bool { return s.Status().Durable == a.last[1] })
	a.shipFrom(t, s, gone, true)
	lost := fmt.Sprintf("lost by restore: records %d to %d are not there, and record %d says why", before.Seq+1, gone.Seq, a.last[1])
	if code, said := a.verify(t); code != exitFault || !strings.Contains(said, "FOUND") || !strings.Contains(said, lost) || !strings.Contains(said, "--restored") {
		t.Errorf("nobody says that it was restored: exit code %d: %s, want %s", code, said, lost)
	}
	a.accepted = []string{"--restored", fmt.Sprintf("%v:%d-%d", node, before.Seq+1, gone.Seq)}
	if code, said := a.verify(t); code != exitOK || !strings.Contains(said, lost) {
		t.Errorf("exit code %d: %s, want %s", code, said, lost)
	}
	a.exec(t, "DELETE FROM vault.audit_anchors WHERE node_id = $1 AND seq = $2", [16]byte(node), before.Seq)
	if code, said := a.verify(t); code != exitFault || !strings.Contains(said, fmt.Sprintf("no trusted head is over record %d", before.Seq)) {
		t.Errorf("without the head before the gap: exit code %d: %s", code, said)
	}
	a.exec(t, "INSERT INTO vault.audit_anchors (node_id, seq, hash, public_key, signature, at) SELECT node_id, seq, hash, public_key, signature, at FROM public.earlier WHERE node_id = $1", [16]byte(node))
}

// checkTampering has the superuser do to the tables what can be done.
func (a *auditedServer) checkTampering(t *testing.T, node audit.NodeID, heads string) {
	t.Helper()
	a.exec(t, hashing)
	a.exec(t, "CREATE TABLE public.kept AS SELECT * FROM vault.audit_log; CREATE TABLE public.kept_heads AS SELECT * FROM vault.audit_heads; CREATE TABLE public.kept_anchors AS SELECT * FROM vault.audit_anchors")
	a.exec(t, "SELECT public.rehash($1, 1)", [16]byte(node))
	if code, said := a.verify(t); code != exitOK {
		t.Fatalf("the SQL of this test computes other hashes: %s", said)
	}
	id := node.String()
	rewrite := "UPDATE vault.audit_log SET secret_name = 'innocent' WHERE node_id = $1 AND seq = 20"
	for name, c := range map[string]struct {
		sql  []string
		args []string
		want string
	}{
		"removed":          {[]string{"DELETE FROM vault.audit_log WHERE node_id = $1 AND seq BETWEEN 10 AND 12"}, nil, "removed: records 10 to 12 are missing"},
		"removed first":    {[]string{"DELETE FROM vault.audit_log WHERE node_id = $1 AND seq <= 5"}, nil, "removed: records 1 to 5 are missing"},
		"changed":          {[]string{rewrite}, nil, "changed: record 20 is not what its hash says"},
		"changed and hash": {[]string{rewrite, "SELECT public.rehash($1, 20)"}, nil, "rewritten: record 41 is not the one over which a head was signed"},
		"inserted": {[]string{
			"UPDATE vault.audit_log SET seq = -seq WHERE node_id = $1 AND seq > 20", "UPDATE vault.audit_log SET seq = 1 - seq WHERE node_id = $1 AND seq < 0",
			`INSERT INTO vault.audit_log SELECT (jsonb_populate_record(l, '{"seq": 21}')).* FROM vault.audit_log l WHERE node_id = $1 AND seq = 20`,
		}, nil, "reordered: in the place of record 21 is record 20"},
		"cut off":                     {[]string{"DELETE FROM vault.audit_log WHERE node_id = $1 AND seq > 30"}, nil, "cut off: it ends with record 30, but a head over record 46"},
		"cut off with heads":          {[]string{"DELETE FROM vault.audit_log WHERE node_id = $1 AND seq > 30", "DELETE FROM vault.audit_heads WHERE node_id = $1", "DELETE FROM vault.audit_anchors WHERE node_id = $1"}, []string{"--heads", heads}, "cut off: it ends with record 30, but a head over record 41"},
		"a node is gone":              {[]string{"DELETE FROM vault.audit_log WHERE node_id = $1", "DELETE FROM vault.audit_heads WHERE node_id = $1", "DELETE FROM vault.audit_anchors WHERE node_id = $1"}, nil, "its key is trusted, and nothing of it is there"},
		"everything is gone":          {[]string{"TRUNCATE vault.audit_log, vault.audit_heads, vault.audit_anchors"}, nil, "nothing of it is there"},
		"withheld":                    {[]string{"UPDATE vault.audit_log SET action = 'withheld', face = '', outcome = '', actor = NULL, session_role = NULL, client_ip = NULL, database = NULL, secret_name = NULL, version = NULL, direct = false, reason = NULL, change = NULL, statement = NULL WHERE node_id = $1 AND seq BETWEEN 8 AND 9"}, nil, "withheld: records 8 to 9 are withheld, but the node ships everything"},
		"a number that no record has": {[]string{"UPDATE vault.audit_log SET seq = -8 WHERE node_id = $1 AND seq = 8"}, nil, "changed: a record has the number 0, which none can have"},
		"a time that no record has":   {[]string{"UPDATE vault.audit_log SET at = 'infinity' WHERE node_id = $1 AND seq = 8"}, nil, "changed: record 8"},
		"an address that is none":     {[]string{"UPDATE vault.audit_log SET client_ip = '192.0.2.7/24' WHERE node_id = $1 AND client_ip = '192.0.2.7'"}, nil, "changed: record 2 "},
		"a text without an end":       {[]string{"UPDATE vault.audit_log SET reason = repeat('x', 10000000) WHERE node_id = $1 AND seq = 8"}, nil, "changed: record 8"},
		"a statement, the other sign": {[]string{"UPDATE vault.audit_log SET statement = -statement WHERE node_id = $1 AND seq = 8"}, nil, "changed: record 8"},
		"an anchor for none":          {[]string{"ALTER TABLE vault.audit_anchors DROP CONSTRAINT audit_anchors_seq_check", "UPDATE vault.audit_anchors SET seq = -2 WHERE node_id = $1"}, nil, "has a wrong signature"},
		"an anchor for another":       {[]string{"UPDATE vault.audit_anchors SET seq = 2 WHERE node_id = $1"}, nil, "has a wrong signature"},
	} {
		t.Run(name, func(t *testing.T) {
			a.exec(t, "ALTER TABLE vault.audit_log DROP CONSTRAINT IF EXISTS audit_log_seq_check")
			for _, sql := range c.sql {
				if strings.Contains(sql, "$1") {
					a.exec(t, strings.ReplaceAll(sql, "$1", "'"+id+"'"))
				} else {
					a.exec(t, sql)
				}
			}
			if code, said := a.verify(t, c.args...); code != exitFault || !strings.Contains(said, c.want) {
				t.Errorf("exit code %d: %s, want %q", code, said, c.want)
			}
			a.undo(t)
		})
	}
	t.Run("rewritten and signed", func(t *testing.T) {
		a.exec(t, strings.ReplaceAll(rewrite, "$1", "'"+id+"'"))
		a.checkSigned(t, node)
	})
	if code, said := a.verify(t); code != exitOK {
		t.Fatalf("the tables are not as before: %s", said)
	}
}

// checkSigned computes a changed chain anew, and signs it with another key.
func (a *auditedServer) checkSigned(t *testing.T, node audit.NodeID) {
	t.Helper()
	a.exec(t, "SELECT public.rehash($1, 20)", [16]byte(node))
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	at := time.Now().Truncate(time.Microsecond)
	var hash []byte
	for _, table := range []string{"audit_heads", "audit_anchors"} {
		var seq uint64
		if err := a.conn.QueryRow(t.Context(), "SELECT l.seq, l.hash FROM vault."+table+" h JOIN vault.audit_log l USING (node_id, seq) WHERE node_id = $1", [16]byte(node)).Scan(&seq, &hash); err != nil {
			t.Fatal(err)
		}
		public, signature := signHead(key, node, seq, hash, at)
		a.exec(t, "UPDATE vault."+table+" SET hash = $2, at = $3, public_key = $4, signature = $5 WHERE node_id = $1", [16]byte(node), hash, at, public, signature)
	}
	code, said := a.verify(t)
	if code != exitFault || !strings.Contains(said, "which is not trusted") || strings.Contains(said, "wrong signature") {
		t.Errorf("exit code %d: %s, want a key that is not trusted", code, said)
	}
	a.undo(t)
}

// undo puts the tables back.
func (a *auditedServer) undo(t *testing.T) {
	t.Helper()
	a.exec(t, `TRUNCATE vault.audit_log, vault.audit_heads, vault.audit_anchors; INSERT INTO vault.audit_log SELECT * FROM public.kept;
		INSERT INTO vault.audit_heads SELECT * FROM public.kept_heads; INSERT INTO vault.audit_anchors SELECT * FROM public.kept_anchors`)
}

// checkPruned: what is deleted for its age leaves a chain that is whole; what is too
// young for that does not.
func (a *auditedServer) checkPruned(t *testing.T) {
	t.Helper()
	a.exec(t, "SELECT vault.prune_audit(now())")
	if code, said := a.verify(t, "--min-age", "0s"); code != exitOK || !strings.Contains(said, "pruned") {
		t.Errorf("exit code %d: %s", code, said)
	}
	if code, said := a.verify(t); code != exitFault || !strings.Contains(said, "none of its records is there, but a head over record 46 was signed") {
		t.Errorf("too early: exit code %d: %s", code, said)
	}
}
