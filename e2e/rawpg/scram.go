// SPDX-License-Identifier: GPL-3.0-or-later

package rawpg

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A Scram is the client's side of SCRAM-SHA-256, which says what it is told to
// say. The zero values are those of an honest client without channel binding.
type Scram struct {
	Password string
	// Mechanism is SCRAM-SHA-256 if empty.
	Mechanism string
	// GS2 is the header, "n,," if empty.
	GS2 string
	// Binding is what c= carries behind the header.
	Binding []byte

	bare string
}

// step answers one authentication request, nil if it asks nothing.
func (s *Scram) step(request []byte) (pgproto3.FrontendMessage, error) {
	if len(request) < 4 {
		return nil, errors.New("an authentication request that is too short")
	}
	if s == nil {
		return nil, nil //nolint:nilnil // nothing is answered
	}
	switch code := binary.BigEndian.Uint32(request); code {
	case 10:
		return s.first(), nil
	case 11:
		return s.final(string(request[4:]))
	case 0, 12:
		return nil, nil //nolint:nilnil // asks nothing
	default:
		return nil, fmt.Errorf("authentication request %d", code)
	}
}

func (s *Scram) header() string {
	if s.GS2 == "" {
		return "n,,"
	}
	return s.GS2
}

func (s *Scram) first() pgproto3.FrontendMessage {
	mechanism := s.Mechanism
	if mechanism == "" {
		mechanism = "SCRAM-SHA-256"
	}
	s.bare = "n=,r=" + rand.Text()
	return &pgproto3.SASLInitialResponse{AuthMechanism: mechanism, Data: []byte(s.header() + s.bare)}
}

func (s *Scram) final(challenge string) (pgproto3.FrontendMessage, error) {
	fields := map[string]string{}
	for f := range strings.SplitSeq(challenge, ",") {
		name, value, _ := strings.Cut(f, "=")
		fields[name] = value
	}
	salt, err := base64.StdEncoding.DecodeString(fields["s"])
	if err != nil {
		return nil, err
	}
	rounds, err := strconv.Atoi(fields["i"])
	if err != nil {
		return nil, err
	}
	salted, err := pbkdf2.Key(sha256.New, s.Password, salt, rounds, sha256.Size)
	if err != nil {
		return nil, err
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	bare := "c=" + base64.StdEncoding.EncodeToString(append([]byte(s.header()), s.Binding...)) + ",r=" + fields["r"]
	proof := mac(salted, "Client Key")
	stored := sha256.Sum256(proof)
	for i, b := range mac(stored[:], s.bare+","+challenge+","+bare) {
		proof[i] ^= b
	}
	return &pgproto3.SASLResponse{Data: []byte(bare + ",p=" + base64.StdEncoding.EncodeToString(proof))}, nil
}
