// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// TestSettingsArrive gives settings another value than their default and looks where
// it works; and one that is not theirs, which is refused in one line.
func TestSettingsArrive(t *testing.T) {
	for _, c := range []struct {
		name, value, want string
		where             func(*nodeConfig) any
		wrong, form       string
	}{
		{"VAULT_MAX_SESSIONS", "41", "41", func(c *nodeConfig) any { return c.limits.MaxSessions }, "-1", "a number from 0 to 100000"},
		{"VAULT_MAX_USER_SESSIONS", "42", "42", func(c *nodeConfig) any { return c.limits.MaxUserSessions }, "100001", "a number from 0 to 100000"},
		{"VAULT_MAX_PENDING", "43", "43", func(c *nodeConfig) any { return c.limits.MaxPending }, "9", "a number from 10 to 100000"},
		{"VAULT_MAX_ADDRESS_PENDING", "44", "44", func(c *nodeConfig) any { return c.limits.MaxAddressPending }, "100001", "a number from 10 to 100000"},
		{"VAULT_HANDSHAKE_SECS", "45", "45s", func(c *nodeConfig) any { return c.limits.Handshake }, "0", "seconds from 1 to 600"},
		{"VAULT_MAX_STARTUP_BYTES", "546", "546", func(c *nodeConfig) any { return c.limits.MaxStartup }, "10001", "bytes from 512 to 10000"},
		{"VAULT_FAILED_LOGINS_PER_SEC", "47", "47", func(c *nodeConfig) any { return c.limits.FailedLogins }, "0", "a number from 1 to 1000"},
		{"VAULT_CANCEL_MISSES_PER_SEC", "48", "48", func(c *nodeConfig) any { return c.limits.CancelMisses }, "0", "a number from 1 to 1000"},
		{"VAULT_MAX_QUERY_BYTES", "65549", "65549", func(c *nodeConfig) any { return c.limits.MaxQuery }, "65535", "bytes from 65536 to 1073741824"},
		{"VAULT_MAX_HELD_BYTES", "1048650", "1048650", func(c *nodeConfig) any { return c.limits.MaxHeld }, "1", "bytes from 1048576 to 1099511627776"},
		{"VAULT_IDLE_SECS", "51", "51s", func(c *nodeConfig) any { return c.limits.Idle }, "-1", "seconds from 0 to 2592000"},
		{"VAULT_TCP_KEEPALIVE_SECS", "52", "52s", func(c *nodeConfig) any { return c.limits.KeepAlive }, "0", "seconds from 1 to 32767"},
		{"VAULT_TCP_USER_TIMEOUT_SECS", "53", "53s", func(c *nodeConfig) any { return c.limits.UserTimeout }, "86401", "seconds from 0 to 86400"},
		{"VAULT_ALLOW_UNLOCKED", "true", "true", func(c *nodeConfig) any { return c.allowUnlocked }, "perhaps", "true or false"},
		{"VAULT_LOG_FORMAT", "text", "text", func(c *nodeConfig) any { return logged(c) }, "xml", "json or text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := func(value string) (*nodeConfig, error) {
				env := minimal()
				env[c.name] = value
				v, _, err := parseServe(t, nil, env, "")
				if err != nil {
					return nil, err
				}
				return v.check()
			}
			config, err := set(c.value)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(c.where(config)); got != c.want {
				t.Errorf("%s arrives as %s, want %s", c.value, got, c.want)
			}
			want := c.name + ` holds "` + c.wrong + `": it should be ` + c.form
			if _, err := set(c.wrong); err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

// logged is the form of a line that a node of these settings logs.
func logged(c *nodeConfig) string {
	var line bytes.Buffer
	newLog(&line, c).Error("a line")
	switch {
	case strings.HasPrefix(line.String(), "{"):
		return "json"
	case strings.HasPrefix(line.String(), "time="):
		return "text"
	}
	return line.String()
}
