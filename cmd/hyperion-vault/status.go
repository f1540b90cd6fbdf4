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
	"text/tabwriter"
)

// nodeHere finds the node of this host.
type nodeHere struct {
	Config   string `env:"VAULT_CONFIG" placeholder:"FILE" help:"The node's settings, which say where its directory is."`
	AuditDir string `env:"VAULT_AUDIT_DIR" placeholder:"DIR" help:"The node's directory, if the settings do not say it."`
}

type statusCommand struct {
	nodeHere `embed:""`

	Sessions bool `help:"List the sessions: at which server each is, and why it could not go to another."`
	JSON     bool `name:"json" help:"Print all of it as JSON."`
}

// Run asks the node of this host.
func (c *statusCommand) Run(ctx context.Context, std *streams) error {
	raw, err := c.ask(ctx, std, http.MethodGet, "/status")
	if err != nil {
		return err
	}
	if c.JSON {
		_, err = std.out.Write(raw)
		return err
	}
	var s nodeStatus
	if err := json.Unmarshal(raw, &s); err != nil {
		return errors.New("the node's answer cannot be read: it may be of another version")
	}
	return s.print(std.out, c.Sessions)
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

// print writes what people want to see.
func (s *nodeStatus) print(w io.Writer, sessions bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(cells ...any) {
		for _, c := range cells {
			_, _ = fmt.Fprintf(t, "%v\t", c) // Flush says what went wrong
		}
		_, _ = fmt.Fprintln(t)
	}
	moved := 0
	for _, i := range s.Sessions {
		if i.Moved {
			moved++
		}
	}
	line("node", s.Node+", "+s.Version)
	line("status", s.Status)
	if s.Primary != "" {
		s.Parts["primary"] = s.Primary
	}
	for _, part := range []string{"server", "replay", "primary", "kms", "rotation", "audit", "node"} {
		if text := s.Parts[part]; text != "" {
			line(part, text)
		}
	}
	line("sessions", fmt.Sprintf("%d, %d of them gone to the primary", len(s.Sessions), moved))
	if err := t.Flush(); err != nil || !sessions {
		return err
	}
	_, _ = fmt.Fprintln(t)
	line("PID", "ROLE", "DATABASE", "CLIENT", "STATE", "SERVER", "BACKEND", "COULD NOT GO")
	for _, i := range s.Sessions {
		line(i.PID, i.Role, i.Database, i.Client, i.State, i.Server, i.Backend, i.Why)
	}
	return t.Flush()
}
