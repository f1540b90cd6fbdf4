// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// connectFault is why a server could not be asked, in one line.
func connectFault(err error) string {
	var pg *pgconn.PgError
	var name *net.DNSError
	switch {
	case errors.As(err, &pg):
		return fmt.Sprintf("%s (SQLSTATE %s)", pg.Message, pg.Code)
	case errors.As(err, &name):
		return name.Error()
	case errors.Is(err, context.DeadlineExceeded), pgconn.Timeout(err):
		return "no answer in time"
	}
	if connect := (*pgconn.ConnectError)(nil); errors.As(err, &connect) {
		err = connect.Unwrap()
	}
	tries := slices.Compact(strings.Split(errnoOf(err).Error(), "\n")) // the same, with and without TLS
	return strings.Join(strings.Fields(strings.Join(tries, "; ")), " ")
}

// hostsOf are the servers of a configuration.
func hostsOf(c *pgconn.Config) (hosts []pgconn.FallbackConfig) {
	for _, f := range append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port}}, c.Fallbacks...) {
		at := pgconn.FallbackConfig{Host: f.Host, Port: f.Port}
		if !slices.Contains(hosts, at) { // sslmode=prefer names each host twice
			hosts = append(hosts, at)
		}
	}
	return hosts
}

// unreached puts an error of connecting into words: where, as whom, and why not. Any
// other error stays what it is.
func unreached(err error) error {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) {
		return err
	}
	c := connect.Config
	var at []string
	for _, h := range hostsOf(c) {
		at = append(at, net.JoinHostPort(h.Host, strconv.Itoa(int(h.Port))))
	}
	return fmt.Errorf("no connection to %s as %q, database %q: %s", strings.Join(at, ", "), c.User, cmp.Or(c.Database, c.User), connectFault(err))
}

// unreachedByEnvironment is the same where libpq's environment says where.
func unreachedByEnvironment(err error) error {
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		err = fmt.Errorf("%w (PGHOST, PGPORT, PGUSER, PGDATABASE or PGSERVICE say where and as whom)", unreached(err))
	}
	return err
}
