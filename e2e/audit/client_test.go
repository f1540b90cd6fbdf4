// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package audit

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
	chain "github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// A client is a session of a load's.
type client struct {
	*load

	conn   *pgx.Conn
	node   *cluster.Node
	number int
}

func restSecret(client int) string { return fmt.Sprintf(loadPrefix+"%d/rest", client) }

// work is the i-th thing that it does.
func (c *client) work(ctx context.Context, i int) error {
	name := secretOf(c.number, i%secretsEach)
	switch i % 12 {
	case 3:
		_, err := c.do(ctx, chain.ActionUpdate, name, "SELECT vault.put_secret($1, $2) > 0", name, valueOf(name))
		return err
	case 4:
		_, err := c.do(ctx, chain.ActionUpdate, name, "SELECT vault.update_secret($1, description => $2) IS NOT NULL", name, fmt.Sprint(i))
		return err
	case 5:
		return c.deleteOne(ctx)
	case 6:
		return c.grantOne(ctx)
	case 7:
		return c.readAll(ctx)
	case 8:
		return c.rest(ctx, http.MethodPut, chain.ActionUpdate, restSecret(c.number), `{"value":"`+valueOf(restSecret(c.number))+`"}`)
	case 9:
		return c.restOne(ctx)
	default:
		return c.readOne(ctx, name)
	}
}

// do counts a statement that answers whether something was done.
func (c *client) do(ctx context.Context, action chain.Action, subject, sql string, args ...any) (done bool, err error) {
	of := did{chain.FaceSQL, action, subject}
	c.note(of, 1, 0)
	if err = c.conn.QueryRow(ctx, sql, args...).Scan(&done); err == nil && done {
		c.note(of, 0, 1)
	}
	return done, err
}

// deleteOne deletes a secret that it has made.
func (c *client) deleteOne(ctx context.Context) error {
	name := fmt.Sprintf(loadPrefix+"%d/deleted", c.number)
	_, err := c.do(ctx, chain.ActionUpdate, name, "SELECT vault.put_secret($1, $2) > 0", name, valueOf(name))
	if err == nil {
		_, err = c.do(ctx, chain.ActionDelete, name, "SELECT vault.delete_secret($1)", name)
	}
	return err
}

// grantOne makes a grant that nobody has made, and takes it back, as the superuser.
func (c *client) grantOne(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.w.c.AddressDSN(c.node.Proxy, c.w.c.Superuser))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its result is counted
	c.mu.Lock()
	c.grants++
	pattern := fmt.Sprintf(loadPrefix+"%d/grant/%d", c.number, c.grants)
	c.mu.Unlock()
	subject := c.w.c.User + " " + pattern
	super := &client{load: c.load, conn: conn}
	_, err = super.do(ctx, chain.ActionGrant, subject, "SELECT vault.grant_access($1::text::regrole, $2, 'read') IS NOT NULL", c.w.c.User, pattern)
	if err == nil {
		_, err = super.do(ctx, chain.ActionRevoke, subject, "SELECT vault.revoke_access($1::text::regrole, $2) IS NOT NULL", c.w.c.User, pattern)
	}
	return err
}

func (c *client) readOne(ctx context.Context, name string) error {
	c.note(did{chain.FaceSQL, chain.ActionRead, name}, 1, 0)
	var value string
	if err := c.conn.QueryRow(ctx, "SELECT vault.read_secret($1)", name).Scan(&value); err != nil {
		return err
	}
	c.got(name, value)
	return nil
}

// readAll reads all of the client's in one statement.
func (c *client) readAll(ctx context.Context) error {
	var names []string
	for i := range secretsEach {
		names = append(names, secretOf(c.number, i))
		c.note(did{chain.FaceSQL, chain.ActionRead, names[i]}, 1, 0)
	}
	rows, err := c.conn.Query(ctx, "SELECT n, vault.read_secret(n) FROM unnest($1::text[]) n", names)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return err
		}
		c.got(name, value)
	}
	return rows.Err()
}

func (c *client) got(name, value string) {
	c.note(did{chain.FaceSQL, chain.ActionRead, name}, 0, 1)
	if value != valueOf(name) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.wrong = fmt.Sprintf("%s: got %q", name, value)
	}
}

// restOne makes a secret by REST, reads it and deletes it.
func (c *client) restOne(ctx context.Context) error {
	name := restSecret(c.number) + "/own"
	err := c.rest(ctx, http.MethodPost, chain.ActionCreate, name, `{"name":"`+name+`","kind":"manual","value":"`+valueOf(name)+`"}`)
	if err == nil {
		err = c.rest(ctx, http.MethodGet, chain.ActionRead, name, "")
	}
	if err == nil {
		err = c.rest(ctx, http.MethodDelete, chain.ActionDelete, name, "")
	}
	return err
}

// rest counts what it asks for by REST. That a secret is missing, or there already, is
// an answer.
func (c *client) rest(ctx context.Context, method string, action chain.Action, name, body string) error {
	of := did{chain.FaceREST, action, name}
	c.note(of, 1, 0)
	path := "/v1/secrets"
	if method != http.MethodPost {
		path += "/" + name
	}
	request, err := http.NewRequestWithContext(ctx, method, c.node.REST+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+c.w.c.AdminToken)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	switch {
	case response.StatusCode < 300:
		c.note(of, 0, 1)
	case response.StatusCode != http.StatusNotFound && response.StatusCode != http.StatusConflict:
		return fmt.Errorf("%s %s: %s", method, path, response.Status)
	}
	return nil
}
