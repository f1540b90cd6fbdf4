// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

func TestDevPassword(t *testing.T) {
	const set = "HYPERION_VAULT_DEV_PASSWORD="
	for _, test := range []struct {
		name    string
		dev     devCommand
		environ []string
		user    string // empty: random
	}{
		{"loopback", devCommand{Listen: "127.0.0.1"}, nil, "app"},
		{"beyond", devCommand{Listen: "0.0.0.0"}, []string{set}, ""},
		{"beyond, given", devCommand{Listen: "0.0.0.0"}, []string{set + "hunter2"}, "hunter2"},
		{"loopback, given", devCommand{Listen: "localhost"}, []string{set + "hunter2"}, "hunter2"},
		{"for programs", devCommand{Listen: "127.0.0.1", JSON: true}, []string{set + "hunter2"}, "hunter2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, err := test.dev.config(&streams{environ: test.environ})
			if err != nil {
				t.Fatal(err)
			}
			if config.Password != test.user {
				t.Errorf("got %q, want %q", config.Password, test.user)
			}
		})
	}
	d := devCommand{Listen: "0.0.0.0"}
	if _, err := d.config(&streams{environ: []string{set + "hunter2 x"}}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password with a space: got %v", err)
	}
}

// TestDevHelp: each line can be pasted, and the end is as it will be.
func TestDevHelp(t *testing.T) {
	c := &devcluster.Cluster{Nodes: []*devcluster.Node{{Name: "node1", Role: devcluster.RolePrimary, Config: "/d/node1/node.conf"}}}
	for kept, want := range map[bool]string{false: "Ctrl-C ends and removes it.\n", true: "Ctrl-C ends it. The data stays there: the same --dir goes on with it.\n"} {
		var out strings.Builder
		printHelp(&out, c, kept)
		if got := out.String(); !strings.HasSuffix(got, want) || !strings.Contains(got, " status --config /d/node1/node.conf\n") {
			t.Errorf("kept %v: got %s", kept, got)
		}
	}
}

func TestDevPorts(t *testing.T) {
	for d, want := range map[*devCommand]string{
		{ProxyPort: 70000}:             "--proxy-port holds 70000: it should be a number from 0 (any) to 65535",
		{APIPort: 65535, Standbys: 1}:  "--api-port holds 65535: it should be a number from 0 (any) to 65534",
		{MetricsPort: -1}:              "--metrics-port holds -1: it should be a number from 0 (any) to 65535",
		{ServerPort: 65536}:            "--server-port holds 65536: it should be a number from 0 (any) to 65535",
		{ServerPort: 65535, Dir: "/d"}: "",
	} {
		_, err := d.config(&streams{})
		if fault := (*faultError)(nil); want == "" && err != nil || want != "" && (!errors.As(err, &fault) || err.Error() != want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
