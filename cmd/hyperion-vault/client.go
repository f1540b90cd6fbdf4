// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

const (
	// clientTimeout is more than a node takes for a request.
	clientTimeout = 45 * time.Second

	// maxAnswer is more than the longest page of a list.
	maxAnswer = 64 << 20

	tokenVariable = "HYPERION_VAULT_TOKEN"
)

// restClient asks a node by REST, as any other client does.
type restClient struct {
	Addr   string `env:"HYPERION_VAULT_ADDR" default:"http://127.0.0.1:8200" placeholder:"URL" help:"The node's REST; default: http://127.0.0.1:8200. The token is taken from HYPERION_VAULT_TOKEN, or from the file that HYPERION_VAULT_TOKEN_FILE names."`
	CACert string `name:"cacert" placeholder:"FILE" help:"Certificates, PEM, one of which has signed the node's; default: the system's."`
}

// An answerError is a node's refusal.
type answerError struct {
	asked, code, text string
	status            int
}

func (e *answerError) Error() string {
	text := fmt.Sprintf("%s: %s (%d %s)", e.asked, e.text, e.status, e.code)
	if e.status == http.StatusUnauthorized {
		text += fmt.Sprintf("; the token is taken from %s or the file that %s_FILE names", tokenVariable, tokenVariable)
	}
	return text
}

// ask sends a request; a body is JSON and stays the caller's. The caller zeroes the
// answer, if that has a value. more: a list goes on.
func (c *restClient) ask(ctx context.Context, std *streams, method, path string, body []byte) (answer []byte, more bool, err error) {
	base, err := c.base()
	if err != nil {
		return nil, false, err
	}
	token, err := clientToken(std.environ)
	if err != nil {
		return nil, false, err
	}
	if token != "" && base.Scheme == "http" && !loopback(base.Hostname()) {
		_, _ = fmt.Fprintf(std.err, "hyperion-vault: warning: the token goes to %s in clear; an https:// address would hide it\n", base.Host)
	}
	transport, err := c.transport()
	if err != nil {
		return nil, false, err
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Timeout: clientTimeout, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a node sends nobody elsewhere
	}
	request, err := http.NewRequestWithContext(ctx, method, base.String()+path, bytes.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, false, unreachable(base, err)
	}
	defer func() { _ = response.Body.Close() }() // what was read counts
	if answer, err = readAnswer(response); err != nil {
		return nil, false, fmt.Errorf("%s %s: the answer broke off: %w", method, request.URL, errnoOf(err))
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		err = refused(method+" "+request.URL.String(), response, answer)
		erase.Zero(answer)
		return nil, false, err
	}
	return answer, response.Header.Get("Link") != "", nil
}

// base is the address, checked.
func (c *restClient) base() (*url.URL, error) {
	u, err := url.Parse(c.Addr)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
		return nil, faultf("--addr or HYPERION_VAULT_ADDR: it should be http://HOST:PORT or https://HOST:PORT")
	}
	u.Path = ""
	return u, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func (c *restClient) transport() (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CACert != "" {
		pem, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, faultf("--cacert %q: %s", c.CACert, cause(err))
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, faultf("--cacert %q: no PEM certificate is in it", c.CACert)
		}
	}
	return &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext}, nil
}

// clientToken finds the token; "": there is none.
func clientToken(environ []string) (string, error) {
	var token, path string
	for _, entry := range environ {
		switch name, text, _ := strings.Cut(entry, "="); name {
		case tokenVariable:
			token = text
		case tokenVariable + "_FILE":
			path = text
		}
	}
	switch {
	case path == "":
	case token != "":
		return "", faultf("%s and %s_FILE are both set: it should be one of them", tokenVariable, tokenVariable)
	default:
		var err error
		if token, err = readSecretFile(path); err != nil {
			return "", faultf("%s_FILE holds %q: %s", tokenVariable, path, err)
		}
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", faultf("%s, or its file, holds a character that no token has (not shown)", tokenVariable)
	}
	return token, nil
}

// readAnswer reads into memory that the caller zeroes: a node says how long its
// answers are.
func readAnswer(response *http.Response) ([]byte, error) {
	if n := response.ContentLength; n >= 0 && n <= maxAnswer {
		answer := make([]byte, n)
		_, err := io.ReadFull(response.Body, answer)
		return answer, err
	}
	return io.ReadAll(io.LimitReader(response.Body, maxAnswer))
}

// refused says what an answer that is an error says.
func refused(asked string, response *http.Response, answer []byte) error {
	var said struct{ Error, Code string }
	if json.Unmarshal(answer, &said) != nil || said.Code == "" {
		return fmt.Errorf("%s: %s, and that is no node's answer: is --addr right, http or https?", asked, response.Status)
	}
	return &answerError{asked: asked, code: said.Code, text: said.Error, status: response.StatusCode}
}

// unreachable says why there is no answer.
func unreachable(base *url.URL, err error) error {
	var authority x509.UnknownAuthorityError
	var inner *url.Error
	hint := "does the node run, and is --addr or HYPERION_VAULT_ADDR right?"
	if errors.As(err, &authority) {
		hint = "--cacert names the file that has the certificate's authority"
	}
	if errors.As(err, &inner) {
		err = inner.Err // its own text has the URL again
	}
	return fmt.Errorf("no answer from %s: %w (%s)", base, errnoOf(err), hint)
}
