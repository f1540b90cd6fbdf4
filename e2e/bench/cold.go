// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// compareCold reads each secret once behind a flush of the node's keys, and once
// more, so many rounds. readAll reads them all over one connection.
func compareCold(what, figure string, pid, rounds int, readAll func() error) (line, error) {
	var cold, warm []float64
	for range rounds {
		if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
			return line{}, err
		}
		for _, into := range []*[]float64{&cold, &warm} {
			begun := time.Now()
			if err := readAll(); err != nil {
				return line{}, err
			}
			*into = append(*into, readSecrets/time.Since(begun).Seconds())
		}
	}
	same := func(f float64) float64 { return f }
	return compare(what, figure, "the same, cached", cold, warm, same, nil), nil
}

// measureReadCold compares a secret whose data key is not cached with one whose key
// is, by SQL.
func measureReadCold(ctx context.Context, w *world, o *options) ([]line, error) {
	if err := w.secrets(ctx, readSecrets); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, w.dsn(w.node))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }() // what it did was looked at
	readAll := func() error {
		for i := range readSecrets {
			var value string
			if err := conn.QueryRow(ctx, "SELECT vault.read_secret($1)", strconv.Itoa(i+1)).Scan(&value); err != nil {
				return err
			}
		}
		return nil
	}
	if err := readAll(); err != nil { // prepares the statement
		return nil, err
	}
	l, err := compareCold("read_secret, key not cached, 1 client", "reads a second, local key", w.node.pid, o.pairs, readAll)
	return []line{l}, err
}
