// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A reader turns texts into what the node works with and collects one line for
// each fault, so that an operator sees all of them at once.
type reader struct {
	values values
	forms  map[string]setting
	errs   []error
}

func newReader(v values) *reader {
	p := &reader{values: v, forms: map[string]setting{}}
	for _, st := range settingList() {
		p.forms[st.name] = st
	}
	return p
}

// wrong says what the variable holds (never a secret) and what it should be.
func (p *reader) wrong(name string) {
	st, text := p.forms[name], p.values[name]
	switch {
	case st.secret:
		p.errs = append(p.errs, faultf("%s is not right (%d bytes, not shown): it should be %s", name, len(text), st.form))
	case strings.HasPrefix(text, "tcp://"):
		p.errs = append(p.errs, faultf("%s holds %q: Kubernetes sets this variable for a service whose name begins like it; "+
			"it should be %s (set enableServiceLinks: false in the pod, or rename the service)", name, text, st.form))
	default:
		p.errs = append(p.errs, faultf("%s holds %q: it should be %s", name, text, st.form))
	}
}

func (p *reader) number(name string, low, high int) int {
	n, err := strconv.Atoi(p.values[name])
	if err != nil || n < low || n > high {
		p.wrong(name)
		return low
	}
	return n
}

func (p *reader) seconds(name string, low, high int) time.Duration {
	return time.Duration(p.number(name, low, high)) * time.Second
}

// duration is a time as Go writes it, with a unit.
func (p *reader) duration(name string, high time.Duration) time.Duration {
	return p.durationFrom(name, 0, high)
}

func (p *reader) durationFrom(name string, low, high time.Duration) time.Duration {
	d, err := time.ParseDuration(p.values[name])
	if err != nil || d < low || d > high {
		p.wrong(name)
	}
	return d
}

func (p *reader) boolean(name string) bool {
	switch strings.ToLower(p.values[name]) {
	case "true", "on", "yes", "1":
		return true
	case "false", "off", "no", "0":
		return false
	default:
		p.wrong(name)
		return false
	}
}

func (p *reader) oneOf(name string, words ...string) string {
	if !slices.Contains(words, p.values[name]) {
		p.wrong(name)
		return words[0]
	}
	return p.values[name]
}

// filled is a text that may not be empty.
func (p *reader) filled(name string) string {
	if text := p.values[name]; text != "" && !strings.HasPrefix(text, "tcp://") && !strings.ContainsRune(text, 0) {
		return text
	}
	p.wrong(name)
	return ""
}

func (p *reader) level(name string) slog.Level {
	switch p.oneOf(name, "info", "debug", "warn", "error") {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

// An endpoint is something to listen on or to dial.
type endpoint struct {
	network string // tcp or unix
	address string // host:port, or the path of a socket
}

// beyondLoopback tells whether another machine could reach a listener there.
func (e endpoint) beyondLoopback() bool {
	if e.network == "unix" {
		return false
	}
	host, _, err := net.SplitHostPort(e.address)
	if err != nil {
		return true
	}
	if host == "localhost" {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err != nil || !addr.IsLoopback()
}

// endpoints splits a list; port is that of the elements that name none, 0: each
// must name one.
func (p *reader) endpoints(name string, port int) []endpoint {
	var list []endpoint
	for _, element := range strings.Split(p.values[name], ",") {
		e, err := parseEndpoint(strings.TrimSpace(element), port)
		if err != nil {
			p.wrong(name)
			return nil
		}
		list = append(list, e)
	}
	return list
}

// endpoint is a list of one.
func (p *reader) endpoint(name string, port int) endpoint {
	list := p.endpoints(name, port)
	if len(list) == 1 {
		return list[0]
	}
	if list != nil {
		p.wrong(name)
	}
	return endpoint{}
}

var errEndpoint = errors.New("not an address")

func parseEndpoint(text string, port int) (endpoint, error) {
	if filepath.IsAbs(text) {
		return endpoint{network: "unix", address: text}, nil // a directory: see withSocketPort
	}
	host, portText, err := net.SplitHostPort(text)
	if err != nil {
		if port == 0 || text == "" || strings.ContainsAny(text, "/[] ") {
			return endpoint{}, errEndpoint
		}
		if _, isV6 := netip.ParseAddr(text); strings.Contains(text, ":") && isV6 != nil {
			return endpoint{}, errEndpoint
		}
		return endpoint{network: "tcp", address: net.JoinHostPort(text, strconv.Itoa(port))}, nil
	}
	n, err := strconv.Atoi(portText)
	if err != nil || n < 1 || n > 65535 || strings.ContainsAny(host, "/[] ") {
		return endpoint{}, errEndpoint
	}
	return endpoint{network: "tcp", address: net.JoinHostPort(host, strconv.Itoa(n))}, nil
}

// withSocketPort names the socket in a directory as PostgreSQL does.
func (e endpoint) withSocketPort(port int) endpoint {
	if e.network == "unix" {
		e.address = filepath.Join(e.address, ".s.PGSQL."+strconv.Itoa(port))
	}
	return e
}

// socketPort is the port of the first TCP element, by which the sockets of the
// same list are named.
func socketPort(list []endpoint, fallback int) int {
	for _, e := range list {
		if e.network != "tcp" {
			continue
		}
		if _, text, err := net.SplitHostPort(e.address); err == nil {
			if n, err := strconv.Atoi(text); err == nil {
				return n
			}
		}
	}
	return fallback
}

// masterKey decodes the local master key; both ends of the text are exact.
func (p *reader) masterKey(name string) []byte {
	text, ok := p.values[name]
	if !ok {
		if p.values[name+"_FILE"] != "" {
			return nil // load has said what is wrong with it
		}
		p.errs = append(p.errs, faultf("%s is not set, nor %s_FILE: it should be %s (make one: head -c 32 /dev/urandom | base64)", name, name, p.forms[name].form))
		return nil
	}
	key, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(key) != 32 {
		p.wrong(name)
		return nil
	}
	return key
}
