// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import "github.com/hyperiondb/hyperion-vault/proxy/wire"

// answers says which messages one of the server's can be an answer to. What has no
// entry comes at any time, or has no end of its own.
var answers = [256]uint16{
	wire.ParseComplete:        1 << oweParse,
	wire.BindComplete:         1 << oweBind,
	wire.CloseComplete:        1 << oweClose,
	wire.ParameterDescription: 1 << oweDescribe,
	wire.NoData:               1<<oweDescribe | 1<<oweDescribePortal,
	wire.RowDescription:       1<<oweDescribe | 1<<oweDescribePortal | 1<<oweQuery,
	wire.DataRow:              1<<oweExecute | 1<<oweQuery,
	wire.CommandComplete:      1<<oweExecute | 1<<oweQuery,
	wire.EmptyQueryResponse:   1<<oweExecute | 1<<oweQuery,
	wire.CopyInResponse:       1<<oweExecute | 1<<oweQuery,
	wire.CopyOutResponse:      1<<oweExecute | 1<<oweQuery,
	wire.PortalSuspended:      1 << oweExecute,
	wire.FunctionCallResponse: 1 << oweCall,
	wire.ReadyForQuery:        1<<oweSync | 1<<oweQuery | 1<<oweCall,
}

var errOutOfStep = fatalError(stateProtocol, "the node does not know to what the server's answer belongs", "Connect again.")

// step sees that a message of the server's answers what is owed next; again: it
// does. A row that is taken for another portal's would be opened by that one's
// columns, so that a session out of step ends. mu is held.
func (ss *session) step(typ byte, body []byte) verdict {
	q := &ss.queue
	e := q.front()
	switch {
	case ss.replication || answers[typ] == 0 && (typ != wire.ErrorResponse || e == nil):
		return again
	case typ == wire.ReadyForQuery && (e == nil || e.kind != oweSync && !e.begun):
		if e != nil && q.spare == 0 {
			break
		}
		// Of a Sync that a failed copy did not read after all. With nothing owed it
		// ends what the server skips.
		q.skipping, q.spare = q.skipping && e != nil, max(q.spare-1, 0)
		if len(body) == 1 {
			ss.state = body[0]
		}
		return pass
	case typ == wire.ErrorResponse || e != nil && answers[typ]&(1<<e.kind) != 0:
		if e.begun = true; typ != wire.ReadyForQuery {
			q.spare = 0 // what stood in front of it is answered
		}
		return again
	}
	ss.fatal = errOutOfStep
	return drop
}
