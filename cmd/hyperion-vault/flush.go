// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"net/http"
	"runtime/debug"
)

type flushCommand struct {
	nodeHere `embed:""`
}

// Run has the node of this host forget its data keys.
func (c *flushCommand) Run(ctx context.Context, std *streams) error {
	_, err := c.ask(ctx, std, http.MethodPost, "/flush")
	return err
}

// flush empties the cache of data keys. What the KMS's answers went through is
// erased when it is collected.
func (n *node) flush(ctx context.Context) {
	n.vault.Flush()
	debug.FreeOSMemory()
	n.log.InfoContext(ctx, "the cache of data keys was emptied")
}
