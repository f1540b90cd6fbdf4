// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import "sync/atomic"

// gate is a system whose writes, syncs or removals, while they are watched, wait to be
// let through, each with an error or none.
type gate struct {
	*memSystem
	watched atomic.Value
	reached chan struct{}
	through chan error
}

type gatedFile struct {
	file
	g *gate
}

func newGate() *gate {
	g := &gate{memSystem: newMemSystem(), reached: make(chan struct{}), through: make(chan error)}
	g.watch("")
	return g
}

// watch says which calls wait.
func (g *gate) watch(op string) { g.watched.Store(op) }

func (g *gate) pass(op string) error {
	if g.watched.Load() != op {
		return nil
	}
	g.reached <- struct{}{}
	return <-g.through
}

func (g *gate) Create(path string) (file, error) {
	f, err := g.memSystem.Create(path)
	return &gatedFile{f, g}, err
}

func (g *gate) Remove(path string) error {
	if err := g.pass("remove"); err != nil {
		return err
	}
	return g.memSystem.Remove(path)
}

func (f *gatedFile) Sync() error {
	if err := f.g.pass("sync"); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *gatedFile) Write(b []byte) (int, error) {
	if err := f.g.pass("write"); err != nil {
		return 0, err
	}
	return f.file.Write(b)
}
