// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// sendSecret answers with a value and zeroes it and what it was written into.
func sendSecret(w http.ResponseWriter, status int, s *vault.Secret) error {
	defer s.Value.Zero()
	var text []byte
	ok := true
	erase.Do(func() {
		text, ok = appendSecret(make([]byte, 0, encodedLen(s)), s)
		text = append(text, '\n')
	})
	defer erase.Zero(text)
	if !ok {
		return noPair(s)
	}
	w.Header().Set("ETag", etag(s.Version))
	send(w, status, text)
	return nil
}

// sendSecrets is sendSecret for an array.
func sendSecrets(w http.ResponseWriter, list []vault.Secret) (err error) {
	room := 8
	for i := range list {
		defer list[i].Value.Zero()
		room += encodedLen(&list[i])
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
		send(w, http.StatusOK, text)
	}
	return err
}

func noPair(s *vault.Secret) error {
	return &vault.Error{Kind: vault.KindInternal, Secret: s.Name, Msg: "a userpass secret does not hold what it should"}
}

func etag(version int32) string { return `"` + strconv.Itoa(int(version)) + `"` }

// encodedLen is the room that an answer takes at most, so that it is never moved.
func encodedLen(s *vault.Secret) int { return 6*(s.Value.Len()+len(s.Name)) + 256 }

func appendSecret(b []byte, s *vault.Secret) ([]byte, bool) {
	b = appendText(append(b, `{"name":`...), []byte(s.Name))
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
		b = appendText(append(b, `,"username":`...), username)
		b = appendText(append(b, `,"password":`...), password)
	case vault.FormatBytes:
		b = append(b, `,"value_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, s.Value.Bytes())
		b = append(b, '"')
	default:
		b = appendText(append(b, `,"value":`...), s.Value.Bytes())
	}
	b = append(b, `,"created_at":"`...)
	b = s.CreatedAt.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, "\"}"...), true
}

// appendText appends a JSON string; what is not UTF-8 is replaced.
func appendText(b, text []byte) []byte {
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
