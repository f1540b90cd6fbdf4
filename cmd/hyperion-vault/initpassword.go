// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/proxy/scram"
)

// password gets or makes the service role's password and returns its SCRAM
// verifier: the server, and so its log, never sees the password.
func (c *initCommand) password(std *streams, r *initResult) (string, error) {
	password, err := c.givenPassword(std)
	if errors.Is(err, os.ErrNotExist) {
		password, err = c.makePassword(r)
	}
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

// givenPassword is what stdin or the file holds.
func (c *initCommand) givenPassword(std *streams) (string, error) {
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
	if err != nil {
		return "", fmt.Errorf("--service-password-file %s: %w", c.PasswordFile, err)
	}
	return password, nil
}

func (c *initCommand) makePassword(r *initResult) (string, error) {
	secret := make([]byte, 24)
	_, _ = rand.Read(secret) // never fails, by its documentation
	password := base64.RawURLEncoding.EncodeToString(secret)
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

// judgePassword says what becomes of the password if the role exists, unless it is that
// role's. That it cannot be read is no reason to fail: init may be run again by who
// may not read the nodes' file.
func (c *initCommand) judgePassword(ctx context.Context, conn *pgx.Conn, std *streams, r *initResult) error {
	var stored string
	err := conn.QueryRow(ctx, "SELECT coalesce(rolpassword, '') FROM pg_catalog.pg_authid WHERE rolname = $1", c.ServiceRole).Scan(&stored)
	if err != nil {
		return fmt.Errorf("service role: %w", err)
	}
	password, err := c.givenPassword(std)
	keeps := fmt.Sprintf("the service role %s exists and keeps its password", c.ServiceRole)
	switch {
	case errors.Is(err, os.ErrNotExist):
		r.note("%s: %s was not made; --reset-service-password makes it, and gives the role what it holds", keeps, c.PasswordFile)
	case err != nil:
		r.note("%s, which was not compared: %v", keeps, err)
	case !strings.HasPrefix(stored, "SCRAM-SHA-256$"):
		r.note("%s, if it has one, which was not compared: none is stored that SCRAM can use; --reset-service-password gives it this one", keeps)
	case !isPassword(stored, password):
		r.note("%s, which is another one than that given; --reset-service-password gives it this one", keeps)
	}
	return nil
}

// isPassword tells whether a role's stored verifier is the password's.
func isPassword(stored, password string) bool {
	was, err := scram.ParseVerifier(stored)
	if err != nil {
		return false
	}
	is, err := scram.NewVerifier(password, was.Salt, was.Iterations)
	return err == nil && bytes.Equal(is.StoredKey, was.StoredKey)
}

// scramIterations is PostgreSQL's own number.
const scramIterations = 4096

func scramVerifier(password string) (string, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails, by its documentation
	v, err := scram.NewVerifier(password, salt, scramIterations)
	return v.Text(), err
}
