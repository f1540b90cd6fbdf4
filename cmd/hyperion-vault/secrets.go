// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

type getCommand struct {
	restClient `embed:""`

	Name    string `arg:"" help:"The secret's name."`
	Version int    `placeholder:"N" help:"Another version than the current one."`
	Raw     bool   `help:"Print it as it is also at a terminal, whatever it does there, and without a line break."`
}

// Run prints the value alone; of a user name and password both, as JSON.
func (c *getCommand) Run(ctx context.Context, std *streams) error {
	path, err := secretPath(c.Name)
	if err != nil {
		return err
	}
	switch {
	case c.Version < 0:
		return faultf("--version %d: it should be a number from 1 up", c.Version)
	case c.Version > 0:
		path += "?version=" + strconv.Itoa(c.Version)
	}
	answer, _, err := c.ask(ctx, std, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer erase.Zero(answer)
	value, err := valueOf(answer)
	if err != nil {
		return err
	}
	defer erase.Zero(value)
	terminal := !c.Raw && isTerminal(std.out)
	if terminal && !showable(value) {
		return errors.New("the value has characters that act on a terminal or do not show: send it into a file or another program, or say --raw")
	}
	if _, err = std.out.Write(value); err == nil && terminal {
		_, err = fmt.Fprintln(std.out)
	}
	return err
}

// valueOf takes the value out of an answer; the caller zeroes both.
func valueOf(answer []byte) (value []byte, err error) {
	erase.Do(func() {
		var said struct {
			Format             string
			Value              *string
			Binary             *string `json:"value_base64"`
			Username, Password string
		}
		switch err = json.Unmarshal(answer, &said); {
		case err != nil:
		case said.Binary != nil:
			value, err = base64.StdEncoding.DecodeString(*said.Binary)
		case said.Value != nil:
			value = []byte(*said.Value)
		case said.Format == "userpass":
			value, err = json.Marshal(struct {
				Username string `json:"username"`
				Password string `json:"password"`
			}{said.Username, said.Password})
		default:
			err = errAnswer
		}
	})
	if err != nil {
		err = errAnswer // what it says may have the value in it
	}
	return value, err
}

// showable says whether a terminal shows all of a value and nothing of it acts on
// the terminal: neither control characters nor what turns the direction of writing.
func showable(value []byte) (ok bool) {
	erase.Do(func() {
		ok = utf8.Valid(value) && bytes.IndexFunc(value, func(r rune) bool {
			return !unicode.IsGraphic(r) && r != '\n' && r != '\t'
		}) < 0
	})
	return ok
}

var errAnswer = errors.New("the node's answer cannot be read: it may be of another version")

type putCommand struct {
	restClient `embed:""`

	Name string `arg:"" help:"The secret's name. The value is read from stdin as it is, or asked for."`
}

// Run gives a secret a value, and makes it if there is none of that name.
func (c *putCommand) Run(ctx context.Context, std *streams) error {
	path, err := secretPath(c.Name)
	if err != nil {
		return err
	}
	value, err := readValue(ctx, std, c.Name)
	defer erase.Zero(value)
	if err != nil {
		return err
	}
	// Another one may make it, or delete it, between the two.
	for range 2 {
		var refusal *answerError
		err := c.send(ctx, std, http.MethodPut, path, value, false)
		if !errors.As(err, &refusal) || refusal.code != "missing" {
			return err
		}
		err = c.send(ctx, std, http.MethodPost, "/v1/secrets", value, true)
		if !errors.As(err, &refusal) || refusal.code != "exists" {
			return err
		}
	}
	return fmt.Errorf("%s was made and deleted meanwhile, again and again: try again", c.Name)
}

// send puts the value by one request, and says which version it is.
func (c *putCommand) send(ctx context.Context, std *streams, method, path string, value []byte, anew bool) error {
	fields := map[string]string{}
	if anew {
		fields["name"], fields["kind"] = c.Name, "manual"
	}
	var body []byte
	var err error
	erase.Do(func() {
		if utf8.Valid(value) {
			fields["value"] = string(value)
		} else {
			fields["value_base64"] = base64.StdEncoding.EncodeToString(value)
		}
		body, err = json.Marshal(fields)
		clear(fields)
	})
	if err != nil {
		return err
	}
	defer erase.Zero(body)
	answer, _, err := c.ask(ctx, std, method, path, body)
	if err != nil {
		return err
	}
	defer erase.Zero(answer)
	var said struct{ Version int }
	if json.Unmarshal(answer, &said) != nil || said.Version == 0 {
		return errAnswer
	}
	_, err = fmt.Fprintf(std.out, "%s: version %d\n", c.Name, said.Version)
	return err
}

// readValue reads the value as it comes from stdin, or asks for it at a terminal. The
// caller zeroes it, also after an error.
func readValue(ctx context.Context, std *streams, name string) (value []byte, err error) {
	if f, ok := std.in.(*os.File); ok && isTerminal(f) {
		value, err = readHidden(ctx, f, func() {
			_, _ = fmt.Fprintf(std.err, "value of %s (not shown): ", name) // the answer is waited for all the same
		})
		_, _ = fmt.Fprintln(std.err)
	} else {
		value = make([]byte, envelope.MaxValue+1)
		var n int
		if n, err = io.ReadFull(std.in, value); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		}
		value = value[:n]
		if end := bytes.IndexByte(value, '\n'); end >= 0 && end == n-1 {
			_, _ = fmt.Fprintln(std.err, "hyperion-vault: note: the value ends with a line break, as echo adds one and printf does not")
		}
	}
	switch {
	case err != nil:
		err = fmt.Errorf("the value cannot be read: %w", err)
	case len(value) == 0:
		err = faultf("the value is empty: it should be on stdin, or typed at the prompt")
	case len(value) > envelope.MaxValue:
		err = faultf("the value is longer than %d bytes", envelope.MaxValue)
	}
	return value, err
}

type lsCommand struct {
	restClient `embed:""`

	Prefix string `arg:"" optional:"" help:"How the names begin."`
}

// Run prints the names of the secrets that the token's role may list, page by page.
func (c *lsCommand) Run(ctx context.Context, std *streams) error {
	return pages(func(after string) (last string, more bool, err error) {
		q := url.Values{"prefix": {c.Prefix}, "after": {after}}
		answer, more, err := c.ask(ctx, std, http.MethodGet, "/v1/secrets?"+q.Encode(), nil)
		if err != nil {
			return "", false, err
		}
		var list []struct{ Name string }
		if json.Unmarshal(answer, &list) != nil {
			return "", false, errAnswer
		}
		for _, s := range list {
			if _, err := fmt.Fprintln(std.out, shown(s.Name)); err != nil {
				return "", false, err
			}
			last = s.Name
		}
		return last, more, nil
	})
}

// pages gets a list to its end; page is told the name behind which to go on.
func pages(page func(after string) (last string, more bool, err error)) error {
	for after := ""; ; {
		last, more, err := page(after)
		if err != nil || !more || last <= after {
			return err
		}
		after = last
	}
}

// secretPath is a secret's path, with the slashes of its name escaped.
func secretPath(name string) (string, error) {
	if err := vault.CheckName(name); err != nil {
		return "", faultf("%s", err)
	}
	return "/v1/secrets/" + url.PathEscape(name), nil
}
