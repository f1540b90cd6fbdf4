// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"context"
	"fmt"

	"github.com/hyperiondb/hyperion-vault/proxy/hba"
	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// uncheckable is the answer to a log-in that cannot be checked. While that lasts
// the reason is logged from time to time.
func (s *Server) uncheckable(why string, err error) *sqlError {
	s.lament.Do(func() { s.cfg.Log.Error("log-ins are impossible", "reason", why, "error", err.Error()) })
	return fatalError(stateCannotConnect, "the node cannot check log-ins at its server now",
		"The node's log has the reason; try again, or connect to another node.")
}

// admitAddress applies the server's pg_hba.conf to a client that has proved its
// password: until then it hears nothing of the rules. The server itself sees
// the node's address only.
func (s *Server) admitAddress(ctx context.Context, ss *session) error {
	if s.cfg.IgnoreHBA {
		return nil
	}
	client := hba.Client{Addr: ss.peer, User: ss.user, Database: ss.database, TLS: ss.tls, Physical: isPhysical(ss.params)}
	v, err := s.cfg.Vault.Admits(ctx, client)
	if err != nil {
		return s.uncheckable("the service role cannot read the rules of pg_hba.conf", err)
	}
	if v.Outcome == hba.Admitted {
		return nil
	}
	e := refusal(client, v)
	e.reason = "hba"
	s.cfg.Log.Warn("log-in refused", "role", ss.user, "database", ss.database, "client", ss.peerText(), "reason", e.message, "line", v.Line.Number)
	return e
}

// refusal is what PostgreSQL says of such a client (auth.c, ClientAuthentication),
// and of what only a node refuses, the line.
func refusal(c hba.Client, v hba.Verdict) *sqlError {
	host, encryption := "[local]", "no encryption"
	if c.Addr.IsValid() {
		host = c.Addr.String()
	}
	if c.TLS {
		encryption = "SSL encryption"
	}
	switch {
	case v.Outcome == hba.NotApplied:
		e := fatalError(stateAuthorization, fmt.Sprintf("%s decides about this connection, and a node cannot apply it", v.Line),
			"Connect to the server itself, or have a line with scram-sha-256 put before it. VAULT_PROXY_HBA=off on the node lets everybody pass whom the server lets pass.")
		e.detail = "Of that line: " + v.Reason + "."
		return e
	case v.Outcome == hba.Rejected && c.Physical:
		return fatalError(stateAuthorization, fmt.Sprintf("pg_hba.conf rejects replication connection for host \"%s\", user \"%s\", %s", host, c.User, encryption), "")
	case v.Outcome == hba.Rejected:
		return fatalError(stateAuthorization, fmt.Sprintf("pg_hba.conf rejects connection for host \"%s\", user \"%s\", database \"%s\", %s", host, c.User, c.Database, encryption), "")
	case c.Physical:
		return fatalError(stateAuthorization, fmt.Sprintf("no pg_hba.conf entry for replication connection from host \"%s\", user \"%s\", %s", host, c.User, encryption), "")
	default:
		return fatalError(stateAuthorization, fmt.Sprintf("no pg_hba.conf entry for host \"%s\", user \"%s\", database \"%s\", %s", host, c.User, c.Database, encryption), "")
	}
}

// isPhysical tells a replication connection to no database, as the server does
// (ProcessStartupPacket): the last boolean counts, and "database" once said
// stays.
func isPhysical(params []wire.Param) bool {
	replication := false
	for _, p := range params {
		if p.Name != "replication" {
			continue
		}
		if p.Value == "database" {
			return false
		}
		replication = isReplication(p.Value)
	}
	return replication
}
