// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package history

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// restEach: of so many clients one speaks REST.
const restEach = 4

// A restClient is a client's REST. It asks whichever node, with the position of its
// last write. What that promises is to read one's own writes, and not that a reader
// never goes back: so a session of the record goes on until something was read.
type restClient struct {
	http    *http.Client
	session int
	after   string // Vault-Read-After of the last write
}

func (c *client) newREST() *restClient {
	return &restClient{http: &http.Client{Transport: &http.Transport{}}, session: int(c.r.sessions.Add(1))}
}

// doREST does an operation by REST and writes it down.
func (c *client) doREST(ctx context.Context, kind Kind, i int) *Op {
	if kind == Set {
		kind = Read
	}
	if !c.pause(ctx, c.backoff()) {
		return nil
	}
	node := c.r.spec.Nodes[c.rng.IntN(len(c.r.spec.Nodes))]
	op := c.begin(node, c.rest.session, kind)
	op.REST, op.Name = true, c.r.name(i)
	if kind == Read && c.known[i] > 0 && c.rng.IntN(4) == 0 {
		op.Asked = 1 + c.rng.IntN(c.known[i])
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(c.r.spec.Patience, RESTPatience))
	defer cancel()
	reached := c.rest.perform(ctx, node, op)
	c.record(op)
	if op.Outcome == OK && op.Version > 0 {
		c.known[i] = op.Version
	}
	if kind == Read || op.Outcome != OK {
		c.rest.session = int(c.r.sessions.Add(1))
	}
	if c.failures++; reached {
		c.failures = 0
	}
	return op
}

// perform makes the request of op and fills in what came of it.
func (s *restClient) perform(ctx context.Context, node Node, op *Op) (reached bool) {
	r, err := request(ctx, node, op)
	if err != nil {
		op.Outcome, op.Error = Failed, err.Error()
		return true
	}
	if s.after != "" {
		r.Header.Set("Vault-Read-After", s.after)
	}
	answer, err := s.http.Do(r)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(answer.Body)
		err = errors.Join(err, answer.Body.Close())
	}
	if err != nil {
		op.Outcome, op.Error = Unknown, err.Error()
		var dial *net.OpError
		if op.Kind == Read || errors.As(err, &dial) && dial.Op == "dial" {
			op.Outcome = Failed
		}
		return false
	}
	var said struct {
		Version     int
		Value       string
		Error, Code string
	}
	if len(text) > 0 {
		err = json.Unmarshal(text, &said)
	}
	switch {
	case answer.StatusCode < 300 && err == nil:
		op.Outcome = OK
		err = s.done(op, said.Version, said.Value, answer.Header.Get("Vault-Read-After"))
	case answer.StatusCode == http.StatusNotFound && (op.Kind == Read || op.Kind == Delete):
		op.Outcome, op.Missing = OK, true
	default:
		op.Outcome, op.Error = Unknown, fmt.Sprintf("%d %s: %s", answer.StatusCode, said.Code, said.Error)
		if op.Kind == Read || answer.StatusCode < 500 || nothingDone[said.Code] {
			op.Outcome = Failed
		}
	}
	if err != nil {
		op.Outcome, op.Error = Unknown, err.Error()
	}
	return true
}

// nothingDone are codes of 503 that are answered before a write could be committed.
var nothingDone = map[string]bool{"not_ready": true, "busy": true, "stale": true, "kms": true, "audit": true}

// done keeps what an answer tells.
func (s *restClient) done(op *Op, version int, value, position string) (err error) {
	if op.Kind == Read {
		op.Value = value
		if op.Asked == 0 {
			op.Version = version
		}
		return nil
	}
	if op.makes() {
		op.Version = version
	}
	s.after = position
	number, lsn, _ := strings.Cut(position, "/")
	high, low, _ := strings.Cut(lsn, "/")
	var upper, lower uint64
	op.Timeline, err = strconv.Atoi(number)
	if err == nil {
		upper, err = strconv.ParseUint(high, 16, 32)
	}
	if err == nil {
		lower, err = strconv.ParseUint(low, 16, 32)
	}
	op.LSN = upper<<32 | lower
	return err
}

// request is that of an operation.
func request(ctx context.Context, node Node, op *Op) (*http.Request, error) {
	path, method := node.REST+"/v1/secrets/"+url.PathEscape(op.Name), http.MethodPut
	fields := map[string]any{}
	switch op.Kind {
	case Put:
		fields["value"] = op.Value
	case Update:
		fields["description"] = op.Description
	case Create:
		method, path = http.MethodPost, node.REST+"/v1/secrets"
		fields = map[string]any{"name": op.Name, "kind": "manual", "value": op.Value, "grace_period_secs": int(24 * time.Hour / time.Second)}
	case Delete:
		method, fields = http.MethodDelete, nil
	case Read:
		method, fields = http.MethodGet, nil
		if op.Asked != 0 {
			path += "?version=" + strconv.Itoa(op.Asked)
		}
	case Connect, Set:
		return nil, fmt.Errorf("internal error: no request for %s", op.Kind)
	}
	var body io.Reader = http.NoBody
	if fields != nil {
		text, err := json.Marshal(fields)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+node.Token)
	if fields != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, nil
}
