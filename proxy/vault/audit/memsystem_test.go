// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// memSystem is a file system in memory with a page cache that can get lost, and
// calls that can fail. What a process sees is in data and entries, what a crash of
// the machine leaves in disk and stored.
type memSystem struct {
	mu     sync.Mutex
	root   *memNode
	inodes uint64
	locks  map[string]bool
	boot   bootID
	began  time.Time
	step   time.Duration // by how much the clock was set
	free   uint64

	// call is asked before each call that a disk could fail, and says what happens.
	call  func(op, path string) fate
	death *memNode // what there was when the machine or the process died
}

// on sets what is asked before each call; nil: nothing fails.
func (m *memSystem) on(call func(op, path string) fate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.call = call
}

// fate of a call.
type fate struct {
	err     error
	effect  bool // it fails after it has had its effect
	half    bool // a write: only half of it, and then err
	thenDie bool // nothing works from then on
}

type memNode struct {
	inode           uint64
	mode            fs.FileMode
	data, disk      []byte
	entries, stored map[string]*memNode
	poisoned        bool // a sync has failed: what was written before never gets to the disk
}

func newMemSystem() *memSystem {
	m := &memSystem{locks: map[string]bool{}, boot: bootID{1}, began: time.Now(), free: 1 << 40}
	m.root = m.node(fs.ModeDir | 0o700)
	return m
}

func (m *memSystem) node(mode fs.FileMode) *memNode {
	m.inodes++
	n := &memNode{inode: m.inodes, mode: mode}
	if mode.IsDir() {
		n.entries, n.stored = map[string]*memNode{}, map[string]*memNode{}
	}
	return n
}

var errDead = errors.New("the machine is off")

// do runs a call as it was decided. The caller holds mu.
func (m *memSystem) do(op, path string, effect func() error) error {
	if m.death != nil {
		return errDead
	}
	var f fate
	if m.call != nil {
		f = m.call(op, path)
	}
	var err error
	if f.err == nil || f.effect {
		err = effect()
	}
	if f.thenDie {
		m.death = m.root.clone()
		return errDead
	}
	if f.err != nil {
		return f.err
	}
	return err
}

// clone copies a tree as the process sees it, with what the disk has of it.
func (n *memNode) clone() *memNode {
	known := map[*memNode]*memNode{}
	var walk func(n *memNode) *memNode
	walk = func(n *memNode) *memNode {
		if c := known[n]; c != nil {
			return c
		}
		c := &memNode{inode: n.inode, mode: n.mode, data: bytes.Clone(n.data), disk: bytes.Clone(n.disk), poisoned: n.poisoned}
		known[n] = c
		if n.mode.IsDir() {
			c.entries, c.stored = map[string]*memNode{}, map[string]*memNode{}
			for name, child := range n.entries {
				c.entries[name] = walk(child)
			}
			for name, child := range n.stored {
				c.stored[name] = walk(child)
			}
		}
		return c
	}
	return walk(n)
}

// die ends the process: nothing that it does from now on has an effect.
func (m *memSystem) die() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.death == nil {
		m.death = m.root.clone()
	}
}

// killed is the system as the next process finds it.
func (m *memSystem) killed() *memSystem {
	m.die()
	return &memSystem{root: m.death.clone(), inodes: m.inodes, locks: map[string]bool{}, boot: m.boot, began: m.began, step: m.step, free: m.free}
}

// crashed is the system after the machine lost its page cache. With rng pages and
// names that were not synced may have got to the disk, in any order; without,
// none has.
func (m *memSystem) crashed(rng *rand.Rand) *memSystem {
	next := m.killed()
	next.boot[0]++
	next.root.lose(rng, map[*memNode]bool{})
	return next
}

const memPage = 64

func (n *memNode) lose(rng *rand.Rand, seen map[*memNode]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	if n.mode.IsDir() {
		left := maps.Clone(n.stored)
		if rng != nil {
			for _, name := range slices.Sorted(maps.Keys(n.entries)) { // made, or another file
				if rng.IntN(2) == 0 {
					left[name] = n.entries[name]
				}
			}
			for _, name := range slices.Sorted(maps.Keys(n.stored)) { // removed
				if n.entries[name] == nil && rng.IntN(2) == 0 {
					delete(left, name)
				}
			}
		}
		n.entries, n.stored = left, maps.Clone(left)
		for _, name := range slices.Sorted(maps.Keys(left)) {
			left[name].lose(rng, seen)
		}
		return
	}
	left := bytes.Clone(n.disk)
	if rng != nil && !n.poisoned && len(n.data) > len(n.disk) {
		left = append(left, make([]byte, rng.IntN(len(n.data)-len(n.disk)+1))...)
		for at := len(n.disk) / memPage * memPage; at < len(left); at += memPage {
			if end := min(at+memPage, len(left)); rng.IntN(3) > 0 {
				copy(left[at:end], n.data[at:end])
			}
		}
	}
	n.data, n.disk, n.poisoned = left, bytes.Clone(left), false
}

// find returns a path's directory and last name.
func (m *memSystem) find(path string) (dir *memNode, name string, err error) {
	dir = m.root
	parts := strings.Split(strings.Trim(filepath.Clean(path), "/"), "/")
	for _, part := range parts[:len(parts)-1] {
		dir = dir.entries[part]
		if dir == nil || !dir.mode.IsDir() {
			return nil, "", fs.ErrNotExist
		}
	}
	return dir, parts[len(parts)-1], nil
}

