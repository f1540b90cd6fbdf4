// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

// sqlPairRead is sqlNodeRead for a userpass: of any other secret nothing is fetched.
const sqlPairRead = `SELECT r.record, r.version, r.created_at, r.kind FROM vault.node_list($1, '', 1) l, LATERAL vault.node_read(l.name, $2, $3) r
 WHERE l.name = $1 AND l.format = 'userpass' AND r.record IS NOT NULL`

// fetchKey has the data key of what is to be kept of a userpass in the cache before
// its name is locked, so that nobody waits for the KMS there. What fails here is told
// where it fails again; a version that comes in between is opened under the lock.
func (v *Vault) fetchKey(ctx context.Context, a *Access, name string) {
	p, err := v.AwaitPrimary(ctx, v.primaryWait)
	if err != nil {
		return
	}
	pool, err := v.atPrimary.to(v.store, p.Server) //nolint:contextcheck // it connects to nothing yet
	if err != nil {
		return
	}
	username, password, err := v.pairBy(ctx, pool, a, name, sqlPairRead)
	if err != nil {
		return
	}
	erase.Zero(username)
	erase.Zero(password)
}

// currentPair opens the current version of a userpass, half of which is kept. It is
// shown to nobody, so neither address nor allowed_cidrs are asked.
func (v *Vault) currentPair(ctx context.Context, q querier, a *Access, name string) (username, password []byte, err error) {
	return v.pairBy(ctx, q, a, name, sqlNodeRead)
}

func (v *Vault) pairBy(ctx context.Context, q querier, a *Access, name, sql string) (username, password []byte, err error) {
	var record []byte
	var version int32
	var at time.Time
	var kind string
	found, err := v.one(ctx, q, []any{&record, &version, &at, &kind}, sql, name, nil, a.Name)
	if err != nil {
		return nil, nil, err
	}
	if !found {
		return nil, nil, missing(name)
	}
	s, err := v.ready()
	if err != nil {
		return nil, nil, err
	}
	o := newOpening(1)
	defer o.release()
	defer ZeroAll(o.plains)
	if _, err := v.parse(s, o, [][]byte{record}); err != nil {
		return nil, nil, err
	}
	if r := &o.records[0]; r.Name != name || r.Format != FormatUserpass {
		return nil, nil, tampered(name, errOtherName)
	}
	if _, err := v.openAll(ctx, s, o, len(o.records[0].Ciphertext)-overhead); err != nil {
		return nil, nil, err
	}
	username, password, ok := SplitPair(o.plains[0].Bytes())
	if !ok {
		return nil, nil, noPair(name)
	}
	return username, password, nil
}

// pair is how a user name and password are sealed.
type pair struct {
	Username *string `json:"username"`
	Password *string `json:"password"`
}

// pairOf encodes a user name and a password.
func pairOf(username, password []byte) (p Plain) {
	erase.Do(func() {
		text := make([]byte, 0, 6*(len(username)+len(password))+64) // never moved
		text = AppendJSON(append(text, `{"username":`...), username)
		text = AppendJSON(append(text, `,"password":`...), password)
		p.b = append(text, '}')
	})
	return p
}

// AppendJSON appends a text as JSON has it; what is not UTF-8 is replaced. The encoder of
// encoding/json keeps what it has written, in buffers that nobody erases.
func AppendJSON(b, text []byte) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\t':
			b = append(b, '\\', 't')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c < 0x20 || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRune(text[i:])
			b = utf8.AppendRune(b, r)
			i += n
			continue
		}
		i++
	}
	return append(b, '"')
}

// SplitPair takes the value of a userpass apart. The caller zeroes both.
func SplitPair(value []byte) (username, password []byte, ok bool) {
	erase.Do(func() {
		var p pair
		if json.Unmarshal(value, &p) != nil || p.Username == nil || p.Password == nil {
			return
		}
		username = append(make([]byte, 0, len(*p.Username)), *p.Username...)
		password = append(make([]byte, 0, len(*p.Password)), *p.Password...)
		ok = true
	})
	return username, password, ok
}

func noPair(name string) *Error {
	return &Error{Kind: KindInternal, Secret: name, Msg: "a userpass secret does not hold what it should", Hint: "Write it anew by REST."}
}
