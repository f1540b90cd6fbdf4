// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/hyperiondb/hyperion-vault/e2e/bench/document"
	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// raw is a connection that is logged in and then taken from who did it: it moves
// bytes and looks only at their end, so that the client is not what is
// measured.
type raw struct {
	nc  net.Conn
	buf []byte
}

func dialRaw(ctx context.Context, dsn string) (*raw, error) {
	c, err := rawpg.Dial(ctx, dsn)
	if err != nil {
		return nil, err
	}
	return &raw{nc: c.Net, buf: make([]byte, 256<<10)}, nil
}

func (r *raw) close() { _ = r.nc.Close() } // nothing is waited for

// ready is an idle session's ReadyForQuery.
var ready = []byte{'Z', 0, 0, 0, 5, 'I'}

// query sends a Query, and data if the server asks for it, and reads up to
// ReadyForQuery. What is asked for ends in nothing that looks like one.
func (r *raw) query(sql string, data []byte) (size int64, took time.Duration, err error) {
	if err := r.nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, 0, err
	}
	msg, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	if _, err := r.nc.Write(msg); err != nil {
		return 0, 0, err
	}
	var end [6]byte
	for {
		n, err := r.nc.Read(r.buf)
		if err != nil {
			return 0, 0, err
		}
		if size == 0 && r.buf[0] == 'E' {
			return 0, 0, fmt.Errorf("%.60s: %q", sql, r.buf[:n])
		}
		if size == 0 && data != nil && r.buf[0] == 'G' {
			if _, err := r.nc.Write(data); err != nil {
				return 0, 0, err
			}
		}
		size += int64(n)
		if n >= len(end) {
			copy(end[:], r.buf[n-len(end):n])
		} else {
			copy(end[:], append(end[n:], r.buf[:n]...))
		}
		if bytes.Equal(end[:], ready) {
			return size, time.Since(begun), nil
		}
	}
}

// A bulk is one way to move 50 MB.
type bulk struct {
	what, sql string
	in        bool
}

const (
	bulkLines = 50_000
	bulkWidth = 1000
)

var (
	bulkSelect  = bulk{what: "50 MB result", sql: "SELECT t FROM bulk"}
	bulkCopyOut = bulk{what: "50 MB COPY to the client", sql: "COPY bulk TO STDOUT"}
	bulkCopyIn  = bulk{what: "50 MB COPY from the client", sql: "COPY bulk_in FROM STDIN", in: true}
)

// copyData is 50 MB of COPY data as libpq sends it: a message a line.
func copyData() []byte {
	text := append(bytes.Repeat([]byte{'x'}, bulkWidth-1), '\n')
	one := binary.BigEndian.AppendUint32([]byte{'d'}, uint32(len(text)+4)) //nolint:gosec // a constant
	one = append(one, text...)
	return append(bytes.Repeat(one, bulkLines), 'c', 0, 0, 0, 4)
}

// moved is one transfer.
type moved struct {
	speed float64 // MB/s
	cpu   time.Duration
}

