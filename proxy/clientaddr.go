// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hyperiondb/hyperion-vault/proxy/wire"
)

// clientAddrSetting tells the server's side whose session it is.
const clientAddrSetting = "hyperion_vault.client_addr"

// startupParams is the client's startup packet as the server gets it. The
// client's address comes last: of a setting that comes more than once, in
// options or by name, the server takes the last (process_startup_options in
// postinit.c sets those of options first). What the client says of it is left
// out all the same; a client of a socket has no address, and may not make one
// up either.
func (s *Server) startupParams(ss *session) []wire.Param {
	params := slices.DeleteFunc(slices.Clone(ss.params), func(p wire.Param) bool { return strings.EqualFold(p.Name, clientAddrSetting) })
	if s.cfg.AppnameAddHost {
		params = addHost(params, ss.remote())
	}
	addr := ""
	if ss.peer.IsValid() {
		addr = ss.peer.WithZone("").String() // inet has no zones
	}
	return append(params, wire.Param{Name: clientAddrSetting, Value: addr})
}

// refusesClientAddr recognises the ErrorResponse of a pooler that passes on no
// setting that it does not know. No PostgreSQL server says that.
func refusesClientAddr(body []byte) bool {
	return bytes.Contains(body, []byte("C"+stateProtocol+"\x00")) &&
		bytes.Contains(body, []byte("startup parameter")) && bytes.Contains(body, []byte(clientAddrSetting))
}

// remote is where the client is for a person to read.
func (ss *session) remote() string {
	if !ss.peer.IsValid() {
		return "unix"
	}
	return ss.accepted.RemoteAddr().String()
}

// addHost makes application_name "name - address:port" in the manner of
// PgBouncer's application_name_add_host, which also calls "app" who gives no
// name. Of a long name the end is cut, since the server would cut the address.
func addHost(params []wire.Param, remote string) []wire.Param {
	const name = "application_name"
	own := "app"
	rest := slices.DeleteFunc(params, func(p wire.Param) bool {
		if !strings.EqualFold(p.Name, name) {
			return false
		}
		own = p.Value
		return true
	})
	suffix := " - " + remote
	if most := max(0, maxName-len(suffix)); len(own) > most {
		for most > 0 && !utf8.RuneStart(own[most]) {
			most--
		}
		own = own[:most]
	}
	return append(rest, wire.Param{Name: name, Value: own + suffix})
}
