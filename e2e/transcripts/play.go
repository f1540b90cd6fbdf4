// SPDX-License-Identifier: GPL-3.0-or-later

package transcripts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// A Way is how bytes are cut into writes.
type Way string

// The ways of writing.
const (
	Steps    Way = "a write for each step"
	Messages Way = "a segment for each message"
	Bytes    Way = "a byte for each write"
	AtOnce   Way = "all in one write"
)

// number stands for {n}, which makes a name another one in each way of writing.
func (w Way) number() []byte {
	for i, way := range []Way{Steps, Messages, Bytes, AtOnce} {
		if w == way {
			return fmt.Appendf(nil, "/n%d", i)
		}
	}
	return []byte("/n9")
}

// Pipelines reports whether a conversation may be sent without reading in
// between.
func (t Transcript) Pipelines() bool {
	if t.Paced != "" {
		return false
	}
	for _, s := range t.Steps {
		if s.Conn != first || s.EOF || s.Until == UntilEnd || s.Until >= UntilLogin {
			return false
		}
	}
	return true
}

// A Side is a server, or the node in front of it.
type Side struct {
	Address, User, Password, Database string
}

// player leads one conversation.
type player struct {
	side  Side
	way   Way
	conns map[string]*rawpg.Conn
	said  []answer
}

// play leads a conversation and returns all that was answered.
func (s Side) play(ctx context.Context, t Transcript, way Way) ([]answer, error) {
	p := &player{side: s, way: way, conns: map[string]*rawpg.Conn{}}
	defer func() {
		for _, c := range p.conns {
			_ = c.Close() // the other side may have closed it
		}
	}()
	if way == AtOnce {
		c, err := p.conn(ctx, t.Steps[0])
		if err != nil {
			return nil, err
		}
		var all []byte
		for _, step := range t.Steps {
			for _, m := range step.Messages {
				all = append(all, bytes.ReplaceAll(m, []byte("{n}"), way.number())...)
			}
		}
		if err := c.Write(all); err != nil {
			return nil, err
		}
	}
	for i, step := range t.Steps {
		if err := p.step(ctx, step); err != nil {
			return p.said, fmt.Errorf("step %d: %w; until then: %s", i+1, err, short(p.said))
		}
	}
	return p.said, nil
}

// conn is the step's connection. A step that logs in, or asks for encryption,
// begins with nothing.
func (p *player) conn(ctx context.Context, step Step) (*rawpg.Conn, error) {
	if c := p.conns[step.Conn]; c != nil {
		return c, nil
	}
	c, err := rawpg.Open(ctx, p.side.Address)
	if err != nil {
		return nil, err
	}
	p.conns[step.Conn] = c
	if step.Until == UntilLogin || step.Until == UntilByte || step.Bare || beginsBare(step) {
		return c, nil
	}
	if err := c.Write(rawpg.Startup(3<<16, "user", p.side.User, "database", p.side.Database)); err != nil {
		return nil, err
	}
	if got, err := c.LogIn(&rawpg.Scram{Password: p.side.Password}); err != nil {
		return nil, fmt.Errorf("log in: %w after %v", err, got)
	}
	return c, nil
}

// beginsBare reports whether a step's first message is one that only a connection
// without a log-in can have: it begins with a zero byte, as lengths do.
func beginsBare(step Step) bool {
	return len(step.Messages) > 0 && len(step.Messages[0]) > 0 && step.Messages[0][0] == 0
}

func (p *player) step(ctx context.Context, step Step) error {
	if step.Until == Cancel {
		return p.cancel(ctx, step)
	}
	c, err := p.conn(ctx, step)
	if err != nil {
		return err
	}
	if err := p.write(c, step); err != nil && step.Until != UntilEnd && step.Until != UntilLogin {
		return err // else the other side has seen enough: its answer is compared
	}
	if tc, ok := c.Net.(*net.TCPConn); ok && step.EOF {
		if err := tc.CloseWrite(); err != nil {
			return err
		}
	}
	switch step.Until { //nolint:exhaustive // Cancel was handled
	case UntilByte:
		b, err := c.ReadByte()
		if err != nil {
			return err
		}
		p.said = append(p.said, answer{text: string(b), short: "byte(" + string(b) + ")"})
		return nil
	case UntilRaw:
		b, err := c.ReadRest()
		p.said = append(p.said, answer{text: string(b), short: fmt.Sprintf("raw(%s)", b)})
		return err
	case UntilLogin:
		return p.login(c)
	}
	return p.read(c, step)
}

