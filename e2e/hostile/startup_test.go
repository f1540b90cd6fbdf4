// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package hostile

import (
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/rawpg"
)

// A first packet has VAULT_MAX_STARTUP_BYTES behind its length at most; a larger one is
// dropped without a word, as the server drops one over 10,000.
func TestStartupBytes(t *testing.T) {
	quiet(t)
	const fewest, most = 512, 10000
	for name, c := range map[string]struct {
		bound, size int
		taken       bool
	}{
		"fewest":            {fewest, fewest, true},
		"beyond the fewest": {fewest, fewest + 1, false},
		"most":              {most, most, true},
		"beyond the most":   {most, most + 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			set(t, "VAULT_MAX_STARTUP_BYTES", strconv.Itoa(c.bound))
			nc, err := dial(t.Context(), target(t))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if err := nc.SetDeadline(time.Now().Add(rawpg.Patience)); err != nil {
				t.Fatal(err)
			}
			nc.Write(sized(c.size)) //nolint:errcheck // the node may hang up on it
			var answer [1]byte
			_, err = io.ReadFull(nc, answer[:])
			var ne net.Error
			switch {
			case c.taken && (err != nil || answer[0] != 'R'):
				t.Errorf("got %q, %v; want to be asked for a password", answer, err)
			case !c.taken && (err == nil || errors.As(err, &ne) && ne.Timeout()):
				t.Errorf("got %q, %v; want the end", answer, err)
			}
		})
	}
}

// sized is a first packet of so many bytes behind its length.
func sized(n int) []byte {
	with := func(name string) []byte {
		return rawpg.Startup(version30, "user", shared.User, "database", "app", "application_name", name)
	}
	bare := len(with("")) - 4
	return with(strings.Repeat("x", n-bare))
}
