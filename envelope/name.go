// SPDX-License-Identifier: GPL-3.0-or-later

package envelope

import (
	"errors"
	"fmt"
	"strings"
)

// MaxName is the longest secret name in bytes.
const MaxName = 255

// ErrName is behind every error of CheckName.
var ErrName = errors.New("invalid secret name")

// The rules of a name, each with its own message. None repeats the name: it may
// be a value that was put in the wrong place.
var (
	errNameLength  = fmt.Errorf("%w: it must have 1 to 255 bytes", ErrName)
	errNameChar    = fmt.Errorf("%w: only A-Z a-z 0-9 . _ / @ + - are allowed", ErrName)
	errNameSlash   = fmt.Errorf("%w: it may not start or end with /", ErrName)
	errNameSegment = fmt.Errorf("%w: no part between slashes may be empty, a dot or two dots", ErrName)
	errNameVerb    = fmt.Errorf("%w: the last part may not be rotate, verify or versions", ErrName)
)

// nameByte says which bytes a name may have.
var nameByte = func() (ok [256]bool) {
	const set = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/@+-"
	for i := range len(set) {
		ok[set[i]] = true
	}
	return ok
}()

// CheckName reports whether name can be a secret's name; errors.Is(err, ErrName)
// if not, with the rule that is broken as the message.
func CheckName(name string) error {
	if len(name) == 0 || len(name) > MaxName {
		return errNameLength
	}
	for i := range len(name) {
		if !nameByte[name[i]] {
			return errNameChar
		}
	}
	if name[0] == '/' || name[len(name)-1] == '/' {
		return errNameSlash
	}
	last := name
	for rest, more := name, true; more; {
		last, rest, more = strings.Cut(rest, "/")
		if last == "" || last == "." || last == ".." {
			return errNameSegment
		}
	}
	if last == "rotate" || last == "verify" || last == "versions" {
		return errNameVerb
	}
	return nil
}