func (p *player) login(c *rawpg.Conn) error {
	got, err := c.LogIn(&rawpg.Scram{Password: p.side.Password})
	for _, m := range got {
		if err := p.keep(c, m); err != nil {
			return err
		}
	}
	if err != nil {
		return p.over(err)
	}
	return nil
}

// keep adds a message to what was said.
func (p *player) keep(c *rawpg.Conn, m rawpg.Message) error {
	a, err := masked(m, c.PID)
	if err != nil {
		return err
	}
	p.said = append(p.said, a)
	return nil
}

// over notes the end of a connection; another error is one.
func (p *player) over(err error) error {
	if errors.Is(err, io.EOF) || strings.Contains(err.Error(), "reset") || strings.Contains(err.Error(), "broken pipe") {
		p.said = append(p.said, answer{text: "the end", short: "end"})
		return nil
	}
	return err
}

// oneByOne is how much of a step is written byte by byte; the rest goes in
// pieces of an odd size.
const (
	oneByOne = 1 << 9
	piece    = 1021
)

func (p *player) write(c *rawpg.Conn, step Step) error {
	if tc, ok := c.Net.(*net.TCPConn); ok {
		if err := tc.SetNoDelay(true); err != nil {
			return err
		}
	}
	var all []byte
	step.Messages = slices.Clone(step.Messages) // the transcript's own stay
	for i, m := range step.Messages {
		step.Messages[i] = bytes.ReplaceAll(m, []byte("{n}"), p.way.number())
		all = append(all, step.Messages[i]...)
	}
	switch p.way {
	case AtOnce:
		return nil
	case Messages:
		for _, m := range step.Messages {
			if err := c.Write(m); err != nil {
				return err
			}
		}
		return nil
	case Bytes:
		for sent := 0; len(all) > 0; {
			n := 1
			if sent >= oneByOne {
				n = min(piece, len(all))
			}
			if err := c.Write(all[:n]); err != nil {
				return err
			}
			all, sent = all[n:], sent+n
		}
		return nil
	case Steps:
	}
	if len(all) == 0 {
		return nil
	}
	return c.Write(all)
}

// read collects what a step waits for.
func (p *player) read(c *rawpg.Conn, step Step) error {
	for n := 0; ; {
		m, err := c.Receive()
		if err != nil {
			if step.Until == UntilEnd {
				return p.over(err)
			}
			return err
		}
		if err := p.keep(c, m); err != nil {
			return err
		}
		if step.Until == UntilMessages || step.Until == UntilReady && m.Type == 'Z' {
			n++
		}
		switch {
		case (step.Until == UntilMessages || step.Until == UntilReady) && n == step.N, step.Until == UntilType && m.Type == step.Type:
			return nil
		}
	}
}

// cancel sends a cancel request with a key of the step's length, which begins as
// the target's own, and waits for the end of that connection.
func (p *player) cancel(ctx context.Context, step Step) error {
	target := p.conns[step.Target]
	if target == nil {
		target = &rawpg.Conn{PID: 1} // no backend has it
	}
	nc, err := rawpg.Open(ctx, p.side.Address)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }() // its end was seen
	key := make([]byte, step.N)
	copy(key, target.Secret)
	if err := nc.Write(rawpg.CancelRequest(target.PID, key)); err != nil {
		return err
	}
	rest, err := nc.ReadRest()
	if err != nil && !strings.Contains(err.Error(), "reset") {
		return err
	}
	p.said = append(p.said, answer{text: "cancel " + string(rest), short: fmt.Sprintf("cancelled(%s)", rest)})
	return nil
}

// matches compares what was said with what was expected, where "..." stands for
// anything.
func matches(said, expected string) bool {
	for i, part := range strings.Split(expected, "...") {
		part = strings.TrimSpace(part)
		at := strings.Index(said, part)
		if at < 0 || i == 0 && at > 0 {
			return false
		}
		said = said[at+len(part):]
	}
	return said == "" || strings.HasSuffix(expected, "...")
}

// short spells answers for a person.
func short(said []answer) string {
	var list []string
	for _, a := range said {
		list = append(list, a.short)
	}
	return strings.Join(list, " ")
}
