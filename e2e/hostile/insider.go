// SPDX-License-Identifier: GPL-3.0-or-later

package hostile

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// Insiders are the attacks of a role that may log in.
func Insiders() []Attack {
	return []Attack{
		{"slow readers", func(ctx context.Context, t Target) error { return inside(ctx, t, 10, slowReader) }},
		{"slow writers", func(ctx context.Context, t Target) error { return inside(ctx, t, 10, slowWriter) }},
		{"pipelines that are not read", func(ctx context.Context, t Target) error { return inside(ctx, t, 5, neverReader) }},
		{"bombs of texts", func(ctx context.Context, t Target) error { return inside(ctx, t, 4, textBomb) }},
		{"bombs of messages", func(ctx context.Context, t Target) error { return inside(ctx, t, 4, messageBombs()) }},
		{"names without end", func(ctx context.Context, t Target) error { return inside(ctx, t, 3, names) }},
		{"floods of Flush and Close", func(ctx context.Context, t Target) error { return inside(ctx, t, 3, flushes) }},
		{"COPY without end", func(ctx context.Context, t Target) error { return inside(ctx, t, 3, copyFlood) }},
		{"wide results", func(ctx context.Context, t Target) error { return inside(ctx, t, 3, wide) }},
		{"gone in the middle", func(ctx context.Context, t Target) error { return inside(ctx, t, 5, gone) }},
	}
}

