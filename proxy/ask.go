// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"strings"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
	"github.com/hyperiondb/hyperion-vault/rewrite"
)

// ask runs a query of the node's own in the client's session, between two of
// the client's messages; the client sees nothing of it. Nothing may be owed and
// no batch be open. ok is false if the server refused.
func (ss *session) ask(sql string) (rows [][][]byte, ok bool, err error) {
	pre := &prelude{}
	t := &task{swallow: true, poison: true, pre: pre, group: -1}
	x := errand{} // not a Query, which would drop the client's unnamed statement
	x.query(ss.own, sql)
	x.sync()
	if err := ss.send(x.msgs, append(ss.oweQuestion(nil, t, t), owed{kind: oweSync, task: t})...); err != nil {
		return nil, false, err
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	err = ss.wait(func() bool { return pre.done })
	return pre.rows, !pre.failed, err
}

// canAsk reports whether a query of the node's own may stand here. mu is held.
func (ss *session) canAsk() bool {
	return ss.queue.len() == 0 && !ss.batch.open && !ss.skip && ss.state == wire.Idle
}

// doubt notes that the extension's objects may have other OIDs now. mu is held.
func (ss *session) doubt() { ss.doubtful = true }

// maxSeen bounds the types and functions that a session has looked up and found not
// to be the vault's.
const maxSeen = 4096

// firstUserOID is the first OID that initdb does not give away.
const firstUserOID = 16384

// see doubts the catalog when a result has a type, or a FunctionCall calls what was
// not there when it was read: the extension may have been created anew. One counter
// gives both their OIDs. mu is held.
func (ss *session) see(oid uint32) {
	if oid < firstUserOID || oid == ss.catalog.sealed || oid == ss.catalog.array {
		return
	}
	if _, seen := ss.seen[oid]; seen {
		return
	}
	if ss.seen == nil || len(ss.seen) >= maxSeen {
		ss.seen = map[uint32]struct{}{}
	}
	ss.seen[oid] = struct{}{}
	ss.doubt()
}

// refreshCatalog reads the catalog again. If that fails the old one stays: a
// stale OID leaves ciphertext in place and opens nothing.
func (ss *session) refreshCatalog() error {
	ss.mu.Lock()
	ss.doubtful = false
	ss.mu.Unlock()
	rows, ok, err := ss.ask(catalogQuery)
	if err != nil || !ok || len(rows) != 1 {
		return err
	}
	var c catalog
	c.read(rows[0])
	ss.mu.Lock()
	c.bypasses = c.bypasses || ss.catalog.bypasses // who logged in may act as another now
	ss.catalog = c
	ss.mu.Unlock()
	return nil
}

// bareQuery asks which of the functions that take, or may be given, a value a bare name reaches here:
// name, and whether the function is the extension's.
const bareQuery = `SELECT p.proname, EXISTS (SELECT FROM pg_catalog.pg_depend d
 JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
 WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) p.oid
 AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
 AND d.deptype OPERATOR(pg_catalog.=) 'e' AND e.extname OPERATOR(pg_catalog.=) 'hyperion_vault')
FROM pg_catalog.pg_proc p
WHERE p.proname OPERATOR(pg_catalog.=) ANY ('{put_secret,create_secret,rotate_secret,verify_secret,update_secret}'::pg_catalog.name[])
 AND pg_catalog.pg_function_is_visible(p.oid)`

var bareNames = map[string]rewrite.Func{
	"put_secret": rewrite.Put, "create_secret": rewrite.Create, "rotate_secret": rewrite.Rotate, "verify_secret": rewrite.Verify,
	"update_secret": rewrite.Update,
}

// foreignNames returns the functions whose bare names are somebody else's in
// this session's search_path, so that a text which uses them is none of the
// vault's business.
func (ss *session) foreignNames() ([]rewrite.Func, error) {
	ss.mu.Lock()
	can := ss.canAsk()
	ss.mu.Unlock()
	if !can {
		return nil, nil
	}
	rows, ok, err := ss.ask(bareQuery)
	if err != nil || !ok {
		return nil, err
	}
	ours := map[string]bool{}
	for _, r := range rows {
		if len(r) == 2 {
			ours[string(r[0])] = ours[string(r[0])] || string(r[1]) == "t"
		}
	}
	var foreign []rewrite.Func
	for name, own := range ours {
		if f, known := bareNames[strings.ToLower(name)]; known && !own {
			foreign = append(foreign, f)
		}
	}
	return foreign, nil
}
