// SPDX-License-Identifier: GPL-3.0-or-later

// Package canary shows whether a vault keeps its promise. It puts values that
// exist nowhere else by every door that a client has (Doors), and looks for
// them where they must not be (Scanner): data files, logs, dumps, views.
package canary

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
)

// A Canary is one value and what is known of its way. Its value is Head, a
// middle that its door chooses, and Tail; a place that shows either of the two
// random parts has leaked, however the rest is quoted or cut.
type Canary struct {
	// Door is the name of the door by which it goes.
	Door string
	// Secret is the secret's name; it says nothing of the value.
	Secret string
	// Head and Tail are random letters and digits.
	Head, Tail string

	middle    string
	spellings []string
}

// partLength of Head and Tail: 24 of 62 characters are 142 bits, so that no
// ciphertext holds one by chance, and nothing can compress them; each is long
// enough to be seen in base64 and between the marks of pglz.
const partLength = 24

// New makes a canary for a door. run keeps the secrets of two runs apart.
func New(door, run string) *Canary {
	return &Canary{
		Door: door, Secret: "canary/" + run + "/door-" + strings.Map(plainName, door),
		Head: random(partLength), Tail: random(partLength),
	}
}

// plainName keeps what may stand in a secret's name anywhere.
func plainName(r rune) rune {
	if strings.ContainsRune(alphabet, r) {
		return r
	}
	return '-'
}

// Value is the secret's value.
func (c *Canary) Value() string { return c.Head + c.middle + c.Tail }

// With sets what stands between the random parts.
func (c *Canary) With(middle string) *Canary { c.middle = middle; return c }

// Spelled adds a form in which the door itself writes a random part.
func (c *Canary) Spelled(text string) string {
	c.spellings = append(c.spellings, text)
	return text
}

// A needle is a form in which a part of a canary may be found.
type needle struct {
	canary *Canary
	text   []byte
	name   string // of the form
}

// needles are all of them.
func (c *Canary) needles() []needle {
	seen := map[string]bool{}
	var all []needle
	add := func(name, text string) {
		if !seen[text] {
			seen[text] = true
			all = append(all, needle{c, []byte(text), name})
		}
	}
	for _, part := range []struct{ name, text string }{{"head", c.Head}, {"tail", c.Tail}} {
		add(part.name, part.text)
		encoded := hex.EncodeToString([]byte(part.text))
		add(part.name+" in hex", encoded)
		add(part.name+" in hex", strings.ToUpper(encoded))
		for shift := range 3 {
			add(part.name+" in base64", shiftedBase64(base64.StdEncoding, part.text, shift))
			add(part.name+" in base64", shiftedBase64(base64.URLEncoding, part.text, shift))
		}
		add(part.name+" in decimals", decimals(part.text))
		add(part.name+" in UTF-16", strings.Join(strings.Split(part.text, ""), "\x00")) // in either order of bytes
		for shift := range pglzRun {
			if shift+2*pglzRun <= len(part.text) {
				add(part.name+" in pglz", compressed(part.text[shift:]))
			}
		}
	}
	for _, s := range c.spellings {
		add("its door's own spelling", s)
	}
	return all
}

// pglzRun is how many bytes that repeat nothing PostgreSQL's own compression (TOAST,
// full-page images) writes one after the other: in front of each run is a byte that
// says of all eight that they stand for themselves.
const pglzRun = 8

// compressed is what pglz makes of two such runs. lz4 leaves what repeats nothing
// in one piece; what zstd and gzip write cannot be seen.
func compressed(text string) string {
	return "\x00" + text[:pglzRun] + "\x00" + text[pglzRun:2*pglzRun]
}

// shiftedBase64 is the part of an encoding of text that does not depend on what
// stands around it, if shift bytes (0 to 2) of a group of three stand before it.
func shiftedBase64(e *base64.Encoding, text string, shift int) string {
	padded := append(make([]byte, shift), text...)
	encoded := e.EncodeToString(padded[:len(padded)-len(padded)%3])
	if shift == 0 {
		return encoded
	}
	return encoded[shift+1:] // 8 or 16 bits before it reach into 2 or 3 characters
}

// decimals is how debug_print_parse and its kin show a constant's bytes.
func decimals(text string) string {
	words := make([]string, len(text))
	for i := range len(text) {
		words[i] = strconv.Itoa(int(text[i]))
	}
	return " " + strings.Join(words, " ") + " "
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// random letters and digits; each is equally likely.
func random(n int) string {
	out := make([]byte, 0, n)
	var b [64]byte
	for len(out) < n {
		_, _ = rand.Read(b[:]) // never fails, by its documentation
		for _, x := range b {
			if int(x) < 4*len(alphabet) && len(out) < n {
				out = append(out, alphabet[int(x)%len(alphabet)])
			}
		}
	}
	return string(out)
}