// inside logs n clients in and lets each go on, in a new session when one is
// over.
func inside(ctx context.Context, t Target, n int, once func(ctx context.Context, c *rawpg.Conn, i int) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for w := range n {
		wg.Go(func() {
			for i, in := w, false; ctx.Err() == nil; i += n {
				c, err := rawpg.Dial(ctx, t.DSN)
				if err != nil {
					if ctx.Err() == nil && !in {
						errs <- err
					}
					return
				}
				in = true
				stop := context.AfterFunc(ctx, func() { c.Close() }) //nolint:errcheck // it ends in any case
				once(ctx, c, i)                                      //nolint:errcheck // what the node does about it does not matter
				stop()
				c.Close() //nolint:errcheck // as above
				if !rest(ctx, insiderPause) {
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

const insiderPause = 50 * time.Millisecond

// slowReader asks for much and takes a byte a second.
func slowReader(ctx context.Context, c *rawpg.Conn, _ int) error {
	if err := c.Send(rawpg.Query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)")); err != nil {
		return err
	}
	one := make([]byte, 1)
	for rest(ctx, time.Second) {
		if _, err := c.Net.Read(one); err != nil {
			return err
		}
	}
	return nil
}

// slowWriter says a text a byte a second.
func slowWriter(ctx context.Context, c *rawpg.Conn, _ int) error {
	b, err := rawpg.Encode(rawpg.Query("SELECT vault.put_secret('hostile/slow', 'never arrives')"))
	if err != nil {
		return err
	}
	return trickle(ctx, c.Net, b)
}

// flood writes the same bytes again and again until that blocks or fails, and
// then waits.
func flood(ctx context.Context, c *rawpg.Conn, b []byte, most int) error {
	for n := 0; n < most && ctx.Err() == nil; n += len(b) {
		if err := c.Net.SetWriteDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		if _, err := c.Net.Write(b); err != nil {
			rest(ctx, 3*time.Second) // it blocks, as it should: stay for a while
			return err
		}
	}
	rest(ctx, 3*time.Second)
	return nil
}

func neverReader(ctx context.Context, c *rawpg.Conn, _ int) error {
	b, err := rawpg.Encode(rawpg.Parse("", "SELECT repeat('x', 500)"), rawpg.Bind("", ""), rawpg.DescribePortal(""), rawpg.Execute("", 0), rawpg.Sync())
	if err != nil {
		return err
	}
	return flood(ctx, c, bytes.Repeat(b, 500), 64<<20)
}

// textBomb announces texts that the node must look into, and sends most of them.
func textBomb(ctx context.Context, c *rawpg.Conn, i int) error {
	size := 60 << 20
	if i%2 == 1 {
		size = 0x3fffffff // beyond what is held
	}
	if _, err := c.Net.Write(message('Q', uint32(size), "SELECT vault.read_secret('hostile/text') /*")); err != nil {
		return err
	}
	return flood(ctx, c, bytes.Repeat([]byte{'x'}, 1<<20), size-(4<<20))
}

// messageBombs lie about lengths and counts, each in a session of its own.
func messageBombs() func(context.Context, *rawpg.Conn, int) error {
	long := string(bytes.Repeat([]byte{'x'}, 60_000))
	count := func(n uint16) string { return string(binary.BigEndian.AppendUint16(nil, n)) }
	whole := func(typ byte, body string) []byte { return message(typ, uint32(4+len(body)), body) } //nolint:gosec // some kilobytes
	prepared := whole('P', "s\x00SELECT vault.put_secret('hostile/bind', $1)\x00"+count(0))
	list := [][]byte{
		message('S', 0x00010000, long),
		message('E', 0x7fffffff, long),
		message('D', 0xffffffff, long),
		message('Z', 4, ""),
		message(0, 4, ""),
		message('c', 0x00010000, long),
		message('d', 0x7fffffff, long),
		message('f', 0x7fffffff, long),
		message('H', 0x00010000, long),
		message('X', 0x00010000, long),
		append(bytes.Clone(prepared), whole('B', "\x00s\x00"+count(0)+count(1)+"\x00\x00\x00\x01x"+count(65535)+long)...),
		append(bytes.Clone(prepared), whole('B', "\x00s\x00"+count(0)+count(65535)+long)...),
		append(bytes.Clone(prepared), whole('B', "\x00s\x00"+count(65535)+long)...),
		append(bytes.Clone(prepared), whole('B', "\x00s\x00"+count(0)+count(1)+"\xff\xff\xff\xfe")...),
		append(bytes.Clone(prepared), whole('B', "\x00s\x00"+count(0)+count(1)+"\x7f\xff\xff\xff")...),
		append(bytes.Clone(prepared), message('B', 0x3fffffff, "\x00s\x00"+count(0)+count(1)+"\x3f\xff\xff\x00"+long)...),
		whole('P', "\x00SELECT 1\x00"+count(65535)+long),
		whole('P', long),
		whole('B', long),
		whole('C', "S"+long[:9_000]),
		whole('F', ""),
		whole('F', "\x00\x00\x00\x01"+count(65535)+long),
		whole('Q', "SELECT vault.read_secret("+string(bytes.Repeat([]byte{'('}, 50_000))),
		whole('Q', "SELECT vault.read_secret('x') || "+string(bytes.Repeat([]byte("1+"), 50_000))+"1\x00"),
	}
	return func(ctx context.Context, c *rawpg.Conn, i int) error {
		if err := c.Write(list[i%len(list)]); err != nil {
			return err
		}
		if err := c.Write(whole('S', "")); err != nil {
			return err
		}
		if err := c.Net.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, c.Net)
		return err
	}
}

// names prepares statements and portals, each under a name of its own.
func names(ctx context.Context, c *rawpg.Conn, _ int) error {
	go io.Copy(io.Discard, c.Net) //nolint:errcheck // until it is closed
	for i := 0; i < 30_000 && ctx.Err() == nil; i += 100 {
		var out []byte
		for j := range 100 {
			name := fmt.Sprintf("%063d", i+j)
			b, err := rawpg.Encode(rawpg.Parse(name, "SELECT 1"), rawpg.Bind(name, name))
			if err != nil {
				return err
			}
			out = append(out, b...)
		}
		b, err := rawpg.Encode(rawpg.Sync())
		if err != nil {
			return err
		}
		if err := c.Write(append(out, b...)); err != nil {
			return err
		}
	}
	return nil
}

func flushes(ctx context.Context, c *rawpg.Conn, i int) error {
	go io.Copy(io.Discard, c.Net) //nolint:errcheck // until it is closed
	what := []byte("H\x00\x00\x00\x04")
	if i%2 == 1 {
		what = message('C', 7, "Sx\x00")
	}
	return flood(ctx, c, bytes.Repeat(what, 2000), 2<<20)
}

// copyFlood sends copy data for ever, where it was asked for and where not.
func copyFlood(ctx context.Context, c *rawpg.Conn, i int) error {
	go io.Copy(io.Discard, c.Net) //nolint:errcheck // until it is closed
	if i%2 == 0 {
		if err := c.Send(rawpg.Query("CREATE TEMP TABLE flood (t text); COPY flood FROM STDIN")); err != nil {
			return err
		}
	}
	row := append(bytes.Repeat([]byte{'x'}, 1000), '\n')
	return flood(ctx, c, bytes.Repeat(message('d', uint32(4+len(row)), string(row)), 50), 4<<20) //nolint:gosec // 1,005
}

// wide asks for as many columns as there can be, and for them again.
func wide(ctx context.Context, c *rawpg.Conn, _ int) error {
	sql := "SELECT " + string(bytes.Repeat([]byte("1 AS \"a name of sixty-three bytes, as long as it can be in this case\","), 1600)) + "2"
	for ctx.Err() == nil {
		if err := c.Send(rawpg.Query(sql)); err != nil {
			return err
		}
		for typ := byte(0); typ != 'Z'; {
			m, err := c.Receive()
			if err != nil {
				return err
			}
			typ = m.Type
		}
		if !rest(ctx, insiderPause) {
			break
		}
	}
	return nil
}

// gone leaves while the server works for it.
func gone(ctx context.Context, c *rawpg.Conn, _ int) error {
	if err := c.Send(rawpg.Query("SELECT pg_sleep(3600)")); err != nil {
		return err
	}
	rest(ctx, insiderPause)
	return nil
}
