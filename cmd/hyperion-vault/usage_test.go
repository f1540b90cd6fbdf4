// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"strings"
	"testing"
)

// TestUsageFaults: what is wrong, without what may be a value, and where help is.
func TestUsageFaults(t *testing.T) {
	const stdin = "(not shown). The value is read from stdin, or asked for; see hyperion-vault put --help"
	for line, want := range map[string]string{
		"":                                "a command should follow: serve, dev, init, token, get, put, ls, status, flush, audit, prove, version; see hyperion-vault --help",
		"token":                           "a command should follow: create, list, revoke; see hyperion-vault token --help",
		"get":                             `expected "<name>"; see hyperion-vault get --help`,
		"put a hunter2":                   "others on this host can read it. The value is read from stdin, or asked for; see hyperion-vault put --help",
		"put a --hunter2":                 stdin,
		"put a -hunter2":                  stdin,
		"get a hunter2":                   "one argument too many (not shown); see hyperion-vault get --help",
		"token create a hunter2":          "one argument too many (not shown); see hyperion-vault token create --help",
		"token hunter2":                   "there is no such command; see hyperion-vault token --help",
		"statsu":                          `did you mean "status"?; see hyperion-vault --help`,
		"serve --proxy-listen":            "--proxy-listen: its value is missing; see hyperion-vault serve --help",
		"audit tail -n -1":                "--lines: its value is missing: what follows begins as a flag does; see hyperion-vault audit tail --help",
		"audit tail --spool x --lines=-1": "-n -1: it should be 0 to 100000",
		"audit tail --lines=x":            "see hyperion-vault audit tail --help",
	} {
		wantCode := exitUsage
		if strings.HasPrefix(line, "serve ") {
			wantCode = exitConfig
		}
		code, out, errs := command(t, "", strings.Fields(line)...)
		if code != wantCode || out != "" || strings.Contains(errs, "hunter2") || !strings.HasSuffix(errs, want+"\n") {
			t.Errorf("%q: got %d, %q, want %d, %q", line, code, errs, wantCode, want)
		}
	}
}
