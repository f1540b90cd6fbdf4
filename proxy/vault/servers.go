// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
)

// ServerRole is what a server is in the cluster of this node.
type ServerRole string

// The roles.
const (
	RolePrimary  ServerRole = "primary"
	RoleStandby  ServerRole = "standby"
	RoleReplaced ServerRole = "replaced" // it says that it is the primary, and another has replaced it
	RoleForeign  ServerRole = "foreign"  // it is of another cluster
)

// A ServerState is what a server says when this node asks as the service role.
type ServerState struct {
	Server
	Err      error // why it could not be asked; nil: the rest is known
	Beside   bool  // it is the one beside this node
	Role     ServerRole
	Timeline uint32
	Version  string  // PostgreSQL's
	Lag      *uint64 // of a standby: bytes that the primary has flushed and it has not replayed; nil: not known
}

// sqlStanding asks a server who it is and where it stands. When it was started tells
// whether two addresses lead to the same.
const sqlStanding = `SELECT pg_catalog.json_build_object('claim', (` + SQLClaim + `),
 'version', pg_catalog.current_setting('server_version'), 'started', pg_catalog.pg_postmaster_start_time(),
 'lsn', CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
 ELSE pg_catalog.pg_current_wal_flush_lsn() END)::pg_catalog.text`

var errStanding = errors.New("it does not say what it is")

// A standing is a server's answer.
type standing struct {
	ServerState
	claim    claim
	started  string
	position uint64
	placed   bool // it has a position
}

// parseStanding reads what sqlStanding says.
func parseStanding(at Server, text string) (s standing, err error) {
	var answer struct{ Claim, Version, Started, LSN string }
	if json.Unmarshal([]byte(text), &answer) != nil {
		return s, errStanding
	}
	c, ok := parseClaim(at, answer.Claim)
	if !ok {
		return s, errStanding
	}
	s = standing{claim: c, started: answer.Started}
	s.Server, s.Timeline, s.Version = at, c.timeline, answer.Version
	s.position, s.placed = parseLSN(answer.LSN)
	return s, nil
}

// Servers asks all servers of VAULT_PG_HOSTS, and the one beside the node, at once and
// by connections of their own. That one comes first if it is none of them.
func (v *Vault) Servers(ctx context.Context) (states []ServerState) {
	defer v.rescue(ctx, "asking servers", func() { states = nil })
	ctx, cancel := context.WithTimeout(ctx, primaryTimeout)
	defer cancel()
	asked := make([]standing, 0, len(v.witnesses)+1)
	for _, w := range v.witnesses {
		asked = append(asked, standing{ServerState: ServerState{Server: w.at}})
	}
	listed := len(asked)
	local := slices.IndexFunc(asked, func(s standing) bool { return s.Server == v.local })
	if local < 0 {
		local = listed
		asked = append(asked, standing{ServerState: ServerState{Server: v.local}})
	}
	var all sync.WaitGroup
	for i := range asked {
		all.Go(func() {
			defer v.rescue(ctx, "asking a server", func() { asked[i].Err = errPanic })
			asked[i] = v.standingOf(ctx, asked[i].Server)
		})
	}
	all.Wait()
	system := asked[local].claim.system
	if known := v.primary.Load(); system == "" && known != nil {
		system = known.primary.System
	}
	return judge(asked[:listed], asked[local], system, v.Timeline())
}

func (v *Vault) standingOf(ctx context.Context, at Server) standing {
	w := &witness{at: at}
	defer w.close()
	text, err := v.askText(ctx, w, sqlStanding)
	var s standing
	if err == nil {
		s, err = parseStanding(at, text)
	}
	s.Server, s.Err = at, err
	return s
}

// judge says what each server is, by what all of them say: of the cluster with that
// identifier, if it is known, of which latest is the highest timeline that was seen.
func judge(hosts []standing, local standing, system string, latest uint32) []ServerState {
	beside := slices.IndexFunc(hosts, func(s standing) bool {
		return s.Server == local.Server || s.Err == nil && local.Err == nil && s.claim.system == local.claim.system && s.started == local.started
	})
	if beside < 0 {
		hosts, beside = append([]standing{local}, hosts...), 0
	}
	hosts[beside].Beside = true
	var primary *standing
	for i := range hosts {
		switch s := &hosts[i]; {
		case s.Err != nil:
		case system != "" && s.claim.system != system:
			s.Role = RoleForeign
		case !s.claim.primary:
			s.Role = RoleStandby
		default:
			s.Role = RoleReplaced // unless it is the one below
			if s.Timeline >= latest {
				primary, latest = s, s.Timeline
			}
		}
	}
	if primary != nil {
		primary.Role = RolePrimary
	}
	states := make([]ServerState, len(hosts))
	for i := range hosts {
		s := &hosts[i]
		if primary != nil && s.Role == RoleStandby && s.placed && primary.placed {
			behind := primary.position - min(s.position, primary.position) // one that was asked later is ahead
			s.Lag = &behind
		}
		states[i] = s.ServerState
	}
	return states
}
