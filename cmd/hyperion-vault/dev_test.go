// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"strings"
	"testing"
)

func TestDevPassword(t *testing.T) {
	const set = "HYPERION_VAULT_DEV_PASSWORD="
	for _, test := range []struct {
		name            string
		dev             devCommand
		environ         []string
		user, superuser string // empty: random
	}{
		{"loopback", devCommand{Listen: "127.0.0.1"}, nil, "app", "postgres"},
		{"beyond", devCommand{Listen: "0.0.0.0"}, []string{set}, "", ""},
		{"beyond, given", devCommand{Listen: "0.0.0.0"}, []string{set + "hunter2"}, "hunter2", ""},
		{"loopback, given", devCommand{Listen: "localhost"}, []string{set + "hunter2"}, "hunter2", "postgres"},
		{"for programs", devCommand{Listen: "127.0.0.1", JSON: true}, []string{set + "hunter2"}, "hunter2", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, err := test.dev.config(&streams{environ: test.environ})
			if err != nil {
				t.Fatal(err)
			}
			if config.Password != test.user || config.SuperuserPassword != test.superuser {
				t.Errorf("got %q, %q; want %q, %q", config.Password, config.SuperuserPassword, test.user, test.superuser)
			}
		})
	}
	d := devCommand{Listen: "0.0.0.0"}
	if _, err := d.config(&streams{environ: []string{set + "hunter2 x"}}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password with a space: got %v", err)
	}
}
