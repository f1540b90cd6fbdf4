// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hyperiondb/hyperion-vault/proxy/scram"
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
				s.fault = "it cannot be asked: " + connectFault(err)
				return
			}
			s.conn = conn
		})
	}
	all.Wait()
	return servers, nil
}

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
	return oneLine(errnoOf(err))
}

// hostList returns a connection string for each server, which names no more
// than where it is: the rest comes from libpq's environment.
func (c *initCommand) hostList(base *pgx.ConnConfig) ([]string, error) {
	var list []string
	add := func(host, port string) {
		list = append(list, fmt.Sprintf("host='%s' port=%s", strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(host), port))
	}
	if c.Hosts == "" {
		seen := map[string]bool{}
		for _, f := range append([]*pgconn.FallbackConfig{{Host: base.Host, Port: base.Port}}, base.Fallbacks...) {
			port := strconv.Itoa(int(f.Port))
			if key := f.Host + " " + port; !seen[key] { // sslmode=prefer names each host twice
				seen[key] = true
				add(f.Host, port)
			}
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

// password gets or makes the service role's password and returns its SCRAM
// verifier: the server, and so its log, never sees the password.
func (c *initCommand) password(std *streams, r *initResult) (string, error) {
	password, err := c.readPassword(std, r)
	if err != nil {
		return "", err
	}
	for i := range len(password) {
		if password[i] < 0x20 || password[i] > 0x7e {
			return "", errors.New("the service role's password should be of printable ASCII characters")
		}
	}
	return scramVerifier(password)
}

func (c *initCommand) readPassword(std *streams, r *initResult) (string, error) {
	if c.PasswordFile == "-" {
		line, err := bufio.NewReader(io.LimitReader(std.in, maxSecretFile)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("stdin: %w", err)
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return "", errors.New("stdin holds no password")
		}
		return line, nil
	}
	password, err := readSecretFile(c.PasswordFile)
	if err == nil {
		return password, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("--service-password-file %s: %w", c.PasswordFile, err)
	}
	secret := make([]byte, 24)
	_, _ = rand.Read(secret) // never fails, by its documentation
	password = base64.RawURLEncoding.EncodeToString(secret)
	f, err := os.OpenFile(c.PasswordFile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(password + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	r.did("wrote the service role's password into %s: each node needs it (VAULT_PG_PASSWORD_FILE)", c.PasswordFile)
	return password, nil
}

// scramIterations is PostgreSQL's own number.
const scramIterations = 4096

func scramVerifier(password string) (string, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails, by its documentation
	v, err := scram.NewVerifier(password, salt, scramIterations)
	return v.Text(), err
}
