// SPDX-License-Identifier: GPL-3.0-or-later

// Package transcripts sends conversations that are written down in
// proxy/testdata/transcripts, byte for byte, to a server and to the node in
// front of it: the answers must be the same. A case is a few lines of a file;
// README.md beside them has the verbs.
package transcripts

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A Transcript is one conversation.
type Transcript struct {
	// Name is its first comment.
	Name string
	// Node, if not empty, is what the node says where it differs by design, and
	// Server what PostgreSQL says there, Server18 from 18 on if that is something
	// else; "..." stands for anything.
	Node, Server, Server18 string
	// Paced says why it cannot be sent without reading in between, NoPuts why a
	// put may not stand between its steps, Plain why nothing of the vault's may.
	Paced, NoPuts, Plain string
	// Vault says what it wants of the vault: it is for a database with one, as it
	// stands. NodeOnly says why the server cannot be asked.
	Vault, NodeOnly string
	// Steps is what is done, in order.
	Steps []Step
}

// For reports whether the conversation is one for a database with the vault, or
// without it.
func (t Transcript) For(vault bool) bool {
	if vault {
		return t.Vault != "" || t.Plain == ""
	}
	return t.Vault == ""
}

// A Step is some messages on one connection, and what is waited for then.
type Step struct {
	Conn     string
	Messages [][]byte
	Until    Until
	N        int  // how many, of UntilReady and UntilMessages; the key's length of Cancel
	Type     byte // of UntilType
	EOF      bool // nothing more is written
	Bare     bool // the connection begins with what the step says, without a log-in
	Target   string
}

// Until is what ends a step.
type Until int

// What a step waits for.
const (
	UntilReady    Until = iota // N ReadyForQuery
	UntilMessages              // N messages, which a Flush asked for
	UntilType                  // a message of this type
	UntilEnd                   // the end of the connection
	UntilLogin                 // ReadyForQuery, with SCRAM on the way, or the end
	UntilRaw                   // all bytes up to the end, which are no messages
	UntilByte                  // the one byte that answers a request for encryption
	Cancel                     // the end of another connection, which asks to cancel this one's statement
)

// Parse reads the conversations of a file, which empty lines separate.
func Parse(text string, names map[string]string) ([]Transcript, error) {
	var all []Transcript
	for block := range strings.SplitSeq(text, "\n\n") {
		t, err := parseOne(block, names)
		if err != nil {
			return nil, err
		}
		if len(t.Steps) > 0 {
			all = append(all, t)
		}
	}
	return all, nil
}

type parser struct {
	t     Transcript
	cur   Step
	names map[string]string // what {user} and the like stand for
}

func parseOne(block string, names map[string]string) (Transcript, error) {
	p := &parser{cur: Step{Conn: first}, names: names}
	lines := strings.Split(block, "\n")
	if err := p.lines(lines); err != nil {
		return p.t, err
	}
	if len(p.cur.Messages) > 0 {
		return p.t, fmt.Errorf("%s: nothing is waited for at the end", p.t.Name)
	}
	return p.t, nil
}

// first is the connection that need not be named.
const first = "a"

func (p *parser) lines(lines []string) error {
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		if times, repeat := strings.CutPrefix(line, "repeat "); repeat {
			end := i + 1
			for end < len(lines) && strings.TrimSpace(lines[end]) != "end" {
				end++
			}
			n, err := strconv.Atoi(times)
			if err != nil || end == len(lines) {
				return fmt.Errorf("%s: a number, then lines, then end", line)
			}
			for k := range n {
				for _, l := range lines[i+1 : end] {
					if err := p.line(strings.ReplaceAll(strings.TrimSpace(l), "{i}", strconv.Itoa(k+1))); err != nil {
						return err
					}
				}
			}
			i = end
			continue
		}
		if err := p.line(line); err != nil {
			return fmt.Errorf("%.200s: %w", line, err)
		}
	}
	return nil
}

