// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

type tokenCommand struct {
	Create tokenCreateCommand `cmd:"" help:"Make a token and print it, this once."`
	List   tokenListCommand   `cmd:"" help:"List the tokens, also those that were revoked."`
	Revoke tokenRevokeCommand `cmd:"" help:"Take a token back: it is unknown as soon as the servers show that."`
}

// checkTokenName refuses a token in place of its name, before it is sent or said.
func checkTokenName(name string) error {
	if vault.HoldsToken(name) {
		return faultf("that is a token (not shown): it should be the name of one, as `hyperion-vault token list` shows it")
	}
	return nil
}

type tokenCreateCommand struct {
	restClient `embed:""`

	Name string `arg:"" help:"Whose it is: what the audit calls it. A name is used once."`
	Role string `default:"admin" help:"What it may do: a role of /v1/roles, or admin, which may do everything."`
}

// Run prints the token alone on stdout, for whoever stores it.
func (c *tokenCreateCommand) Run(ctx context.Context, std *streams) error {
	if err := checkTokenName(c.Name); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"name": c.Name, "role": c.Role})
	if err != nil {
		return err
	}
	answer, _, err := c.ask(ctx, std, http.MethodPost, "/v1/tokens", body)
	if err != nil {
		return err
	}
	defer erase.Zero(answer)
	var token []byte
	erase.Do(func() {
		var said struct{ Token string }
		if json.Unmarshal(answer, &said) == nil {
			token = append([]byte(said.Token), '\n')
		}
	})
	defer erase.Zero(token)
	if len(token) < 2 {
		return errAnswer
	}
	if _, err := std.out.Write(token); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(std.err, "hyperion-vault: token %s of role %s; it is not shown again\n", c.Name, c.Role) // the token was printed
	return nil
}

type tokenListCommand struct {
	restClient `embed:""`
}

// Run prints what is known of the tokens.
func (c *tokenListCommand) Run(ctx context.Context, std *streams) error {
	table := newTable(std.out)
	table.line("NAME", "ROLE", "CREATED", "LAST USED", "REVOKED")
	date := func(t *time.Time) string {
		if t == nil {
			return "-"
		}
		return t.UTC().Format(time.RFC3339)
	}
	err := pages(func(after string) (last string, more bool, err error) {
		answer, more, err := c.ask(ctx, std, http.MethodGet, "/v1/tokens?"+url.Values{"after": {after}}.Encode(), nil)
		if err != nil {
			return "", false, err
		}
		var list []struct {
			Name, Role string
			CreatedAt  *time.Time `json:"created_at"`
			LastUsedAt *time.Time `json:"last_used_at"`
			RevokedAt  *time.Time `json:"revoked_at"`
		}
		if json.Unmarshal(answer, &list) != nil {
			return "", false, errAnswer
		}
		for _, t := range list {
			table.line(t.Name, t.Role, date(t.CreatedAt), date(t.LastUsedAt), date(t.RevokedAt))
			last = t.Name
		}
		return last, more, nil
	})
	if err != nil {
		return err
	}
	return table.end()
}

type tokenRevokeCommand struct {
	restClient `embed:""`

	Name string `arg:"" help:"The token's name."`
}

// Run revokes a token.
func (c *tokenRevokeCommand) Run(ctx context.Context, std *streams) error {
	if err := checkTokenName(c.Name); err != nil {
		return err
	}
	_, _, err := c.ask(ctx, std, http.MethodDelete, "/v1/tokens/"+url.PathEscape(c.Name), nil)
	if refusal := (*answerError)(nil); errors.As(err, &refusal) && refusal.code == "missing" {
		refusal.text += ", or it was revoked already"
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "token %s is revoked\n", shown(c.Name))
	return err
}
