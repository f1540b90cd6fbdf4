// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"encoding/base64"
	"net/http"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// decode reads a request's body as one JSON object. fields name what it may have:
// *[]byte for a value that the caller zeroes, **string, **bool, **int64, **[]string,
// **[]vault.Permission. What is null is as if it were not there. Strict: one object, no
// other field, none twice, valid UTF-8, no half of a surrogate pair. The body is
// erased; no value is ever a string. Errors quote nothing.
func (h *Handler) decode(r *request, fields map[string]any) error {
	if !isJSON(r.Header) {
		return &problem{http.StatusUnsupportedMediaType, "media_type", "the body should be JSON: Content-Type: application/json"}
	}
	var err error
	erase.Do(func() { // copying leaves bytes in registers, too
		var body []byte
		if body, err = h.readBody(r); err == nil {
			if c := connOf(r.Context()); c != nil {
				c.whole = true
			}
			err = decodeObject(body, fields)
		}
		erase.Zero(body)
	})
	return err
}

// A parser reads JSON. It stops at the first error.
type parser struct {
	in []byte
	at int
}

var (
	errJSON  = bad("the body should be one JSON object")
	errField = bad("the body has a field that is not known here, or one twice")
	errType  = bad("a field of the body has another type than it should")
)

func decodeObject(in []byte, fields map[string]any) error {
	if !utf8.Valid(in) {
		return errJSON
	}
	p := &parser{in: in}
	if !p.take('{') {
		return errJSON
	}
	if err := p.object(fields); err != nil {
		return err
	}
	if p.blank(); p.at != len(p.in) {
		return errJSON
	}
	return nil
}

// object reads an object behind its first brace.
func (p *parser) object(fields map[string]any) error {
	seen := map[string]bool{}
	for first := true; !p.take('}'); first = false {
		if !first && !p.take(',') {
			return errJSON
		}
		key, err := p.text()
		if err != nil {
			return errJSON
		}
		name := string(key)
		into, known := fields[name]
		if !known || seen[name] {
			return errField
		}
		seen[name] = true
		if !p.take(':') {
			return errJSON
		}
		if err := p.value(into); err != nil {
			return err
		}
	}
	return nil
}

// blank goes over white space.
func (p *parser) blank() {
	for p.at < len(p.in) && strings.IndexByte(" \t\r\n", p.in[p.at]) >= 0 {
		p.at++
	}
}

// take goes over c, if that is what comes.
func (p *parser) take(c byte) bool {
	if p.blank(); p.at < len(p.in) && p.in[p.at] == c {
		p.at++
		return true
	}
	return false
}

// word goes over a literal, if that is what comes.
func (p *parser) word(w string) bool {
	if p.blank(); strings.HasPrefix(string(p.in[p.at:min(len(p.in), p.at+len(w))]), w) {
		p.at += len(w)
		return true
	}
	return false
}

// value reads one value into what its type is for.
func (p *parser) value(into any) (err error) {
	if p.word("null") {
		return nil
	}
	switch into := into.(type) {
	case *[]byte:
		*into, err = p.text()
	case **string:
		var text []byte
		if text, err = p.text(); err == nil {
			s := string(text)
			*into = &s
		}
	case **int64:
		var n int64
		if n, err = p.number(); err == nil {
			*into = &n
		}
	case **bool:
		yes := p.word("true")
		if !yes && !p.word("false") {
			return errType
		}
		*into = &yes
	case **[]string:
		var list []string
		if list, err = p.list(); err == nil {
			*into = &list
		}
	case **[]vault.Permission:
		var list []vault.Permission
		if list, err = p.permissions(); err == nil {
			*into = &list
		}
	default:
		err = errType
	}
	return err
}