func (p *parser) line(line string) error {
	switch {
	case line == "":
		return nil
	case line[0] == '#':
		if p.t.Name == "" {
			p.t.Name = strings.TrimSpace(line[1:])
		}
		return nil
	case line[0] == '!':
		return p.directive(line[1:])
	}
	line, err := expand(line)
	if err != nil {
		return err
	}
	for name, value := range p.names {
		line = strings.ReplaceAll(line, "{"+name+"}", value)
	}
	words, err := splitWords(line)
	if err != nil {
		return err
	}
	if done, err := p.control(words); done || err != nil {
		return err
	}
	m, err := message(words)
	p.cur.Messages = append(p.cur.Messages, m)
	return err
}

// directive reads what is said of the whole conversation.
func (p *parser) directive(text string) error {
	word, rest, _ := strings.Cut(text, " ")
	if strings.TrimSpace(rest) == "" {
		return errors.New("a directive needs its reason or its text")
	}
	switch word {
	case "node":
		p.t.Node = strings.TrimSpace(p.t.Node + " " + rest)
	case "server":
		p.t.Server = strings.TrimSpace(p.t.Server + " " + rest)
	case "server18":
		p.t.Server18 = strings.TrimSpace(p.t.Server18 + " " + rest)
	case "paced":
		p.t.Paced = rest
	case "no-puts":
		p.t.NoPuts = rest
	case "plain":
		p.t.Plain = rest
	case "vault":
		p.t.Vault, p.t.NodeOnly = rest, rest
	case "node-only":
		p.t.NodeOnly = rest
	default:
		return errors.New("no such directive")
	}
	return nil
}

// control reads the lines that are no message.
func (p *parser) control(w []string) (done bool, err error) {
	number := func(i, preset int) int {
		if i >= len(w) {
			return preset
		}
		n, e := strconv.Atoi(w[i])
		err = errors.Join(err, e)
		return n
	}
	switch w[0] {
	case "on":
		if len(p.cur.Messages) > 0 {
			return true, errors.New("what was said on the other connection waits for nothing")
		}
		p.cur.Conn = w[1]
	case "wait":
		switch {
		case len(w) == 1 || w[1][0] >= '0' && w[1][0] <= '9':
			p.end(UntilReady, number(1, 1))
		case w[1] == "end":
			p.end(UntilEnd, 0)
		case w[1] == "raw":
			p.end(UntilRaw, 0)
		case w[1] == "flush":
			p.end(UntilMessages, number(2, 1))
		default:
			p.cur.Type = w[1][0]
			p.end(UntilType, 0)
		}
	case "login":
		p.end(UntilLogin, 0)
	case "open":
		p.cur.Bare = true
	case "eof":
		p.cur.EOF = true
	case "byte":
		p.end(UntilByte, 1)
	case "cancel":
		p.cur.Target = w[1]
		p.end(Cancel, number(2, 4))
	default:
		return false, nil
	}
	return true, err
}

func (p *parser) end(until Until, n int) {
	p.cur.Until, p.cur.N = until, n
	p.t.Steps = append(p.t.Steps, p.cur)
	p.cur = Step{Conn: p.cur.Conn}
}

// expand writes out <<N|separator|text>>: the text N times, {i} counting.
func expand(line string) (string, error) {
	for {
		before, rest, found := strings.Cut(line, "<<")
		if !found {
			return line, nil
		}
		inner, after, closed := strings.Cut(rest, ">>")
		parts := strings.SplitN(inner, "|", 3)
		if !closed || len(parts) != 3 {
			return "", errors.New("<<N|separator|text>> expected")
		}
		n, err := strconv.Atoi(parts[0])
		if err != nil {
			return "", err
		}
		list := make([]string, n)
		for i := range list {
			list[i] = strings.ReplaceAll(parts[2], "{i}", strconv.Itoa(i+1))
		}
		line = before + strings.Join(list, parts[1]) + after
	}
}