func measureBulk(ctx context.Context, w *world, o *options, b bulk) ([]line, error) {
	err := w.exec(ctx,
		"CREATE TABLE IF NOT EXISTS bulk (t text)", "TRUNCATE bulk",
		fmt.Sprintf("INSERT INTO bulk SELECT repeat('x', %d) FROM generate_series(1, %d)", bulkWidth, bulkLines),
		"DROP TABLE IF EXISTS bulk_in", "CREATE UNLOGGED TABLE bulk_in (t text)", "GRANT ALL ON bulk, bulk_in TO PUBLIC",
		"ALTER TABLE bulk_in OWNER TO "+w.cluster.User, "VACUUM ANALYZE bulk", "CHECKPOINT")
	if err != nil {
		return nil, err
	}
	var data []byte
	if b.in {
		data = copyData()
	}
	conns := map[string]*raw{}
	targets := []target{w.pgbouncer, w.node, w.tcp, w.socket}
	for _, t := range targets {
		if conns[t.name], err = dialRaw(ctx, w.dsn(t)); err != nil {
			return nil, err
		}
		defer conns[t.name].close()
	}
	move := func(t target) func() (moved, error) {
		return func() (moved, error) { return w.move(conns[t.name], t, b, data) }
	}
	for _, t := range targets { // warm
		if _, err := move(t)(); err != nil {
			return nil, err
		}
	}
	peer, ours, err := pairs(2*o.pairs, move(w.pgbouncer), move(w.node))
	if err != nil {
		return nil, err
	}
	direct, overSocket, err := pairs(o.pairs, move(w.tcp), move(w.socket))
	if err != nil {
		return nil, err
	}
	speed := func(m moved) float64 { return m.speed }
	l := compare(b.what, "MB/s", w.pgbouncer.name, ours, peer, speed, goalBulk)
	l.Others = []other{{w.tcp.name, document.Median(each(direct, speed))}, {w.socket.name, document.Median(each(overSocket, speed))}}
	return []line{l, compare(b.what, "proxy CPU, µs a MB", w.pgbouncer.name, ours, peer, func(m moved) float64 { return micros(m.cpu) }, nil)}, nil
}

// move moves the 50 MB once.
func (w *world) move(r *raw, t target, b bulk, data []byte) (m moved, err error) {
	var before time.Duration
	if t.pid != 0 {
		if before, err = cpuTime(t.pid); err != nil {
			return m, err
		}
	}
	size, took, err := r.query(b.sql, data)
	if err != nil {
		return m, err
	}
	if b.in {
		size = int64(len(data))
	}
	megabytes := float64(size) / 1e6
	if megabytes < 45 {
		return m, errRows
	}
	m.speed = megabytes / took.Seconds()
	if t.pid != 0 {
		after, err := cpuTime(t.pid)
		if err != nil {
			return m, err
		}
		m.cpu = time.Duration(float64(after-before) / megabytes)
	}
	if b.in {
		_, _, err = r.query("TRUNCATE bulk_in", nil)
	}
	return m, err
}

// measureMany opens many secrets in one statement and compares it with pgcrypto
// on the server.
func measureMany(ctx context.Context, w *world, o *options) ([]line, error) {
	n, rounds := 10_000, o.pairs
	if o.quick {
		n = 2_000
	}
	if err := w.secrets(ctx, n); err != nil {
		return nil, err
	}
	err := w.exec(ctx, "CREATE EXTENSION IF NOT EXISTS pgcrypto", "DROP TABLE IF EXISTS pgp, names",
		"CREATE TABLE names AS SELECT i::text AS name FROM generate_series(1, "+fmt.Sprint(n)+") i",
		"CREATE TABLE pgp AS SELECT pgp_sym_encrypt('the-value-of-secret-number-'||lpad(name, 5, '0'), 'a passphrase of the application') AS data FROM names",
		"GRANT SELECT ON pgp, names TO PUBLIC", "ANALYZE pgp", "ANALYZE names")
	if err != nil {
		return nil, err
	}
	ours, err := dialRaw(ctx, w.dsn(w.node))
	if err != nil {
		return nil, err
	}
	defer ours.close()
	theirs, err := dialRaw(ctx, w.dsn(w.tcp))
	if err != nil {
		return nil, err
	}
	defer theirs.close()
	run := func(r *raw, sql string) func() (float64, error) {
		return func() (float64, error) {
			size, took, err := r.query(sql, nil)
			if err == nil && size < int64(n)*30 {
				err = errRows
			}
			return float64(n) / took.Seconds(), err
		}
	}
	open := run(ours, "SELECT vault.read_secret(name) FROM names")
	if _, err := open(); err != nil { // fills the cache of data keys
		return nil, err
	}
	peer, opened, err := pairs(rounds, run(theirs, "SELECT pgp_sym_decrypt(data, 'a passphrase of the application') FROM pgp"), open)
	if err != nil {
		return nil, err
	}
	same := func(f float64) float64 { return f }
	return []line{compare(fmt.Sprintf("%d secrets in one statement, keys cached", n), "secrets a second", "pgp_sym_decrypt on the server", opened, peer, same, goalMany)}, nil
}
