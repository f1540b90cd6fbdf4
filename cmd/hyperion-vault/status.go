// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// nodeHere finds the node of this host.
type nodeHere struct {
	Config   string `env:"VAULT_CONFIG" placeholder:"FILE" help:"The node's settings, which say where its directory is."`
	AuditDir string `env:"VAULT_AUDIT_DIR" placeholder:"DIR" help:"The node's directory, if the settings do not say it."`
}

type statusCommand struct {
	nodeHere `embed:""`

	Sessions bool `help:"List the sessions: at which server each is, and why it could not go to another."`
	JSON     bool `name:"json" help:"Print all of it, and the sessions, as JSON (OPERATIONS.md)."`
}

// Run asks the node of this host. Its exit code is for scripts: 0 if the node is
// ready, 1 if it is degraded or unavailable, 2 if that cannot be told.
func (c *statusCommand) Run(ctx context.Context, std *streams) error {
	raw, err := c.ask(ctx, std, http.MethodGet, "/status")
	if err != nil {
		return faultf("%s", err)
	}
	var s nodeStatus
	if err := json.Unmarshal(raw, &s); err != nil || s.Status == "" {
		return faultf("the node's answer cannot be read: it may be of another version")
	}
	if c.JSON {
		_, err = io.WriteString(std.out, shownJSON(string(raw)))
	} else {
		err = s.print(std.out, c.Sessions)
	}
	if err == nil && s.Status != "ok" {
		err = errReported
	}
	return err
}

// ask asks the node by its socket.
func (h *nodeHere) ask(ctx context.Context, std *streams, method, path string) ([]byte, error) {
	dir := h.AuditDir
	if dir == "" {
		v, _, err := load(&settings{}, std.environ, h.Config)
		if err != nil {
			return nil, err
		}
		dir = v["VAULT_AUDIT_DIR"]
	}
	socket := controlPath(dir)
	client := &http.Client{Timeout: httpTimeout, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, method, "http://node"+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("no node answers at %s: %w (does it run, and is its VAULT_AUDIT_DIR this one?)", socket, errnoOf(err))
	}
	raw, err := io.ReadAll(io.LimitReader(answer.Body, 64<<20))
	if err == nil && answer.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("the node answers %s: it may be of another version", answer.Status)
	}
	return raw, errors.Join(err, answer.Body.Close())
}