func (m *memSystem) lookup(path string) (*memNode, error) {
	dir, name, err := m.find(path)
	if err != nil {
		return nil, err
	}
	n := dir.entries[name]
	if n == nil {
		return nil, fs.ErrNotExist
	}
	return n, nil
}

// at runs a call that is about a directory and a name in it.
func (m *memSystem) at(op, path string, effect func(dir *memNode, name string) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.do(op, path, func() error {
		dir, name, err := m.find(path)
		if err != nil {
			return err
		}
		return effect(dir, name)
	})
}

func (m *memSystem) Now() (time.Time, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	return now.Round(0).Add(m.step), now.Sub(m.began)
}

func (m *memSystem) BootID() bootID { return m.boot }

func (m *memSystem) Free(path string) (free uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err = m.do("free", path, func() error { free = m.free; return nil })
	return free, err
}

type memLock struct {
	m    *memSystem
	path string
}

func (l memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locks, l.path)
	return nil
}

func (m *memSystem) Lock(path string) (io.Closer, error) {
	err := m.at("lock", path, func(*memNode, string) error {
		if m.locks[path] {
			return ErrLocked
		}
		m.locks[path] = true
		return nil
	})
	if err != nil {
		if !errors.Is(err, ErrLocked) { // it failed after its effect
			_ = memLock{m, path}.Close()
		}
		return nil, err
	}
	return memLock{m, path}, nil
}

func (m *memSystem) Mkdir(path string) error {
	return m.at("mkdir", path, func(dir *memNode, name string) error {
		if dir.entries[name] == nil {
			dir.entries[name] = m.node(fs.ModeDir | 0o700)
		}
		return nil
	})
}

func (m *memSystem) ReadDir(path string) (names []string, err error) {
	err = m.at("readdir", path, func(dir *memNode, name string) error {
		for entry := range dir.entries[name].entries {
			names = append(names, entry)
		}
		slices.Sort(names)
		return nil
	})
	return names, err
}

func (m *memSystem) Open(path string) (f file, err error) {
	err = m.at("open", path, func(*memNode, string) error {
		n, err := m.lookup(path)
		f = &memFile{m, n, path}
		return err
	})
	return f, err
}

func (m *memSystem) Create(path string) (f file, err error) {
	err = m.at("create", path, func(dir *memNode, name string) error {
		n := m.node(0o600)
		dir.entries[name] = n
		f = &memFile{m, n, path}
		return nil
	})
	return f, err
}

func (n *memNode) info() fileInfo {
	return fileInfo{inode: n.inode, size: int64(len(n.data)), mode: n.mode}
}

func (m *memSystem) Stat(path string) (info fileInfo, err error) {
	err = m.at("stat", path, func(*memNode, string) error {
		n, err := m.lookup(path)
		if err == nil {
			info = n.info()
		}
		return err
	})
	return info, err
}

func (m *memSystem) Rename(from, to string) error {
	return m.at("rename", from, func(dir *memNode, name string) error {
		n, err := m.lookup(from)
		if err != nil {
			return err
		}
		toDir, toName, err := m.find(to)
		if err != nil {
			return err
		}
		delete(dir.entries, name)
		toDir.entries[toName] = n
		return nil
	})
}

func (m *memSystem) Remove(path string) error {
	return m.at("remove", path, func(dir *memNode, name string) error {
		if _, err := m.lookup(path); err != nil {
			return err
		}
		delete(dir.entries, name)
		return nil
	})
}

func (m *memSystem) SyncDir(path string) error {
	return m.at("syncdir", path, func(dir *memNode, name string) error {
		n := dir.entries[name]
		switch {
		case filepath.Dir(path) == path:
			n = m.root
		case n == nil:
			return fs.ErrNotExist
		}
		n.stored = map[string]*memNode{}
		for name, child := range n.entries {
			n.stored[name] = child
		}
		return nil
	})
}

type memFile struct {
	m    *memSystem
	n    *memNode
	path string
}

func (f *memFile) do(op string, effect func() error) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.m.do(op, f.path, effect)
}

func (f *memFile) ReadAt(b []byte, off int64) (n int, err error) {
	err = f.do("read", func() error {
		if off < int64(len(f.n.data)) {
			n = copy(b, f.n.data[off:])
		}
		if n < len(b) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (f *memFile) Write(b []byte) (n int, err error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	write := func(b []byte) {
		f.n.data = append(f.n.data, b...)
		n = len(b)
	}
	call := f.m.call
	if call != nil {
		f.m.call = func(op, path string) fate {
			fate := call(op, path)
			if fate.half && f.m.death == nil {
				write(b[:len(b)/2])
			}
			return fate
		}
	}
	err = f.m.do("write", f.path, func() error { write(b); return nil })
	f.m.call = call
	if errors.Is(err, io.ErrShortWrite) {
		err = nil // the caller has to see it by itself
	}
	return n, err
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	err := f.m.do("sync", f.path, func() error {
		if !f.n.poisoned {
			f.n.disk = bytes.Clone(f.n.data)
		}
		return nil
	})
	if err != nil && f.m.death == nil {
		f.n.poisoned = true // as Linux does: the pages count as clean
	}
	return err
}

func (f *memFile) Stat() (info fileInfo, err error) {
	err = f.do("fstat", func() error { info = f.n.info(); return nil })
	return info, err
}

func (f *memFile) Close() error { return f.do("close", func() error { return nil }) }
