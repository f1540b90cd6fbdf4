// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// Match says which of the live records of a secret has the candidate as its
// value: its version, the newest if there are several, or 0. A userpass is
// compared by its password. records are ordered newest first, as
// vault.verify_begin returns them. All of them are opened and compared whatever
// the outcome; the candidate leaves this call in no form and stays the
// caller's to zero. A role that missed too often with this secret gets an
// error of KindLimited. Errors are *Error.
func (v *Vault) Match(ctx context.Context, a Actor, name string, records [][]byte, candidate []byte) (int32, error) {
	if err := CheckName(name); err != nil {
		return 0, err
	}
	o := newOpening(len(records))
	defer o.release()
	defer ZeroAll(o.plains)
	try, refused := v.misses.enter(ctx, missKey{role: a.misser(), secret: name})
	if refused != nil {
		refused.Secret = name
		return 0, v.matchRefused(ctx, a, name, refused)
	}
	missed := false
	defer func() { try.end(missed, time.Now()) }() // also after a panic
	version, err := v.match(ctx, a, o, name, records, candidate)
	missed = err == nil && version == 0
	if err != nil {
		return 0, v.matchRefused(ctx, a, name, err)
	}
	r := a.record(time.Now(), audit.ActionVerify, audit.OutcomeOK)
	r.Secret, r.Version, r.Direct = name, version, true
	if version == 0 {
		r.Outcome = audit.OutcomeMismatch
	}
	if err := v.append(ctx, []audit.Record{r}); err != nil {
		v.metrics.verify(err, false)
		return 0, err
	}
	v.metrics.verify(nil, version != 0)
	return version, nil
}

// misser is whose misses are counted: the role, or by REST the address, of IPv6
// its network. No role has a name with a NUL.
func (a Actor) misser() string {
	if a.Via != ViaREST {
		return a.Role
	}
	return "\x00" + networkOf(a.Addr).String()
}

// matchRefused records and counts a refusal and returns it.
func (v *Vault) matchRefused(ctx context.Context, a Actor, name string, err error) error {
	kind := KindOf(err)
	r := a.record(time.Now(), kind.recorded(audit.ActionVerify), kind.outcome())
	r.Secret, r.Direct, r.Reason = name, true, reasonOf(err)
	v.metrics.verify(err, false)
	return v.recordFailure(ctx, r, err)
}

func (v *Vault) match(ctx context.Context, a Actor, o *opening, name string, texts [][]byte, candidate []byte) (int32, error) {
	if len(texts) == 0 {
		if err := v.checkAddr(a); err != nil {
			return 0, err
		}
		if err := v.checkFresh(ctx, a); err != nil { // that it is not here yet is no answer
			return 0, err
		}
		return 0, nil
	}
	o.name = name
	if _, err := v.open(ctx, a, o, texts, true); err != nil {
		return 0, err
	}
	version := 0
	var failed error
	erase.Do(func() {
		want := v.digest(candidate)
		// Oldest first, so that the newest match is what remains.
		for i := len(o.records) - 1; i >= 0; i-- {
			value := o.plains[i].Bytes()
			if o.records[i].Format == envelope.FormatUserpass {
				if value = passwordOf(value); value == nil {
					failed = noPair(name)
				}
			}
			equal := hmac.Equal(v.digest(value), want)
			version = subtle.ConstantTimeSelect(boolInt(equal), int(o.records[i].Version), version)
		}
	})
	if failed != nil {
		return 0, failed
	}
	return int32(version), nil
}

var errOtherName = errors.New("a record of another secret came as this one's")

// digest hashes a value under this process's own key: what is compared has one
// length and tells nobody anything.
func (v *Vault) digest(value []byte) []byte {
	h := hmac.New(sha256.New, v.hmacKey[:])
	h.Write(value)
	return h.Sum(nil)
}

// passwordOf takes the password out of a userpass's JSON text; nil: there is
// none. It runs inside erase.Do, which erases what the decoder allocates; its
// error may quote the value and is dropped.
func passwordOf(text []byte) []byte {
	var pair struct {
		Password *string `json:"password"`
	}
	if json.Unmarshal(text, &pair) != nil || pair.Password == nil {
		return nil
	}
	return append(make([]byte, 0, len(*pair.Password)+1), *pair.Password...) // never nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
