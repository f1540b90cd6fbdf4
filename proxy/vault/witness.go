// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A witness is a server of VAULT_PG_HOSTS, which is asked who it is again and
// again: by a connection that is kept.
type witness struct {
	at       Server
	mu       sync.Mutex
	conn     *pgconn.PgConn            // nil: none
	answered atomic.Pointer[time.Time] // when it last did: the beginning counts
}

func witnesses(hosts []Server) []*witness {
	list := make([]*witness, len(hosts))
	for i, h := range hosts {
		list[i] = &witness{at: h}
		list[i].answers()
	}
	return list
}

// claims asks all servers at once, and waits for all: one that is far away may
// have replaced the one that answers first. One call runs at a time.
func (v *Vault) claims(ctx context.Context) []claim {
	ctx, cancel := context.WithTimeout(ctx, hostTimeout)
	defer cancel()
	answers := make(chan *claim, len(v.witnesses))
	for _, w := range v.witnesses {
		go func() {
			var c *claim
			defer func() { answers <- c }()
			defer v.rescue(ctx, "asking servers", func() {})
			c = v.ask(ctx, w)
		}()
	}
	var got []claim
	for range v.witnesses {
		if c := <-answers; c != nil {
			got = append(got, *c)
		}
	}
	return got
}

// ask asks one server; nil: it does not answer, or not with a claim.
func (v *Vault) ask(ctx context.Context, w *witness) *claim {
	text, err := v.askText(ctx, w, SQLClaim)
	if err != nil {
		return nil
	}
	c, ok := parseClaim(w.at, text)
	if !ok {
		return nil
	}
	return &c
}

// askText asks one server for a text.
func (v *Vault) askText(ctx context.Context, w *witness, sql string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := w.conn != nil
	text, err := v.askOnce(ctx, w, sql)
	if err != nil && kept && ctx.Err() == nil { // the connection was from before
		text, err = v.askOnce(ctx, w, sql)
	}
	if err == nil || ctx.Err() == nil && !pgconn.Timeout(err) { // also an error is an answer, and a refused connection
		w.answers()
	}
	return text, err
}

// answers notes that it does, by a time that no correction of the clock moves.
func (w *witness) answers() {
	now := time.Now()
	w.answered.Store(&now)
}

// close waits for an answer that is under way, for a second at most.
func (w *witness) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.conn.Conn().Close() // nothing depends on it
		w.conn = nil
	}
}

func (v *Vault) askOnce(ctx context.Context, w *witness, sql string) (text string, err error) {
	defer func() {
		if err != nil && w.conn != nil {
			_ = w.conn.Conn().Close() // without a goodbye, which could wait
			w.conn = nil
		}
	}()
	if w.conn == nil {
		config, err := v.store.config(w.at)
		if err != nil {
			return "", err
		}
		config.Password = *v.store.password.Load()
		if w.conn, err = pgconn.ConnectConfig(ctx, config); err != nil {
			return "", err
		}
	}
	r := w.conn.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
	if r.Err != nil {
		return "", r.Err
	}
	if len(r.Rows) == 1 && len(r.Rows[0]) == 1 {
		text = string(r.Rows[0][0])
	}
	return text, nil
}

// Silent returns for how long a server of VAULT_PG_HOSTS has answered nothing, not
// even by a refusal, while it was asked; 0 for any other. With one host nobody
// asks.
func (v *Vault) Silent(at Server) time.Duration {
	for _, w := range v.witnesses {
		if w.at == at && len(v.witnesses) > 1 {
			return time.Since(*w.answered.Load())
		}
	}
	return 0
}
