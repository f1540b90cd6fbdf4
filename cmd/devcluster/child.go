// SPDX-License-Identifier: GPL-3.0-or-later

package devcluster

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A Child is another program of the cluster: a failover manager, say. It runs as
// the servers' user, with as little environment as they have, and ends with the
// cluster at the latest.
type Child struct {
	// Dir is its own directory, which its user may write to. Log is in it.
	Dir, Log string

	process *process
}

// NewChild prepares a program and makes its directory under the cluster's.
func (c *Cluster) NewChild(name, path string, args ...string) (*Child, error) {
	dir := filepath.Join(c.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if err := c.account.own(dir); err != nil {
		return nil, err
	}
	child := &Child{Dir: dir, Log: filepath.Join(c.dir, name+".log")}
	child.process = &process{
		label: name, path: path, args: args, env: environment(c.bindir, dir, "PYTHONDONTWRITEBYTECODE=1"), dir: dir, account: c.account,
		logPath: child.Log, death: syscall.SIGKILL, spawner: c.spawner, onDeath: c.died,
	}
	c.children = append(c.children, child)
	return child, nil
}

// Write puts a file of mode 0600 into the child's directory and returns its path.
func (ch *Child) Write(name, content string) (string, error) {
	path := filepath.Join(ch.Dir, name)
	return path, writeFile(path, []byte(content), ch.process.account)
}

// Start starts the program, again after Kill or Stop. It does not wait.
func (ch *Child) Start() error { return ch.process.start() }

// PID is that of the last start.
func (ch *Child) PID() int { return ch.process.pid() }

// Kill ends it at once, as a crash would.
func (ch *Child) Kill(ctx context.Context) error {
	return ch.stop(ctx, step{syscall.SIGKILL, 5 * time.Second})
}

// Stop ends it in order, or else at once.
func (ch *Child) Stop(ctx context.Context) error {
	return ch.stop(ctx, step{syscall.SIGTERM, 8 * time.Second}, step{syscall.SIGKILL, time.Second})
}

func (ch *Child) stop(ctx context.Context, steps ...step) error {
	if !ch.process.alive() {
		return nil
	}
	return ch.process.stop(ctx, steps...)
}
