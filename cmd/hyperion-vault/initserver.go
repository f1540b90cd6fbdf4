// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// connectAll connects to every host, in libpq's own ways: environment, password file,
// service file. One that cannot be reached says so in its fault.
func (c *initCommand) connectAll(ctx context.Context) ([]*server, error) {
	base, err := pgx.ParseConfig("")
	if err != nil {
		return nil, fmt.Errorf("PG* environment: %w", err)
	}
	hosts, err := c.hostList(base)
	if err != nil {
		return nil, err
	}
	servers := make([]*server, len(hosts))
	var all sync.WaitGroup
	for i, host := range hosts {
		config, err := pgx.ParseConfig(host)
		if err != nil {
			return nil, fmt.Errorf("PG* environment: %w", err)
		}
		config.Database = c.Database
		config.ValidateConnect = nil // PGTARGETSESSIONATTRS is not for us: we want every server
		config.ConnectTimeout = 10 * time.Second
		config.RuntimeParams = map[string]string{"application_name": "hyperion-vault init", "search_path": "pg_catalog, pg_temp"}
		config.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {}
		s := &server{name: net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))}
		servers[i] = s
		all.Go(func() {
			conn, err := pgx.ConnectConfig(ctx, config)
			if err != nil {
				s.fault = "it cannot be asked: " + connectFault(err) + c.connectRemedy(err)
				return
			}
			s.conn = conn
		})
	}
	all.Wait()
	return servers, nil
}

// connectRemedy is what to do about it; empty: the fault says it, or nobody knows.
func (c *initCommand) connectRemedy(err error) string {
	var pg *pgconn.PgError
	var name *net.DNSError
	switch {
	case errors.As(err, &pg) && pg.Code == "3D000":
		return "; make it on the primary (createdb " + c.Database + "), or wait until this standby has replayed that"
	case errors.As(err, &pg) && strings.HasPrefix(pg.Code, "28"):
		return "; name a superuser that its pg_hba.conf admits (PGUSER), and his password (PGPASSWORD or PGPASSFILE)"
	case errors.As(err, &pg) && pg.Code == "57P03":
		return "; wait until it takes connections"
	case errors.As(err, &pg):
		return ""
	case errors.As(err, &name), pgconn.Timeout(err), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return "; start it, or name another host or port (--hosts)"
	}
	return ""
}

// hostList returns a connection string for each server, which names no more
// than where it is: the rest comes from libpq's environment.
func (c *initCommand) hostList(base *pgx.ConnConfig) ([]string, error) {
	var list []string
	add := func(host, port string) {
		list = append(list, fmt.Sprintf("host='%s' port=%s", strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(host), port))
	}
	if c.Hosts == "" {
		for _, at := range hostsOf(&base.Config) {
			add(at.Host, strconv.Itoa(int(at.Port)))
		}
		return list, nil
	}
	for _, element := range strings.Split(c.Hosts, ",") {
		e, err := parseEndpoint(strings.TrimSpace(element), int(base.Port))
		if err != nil {
			return nil, faultf("--hosts holds %q: it should be host, host:port, [v6]:port or a socket directory, with commas between", c.Hosts)
		}
		if e.network == "unix" {
			add(e.address, strconv.Itoa(int(base.Port)))
			continue
		}
		host, port, err := net.SplitHostPort(e.address)
		if err != nil {
			return nil, err
		}
		add(host, port)
	}
	return list, nil
}
