// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package rotation breaks nodes and servers while they rotate secrets, and judges by
// what the database has noted of it: each rotation that was due happened once, and
// old values were good until their grace ended.
//
// `make e2e` does each fault once, on a few secrets; `make rotation` does them over
// and over.
package rotation

import (
	"flag"
	"time"
)

var (
	secrets  = flag.Int("secrets", 40, "how many secrets are rotated")
	longest  = flag.Duration("longest", 3*time.Second, "the longest interval; the shortest is 1 s")
	duration = flag.Duration("for", 0, "break things over and over for so long; 0: each once")
)