// number reads a whole number of at most 18 digits.
func (p *parser) number() (n int64, err error) {
	p.blank()
	negative := p.take('-')
	start := p.at
	for ; p.at < len(p.in) && p.in[p.at] >= '0' && p.in[p.at] <= '9'; p.at++ {
		if p.at-start == 18 {
			return 0, errType
		}
		n = 10*n + int64(p.in[p.at]-'0')
	}
	digits := p.at - start
	if digits == 0 || digits > 1 && p.in[start] == '0' || p.at < len(p.in) && strings.IndexByte(".eE", p.in[p.at]) >= 0 {
		return 0, errType
	}
	if negative {
		n = -n
	}
	return n, nil
}

// maxList is more than any list of ours may have.
const maxList = 1024

func (p *parser) list() ([]string, error) {
	if !p.take('[') {
		return nil, errType
	}
	list := []string{}
	for first := true; !p.take(']'); first = false {
		if !first && !p.take(',') {
			return nil, errJSON
		}
		text, err := p.text()
		if err != nil || len(list) == maxList {
			return nil, errType
		}
		list = append(list, string(text))
	}
	return list, nil
}

// permissions reads a list of rules, each {"action": …, "path": …}.
func (p *parser) permissions() ([]vault.Permission, error) {
	if !p.take('[') {
		return nil, errType
	}
	list := []vault.Permission{}
	for first := true; !p.take(']'); first = false {
		if !first && !p.take(',') {
			return nil, errJSON
		}
		if !p.take('{') || len(list) == maxList {
			return nil, errType
		}
		var action, path *string
		if err := p.object(map[string]any{"action": &action, "path": &path}); err != nil {
			return nil, err
		}
		if action == nil || path == nil {
			return nil, bad("a permission has an action and a path")
		}
		list = append(list, vault.Permission{Action: *action, Path: *path})
	}
	return list, nil
}

// text reads a string.
func (p *parser) text() ([]byte, error) {
	if !p.take('"') {
		return nil, errType
	}
	end := p.at // room for what it can have at most
	for end < len(p.in) && p.in[end] != '"' {
		if p.in[end] == '\\' {
			end++
		}
		end++
	}
	out := make([]byte, 0, max(0, min(end, len(p.in))-p.at))
	for p.at < len(p.in) {
		c := p.in[p.at]
		p.at++
		switch {
		case c == '"':
			return out, nil
		case c < 0x20:
			return nil, errJSON
		case c != '\\':
			out = append(out, c)
		default:
			r, ok := p.escape()
			if !ok {
				return nil, errJSON
			}
			out = utf8.AppendRune(out, r)
		}
	}
	return nil, errJSON
}

// escape reads what comes behind a backslash.
func (p *parser) escape() (rune, bool) {
	if p.at == len(p.in) {
		return 0, false
	}
	c := p.in[p.at]
	p.at++
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
	default:
		return 0, false
	}
	r, ok := p.hex()
	if !ok || !utf16.IsSurrogate(r) {
		return r, ok
	}
	if p.at+2 > len(p.in) || p.in[p.at] != '\\' || p.in[p.at+1] != 'u' {
		return 0, false
	}
	p.at += 2
	low, ok := p.hex()
	r = utf16.DecodeRune(r, low)
	return r, ok && r != utf8.RuneError
}

// hex reads four hexadecimal digits.
func (p *parser) hex() (r rune, ok bool) {
	if p.at+4 > len(p.in) {
		return 0, false
	}
	for _, c := range p.in[p.at : p.at+4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	p.at += 4
	return r, true
}

// unbase64 decodes a value; the caller zeroes both.
func unbase64(text []byte) (value []byte, err error) {
	erase.Do(func() {
		value = make([]byte, base64.StdEncoding.DecodedLen(len(text)))
		var n int
		n, err = base64.StdEncoding.Strict().Decode(value, text)
		value = value[:n]
	})
	if err != nil {
		erase.Zero(value)
		return nil, bad("value_base64 should be base64 (with + and /, and padding)")
	}
	return value, nil
}
