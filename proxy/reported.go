// SPDX-License-Identifier: GPL-3.0-or-later

package proxy

import (
	"bytes"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// reported is what the server tells of its settings by itself.
type reported struct {
	stdStrings bool   // standard_conforming_strings
	encoding   string // client_encoding
	singleByte bool   // server_encoding is SQL_ASCII: positions of errors count bytes
	standby    bool   // in_hot_standby
	readOnly   bool   // default_transaction_read_only
	superuser  bool   // is_superuser
	session    string // session_authorization
	role       string // as the extension tells: after SET ROLE another one; empty: it never has
	bypasses   bool   // likewise: grants and policies are not for that one
}

// note takes a ParameterStatus.
func (r *reported) note(body []byte) {
	name, rest, ok := bytes.Cut(body, []byte{0})
	if !ok {
		return
	}
	value := string(bytes.TrimRight(rest, "\x00"))
	switch string(name) {
	case "standard_conforming_strings":
		r.stdStrings = value == "on"
	case "client_encoding":
		r.encoding = value
	case "server_encoding":
		r.singleByte = value == "SQL_ASCII"
	case "in_hot_standby":
		r.standby = value == "on"
	case "default_transaction_read_only":
		r.readOnly = value == "on"
	case "is_superuser":
		r.superuser = value == "on"
	case "session_authorization":
		r.session = value
	case vault.RoleName:
		r.role = value
	case vault.BypassesName:
		r.bypasses = value == "on"
	}
}
