// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// sendSecret answers with a value and zeroes it and what it was written into.
func sendSecret(w http.ResponseWriter, r *request, status int, s *vault.Secret) error {
	defer s.Value.Zero()
	text := make([]byte, 0, usualLen(s)) // not in Do: of what is allocated there the collector keeps a list
	var err error
	defer func() { erase.Zero(text) }()
	erase.Do(func() {
		n := encodedLen(s)
		if !r.answer.resize(n + s.Value.Len()) {
			err = noRoom()
			return
		}
		if n > cap(text) {
			text = make([]byte, 0, n)
		}
		var ok bool
		if text, ok = appendSecret(text, s); !ok {
			err = noPair(s)
		}
		text = append(text, '\n')
	})
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(s.Version))
	sendValue(w, r.Request, status, text)
	return nil
}

// sendSecrets is sendSecret for an array.
func sendSecrets(w http.ResponseWriter, r *request, list []vault.Secret) (err error) {
	room, values := 8, 0
	for i := range list {
		defer list[i].Value.Zero()
		room += encodedLen(&list[i])
		values += list[i].Value.Len()
	}
	if !r.answer.resize(room + values) {
		return noRoom()
	}
	var text []byte
	erase.Do(func() {
		text = append(make([]byte, 0, room), '[')
		for i := range list {
			if i > 0 {
				text = append(text, ',')
			}
			var ok bool
			if text, ok = appendSecret(text, &list[i]); !ok {
				err = noPair(&list[i])
				return
			}
		}
		text = append(text, "]\n"...)
	})
	defer erase.Zero(text)
	if err == nil {
		sendValue(w, r.Request, http.StatusOK, text)
	}
	return err
}

func noPair(s *vault.Secret) error {
	return &vault.Error{Kind: vault.KindInternal, Secret: s.Name, Msg: "a userpass secret does not hold what it should"}
}

func etag(version int32) string { return `"` + strconv.Itoa(int(version)) + `"` }

// usualLen is the room that most answers take.
func usualLen(s *vault.Secret) int {
	return len(s.Name) + 256 + base64.StdEncoding.EncodedLen(s.Value.Len())
}

// encodedLen is the room that an answer takes, so that it is never moved. Of a
// userpass the text that is sealed has its own quotes.
func encodedLen(s *vault.Secret) int {
	n := len(s.Name) + 256
	if s.Format == vault.FormatBytes {
		return n + base64.StdEncoding.EncodedLen(s.Value.Len())
	}
	for _, c := range s.Value.Bytes() {
		n += escapedLen(c)
	}
	return n
}

// escapedLen is how many bytes vault.AppendJSON writes for one.
func escapedLen(c byte) int {
	switch {
	case c == '"' || c == '\\' || c == '\n' || c == '\t' || c == '\r':
		return 2
	case c < 0x20 || c == 0x7f:
		return 6
	}
	return 1
}

func appendSecret(b []byte, s *vault.Secret) ([]byte, bool) {
	b = vault.AppendJSON(append(b, `{"name":`...), []byte(s.Name))
	b = append(b, `,"kind":"`...)
	b = append(b, s.Kind...)
	b = append(b, `","format":"`...)
	if s.Format == vault.FormatUserpass {
		b = append(b, "userpass"...)
	} else {
		b = append(b, "opaque"...)
	}
	b = append(b, `","version":`...)
	b = strconv.AppendInt(b, int64(s.Version), 10)
	switch s.Format {
	case vault.FormatUserpass:
		username, password, ok := vault.SplitPair(s.Value.Bytes())
		defer erase.Zero(username)
		defer erase.Zero(password)
		if !ok {
			return b, false
		}
		b = vault.AppendJSON(append(b, `,"username":`...), username)
		b = vault.AppendJSON(append(b, `,"password":`...), password)
	case vault.FormatBytes:
		b = append(b, `,"value_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, s.Value.Bytes())
		b = append(b, '"')
	default:
		b = vault.AppendJSON(append(b, `,"value":`...), s.Value.Bytes())
	}
	b = append(b, `,"created_at":"`...)
	b = s.CreatedAt.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, "\"}"...), true
}

// meta is vault.Meta as a client gets it.
type meta struct {
	Name             string     `json:"name"`
	Kind             string     `json:"kind"`
	Format           string     `json:"format"`
	Description      *string    `json:"description"`
	Version          int32      `json:"version"`
	RotationInterval *int64     `json:"rotation_interval_secs"`
	GracePeriod      *int64     `json:"grace_period_secs"`
	NextRotationAt   *time.Time `json:"next_rotation_at"`
	AllowedCIDRs     []string   `json:"allowed_cidrs"`
	CreatedAt        time.Time  `json:"created_at"`
	UpdatedAt        time.Time  `json:"updated_at"`
}

func metaOf(m *vault.Meta) meta {
	out := meta(*m)
	out.NextRotationAt = utc(m.NextRotationAt)
	out.CreatedAt, out.UpdatedAt = m.CreatedAt.UTC(), m.UpdatedAt.UTC()
	if out.AllowedCIDRs == nil {
		out.AllowedCIDRs = []string{}
	}
	return out
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}

// versionMeta is vault.VersionMeta as a client gets it.
type versionMeta struct {
	Version   int32      `json:"version"`
	Stage     string     `json:"stage"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at"`
}

// verdict is what verifying says.
type verdict struct {
	Valid   bool   `json:"valid"`
	Version *int32 `json:"version"`
}
