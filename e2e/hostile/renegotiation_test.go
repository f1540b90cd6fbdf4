// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package hostile

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// A TLS client that asks for a new handshake within the session is a way to make
// a server work (CVE-2011-1473): the node ends it.
func TestRenegotiation(t *testing.T) {
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "openssl", "s_client", "-connect", shared.Nodes[0].Proxy, "-starttls", "postgres", "-tls1_2", "-legacy_renegotiation")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("R\n")); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait() // not at the end of its input: that stays open
	if err == nil || !strings.Contains(out.String(), "RENEGOTIATING") {
		t.Errorf("ended with %v: %s", err, out.String())
	}
	if !strings.Contains(out.String(), "TLSv1.2") {
		t.Errorf("no TLS session came about: %s", out.String())
	}
}
