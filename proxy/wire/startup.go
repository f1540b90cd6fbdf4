// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
)

// A Startup is a client's first packet: a startup message, a request for
// encryption, or a cancel request. pgproto3 v2 knows neither protocol 3.2 nor
// the order of parameters, so it is read here.
type Startup struct {
	Code   uint32  // protocol version, or CodeSSL, CodeGSSENC, CodeCancel
	Params []Param // in the order sent, duplicates kept
	PID    uint32  // cancel request only
	Secret []byte  // cancel request only; 4 to 256 bytes
}

// A Param is one startup parameter.
type Param struct{ Name, Value string }

// What is wrong with a first packet. A wrong length is none of a client's doing:
// the server drops it without a word.
var (
	ErrStartupLength = errors.New("invalid length of startup packet")
	ErrStartupLayout = errors.New("invalid startup packet layout: expected terminator as last byte")
)

// ReadStartup reads one first packet of at most the given number of bytes behind
// its length word, more than which it does not allocate. It reads not one byte
// beyond the packet, since TLS may follow.
func ReadStartup(r io.Reader, most int) (*Startup, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(head[:]))
	if size < 8 || size-4 > most {
		return nil, ErrStartupLength
	}
	body := make([]byte, size-4)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, unexpected(err)
	}
	return ParseStartup(body)
}

// ParseStartup parses a first packet without its length word.
func ParseStartup(body []byte) (*Startup, error) {
	if len(body) < 4 {
		return nil, ErrStartupLength
	}
	s := &Startup{Code: binary.BigEndian.Uint32(body)}
	rest := body[4:]
	switch {
	case s.Code == CodeSSL || s.Code == CodeGSSENC:
		if len(rest) != 0 {
			return nil, ErrStartupLength
		}
		return s, nil
	case s.Code == CodeCancel:
		if len(rest) < 8 || len(rest) > 4+256 {
			return nil, ErrStartupLength
		}
		s.PID, s.Secret = binary.BigEndian.Uint32(rest), bytes.Clone(rest[4:])
		return s, nil
	case s.Code>>16 != 3:
		return s, nil // the caller refuses the major version by name
	}
	return s, s.parseParams(rest)
}

func (s *Startup) parseParams(rest []byte) error {
	for {
		name, after, ok := CString(rest)
		if !ok {
			return ErrStartupLayout
		}
		if name == "" {
			if len(after) != 0 {
				return ErrStartupLayout
			}
			return nil
		}
		value, next, ok := CString(after)
		if !ok {
			return ErrStartupLayout
		}
		s.Params = append(s.Params, Param{name, value})
		rest = next
	}
}

// Get returns the last value of a parameter, as PostgreSQL does with
// duplicates.
func (s *Startup) Get(name string) string {
	for i := len(s.Params) - 1; i >= 0; i-- {
		if s.Params[i].Name == name {
			return s.Params[i].Value
		}
	}
	return ""
}

// Options returns the names of the protocol options (_pq_.…) in the packet.
func (s *Startup) Options() []string {
	var names []string
	for _, p := range s.Params {
		if strings.HasPrefix(p.Name, "_pq_.") {
			names = append(names, p.Name)
		}
	}
	return names
}

// AppendStartup appends a startup packet of protocol 3.0 with the parameters in
// order; protocol options are left out, since they were negotiated with the
// client alone.
func AppendStartup(dst []byte, params []Param) []byte {
	mark := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, Version30)
	for _, p := range params {
		if !strings.HasPrefix(p.Name, "_pq_.") {
			dst = AppendString(AppendString(dst, p.Name), p.Value)
		}
	}
	return End(append(dst, 0), mark)
}

// AppendCancel appends a cancel request.
func AppendCancel(dst []byte, pid uint32, secret []byte) []byte {
	mark := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, CodeCancel)
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return End(append(dst, secret...), mark)
}

// CString splits a zero-terminated string off b.
func CString(b []byte) (s string, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return "", b, false
	}
	return string(b[:i]), b[i+1:], true
}
