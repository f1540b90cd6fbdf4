// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// auditTailCommand shows records.
type auditTailCommand struct {
	auditSource `embed:""`

	Follow bool `short:"f" help:"Go on with the records that come, until Ctrl-C."`
	Lines  int  `short:"n" default:"10" placeholder:"N" help:"How many to begin with, at most 100000."`
	JSON   bool `name:"json" help:"Lines of JSON, as audit export writes them."`
}

// tailPoll is how often it is looked for new records.
const tailPoll = time.Second

// recordTail is where they come from.
type recordTail interface {
	// last returns the last n records, oldest first.
	last(ctx context.Context, n int) ([]audit.Row, error)
	// more shows what came since.
	more(ctx context.Context, show func(*audit.Row) error) error
	io.Closer
}

// Run prints records. Nothing in them steers the terminal.
func (c *auditTailCommand) Run(ctx context.Context, std *streams) error {
	if c.Lines < 0 || c.Lines > 100_000 {
		return faultf("-n %d: it should be 0 to 100000", c.Lines)
	}
	tail, err := c.open(ctx)
	if err != nil {
		return blind(err)
	}
	defer func() { _ = tail.Close() }() // nothing was written
	err = c.show(ctx, tail, std)
	if c.Follow && ctx.Err() != nil {
		return nil // as it should end
	}
	return blind(err)
}

func (c *auditTailCommand) open(ctx context.Context) (recordTail, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Spool != "" {
		r, err := audit.OpenReader(c.Spool)
		return &spoolTail{r}, err
	}
	t, err := openAuditTables(ctx, c.Database)
	return &tableTail{t, map[audit.NodeID]uint64{}}, err
}

func (c *auditTailCommand) show(ctx context.Context, tail recordTail, std *streams) error {
	w := bufio.NewWriter(std.out)
	var line []byte
	show := func(r *audit.Row) error {
		if line = line[:0]; c.JSON {
			line = r.AppendJSON(line)
		} else {
			line = appendRecord(line, r)
		}
		_, err := w.Write(line)
		return err
	}
	rows, err := tail.last(ctx, c.Lines)
	for i := range rows {
		err = errors.Join(err, show(&rows[i]))
	}
	if err = errors.Join(err, w.Flush()); err != nil || !c.Follow {
		return err
	}
	ticker := time.NewTicker(tailPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := errors.Join(tail.more(ctx, show), w.Flush()); err != nil {
			return err
		}
	}
}

// appendRecord appends a record as a line for people.
func appendRecord(b []byte, r *audit.Row) []byte {
	who := word(r.Actor)
	if r.SessionRole != "" && r.SessionRole != r.Actor {
		who += "/" + word(r.SessionRole)
	}
	if r.Addr.IsValid() {
		who += "@" + word(r.Addr.String())
	}
	b = fmt.Appendf(b, "%s %.8v:%d %s %s %s %s %s", r.At.UTC().Format("2006-01-02T15:04:05.000000Z"), r.Node, r.Seq,
		word(string(r.Face)), who, word(r.Database), word(string(r.Action)), word(r.Secret))
	if r.Version != 0 {
		b = fmt.Appendf(b, " v%d", r.Version)
	}
	b = fmt.Appendf(b, " %s", word(string(r.Outcome)))
	if r.Direct {
		b = append(b, " direct"...)
	}
	if r.Reason != "" {
		b = fmt.Appendf(b, " reason=%s", word(r.Reason))
	}
	if r.Change != 0 {
		b = fmt.Appendf(b, " change=%d", r.Change)
	}
	if r.Statement != 0 {
		b = fmt.Appendf(b, " statement=%016x", r.Statement)
	}
	return append(b, '\n')
}

// word is a text as one word of a line.
func word(text string) string {
	quoted := strconv.Quote(text)
	switch {
	case text == "":
		return "-"
	case text == "-", strings.Contains(text, " "), quoted != `"`+text+`"`:
		return quoted
	}
	return text
}

// tableTail follows the vault's table.
type tableTail struct {
	*auditTables
	shown map[audit.NodeID]uint64 // up to which record of each node
}

func (t *tableTail) heads(ctx context.Context) (map[audit.NodeID]uint64, error) {
	heads := map[audit.NodeID]uint64{}
	for h, err := range each(ctx, t.conn, scanHead, "SELECT node_id, seq, hash, at, public_key, signature FROM vault.audit_heads") {
		if err != nil {
			return nil, err
		}
		heads[h.Node] = h.Seq
	}
	return heads, nil
}

func (t *tableTail) last(ctx context.Context, n int) (rows []audit.Row, err error) {
	if t.shown, err = t.heads(ctx); err != nil {
		return nil, err
	}
	const last = "SELECT " + rowColumns + ` FROM vault.audit_heads h CROSS JOIN LATERAL
		(SELECT * FROM vault.audit_log o WHERE o.node_id = h.node_id AND o.seq <= h.seq ORDER BY o.seq DESC LIMIT $1) l
		ORDER BY l.at DESC, l.node_id DESC, l.seq DESC LIMIT $1`
	for r, err := range each(ctx, t.conn, scanRow, last, n) {
		if err != nil {
			return nil, err
		}
		if r.Seq <= t.shown[r.Node] { // what came since is for the next time
			rows = append(rows, r)
		}
	}
	slices.Reverse(rows)
	return rows, nil
}

func (t *tableTail) more(ctx context.Context, show func(*audit.Row) error) error {
	heads, err := t.heads(ctx)
	if err != nil {
		return err
	}
	const next = "SELECT " + rowColumns + " FROM vault.audit_log l WHERE l.node_id = $1 AND l.seq > $2 AND l.seq <= $3 ORDER BY l.node_id, l.seq"
	for _, node := range slices.SortedFunc(maps.Keys(heads), func(a, b audit.NodeID) int { return slices.Compare(a[:], b[:]) }) {
		if heads[node] > t.shown[node] {
			for r, err := range each(ctx, t.conn, scanRow, next, [16]byte(node), t.shown[node], heads[node]) {
				if err == nil {
					err = show(&r)
				}
				if err != nil {
					return err
				}
			}
		}
		t.shown[node] = heads[node] // also back, if the vault was restored
	}
	return nil
}

// spoolTail follows a spool's files.
type spoolTail struct{ *audit.Reader }

// Close closes the file that is being read.
func (t *spoolTail) Close() error {
	t.Reader.Close()
	return nil
}

func (t *spoolTail) last(ctx context.Context, n int) (rows []audit.Row, err error) {
	t.Back(uint64(n)) //nolint:gosec // not negative
	err = t.rest(ctx, func(r *audit.Row) error {
		if rows = append(rows, *r); len(rows) >= 2*n+1024 {
			rows = append(rows[:0], rows[len(rows)-n:]...)
		}
		return nil
	})
	return rows[max(0, len(rows)-n):], err
}

func (t *spoolTail) more(ctx context.Context, show func(*audit.Row) error) error {
	if err := t.Look(); err != nil {
		return err
	}
	return t.rest(ctx, show)
}

func (t *spoolTail) rest(ctx context.Context, show func(*audit.Row) error) error {
	for {
		row, head, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case head != nil:
			continue
		}
		if err == nil {
			err = errors.Join(ctx.Err(), show(&row))
		}
		if err != nil {
			return err
		}
	}
}
