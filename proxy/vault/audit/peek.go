// SPDX-License-Identifier: GPL-3.0-or-later

package audit

import "path/filepath"

// Found is what a node's directory has.
type Found struct {
	Node NodeID
	Key  Fingerprint
	Last Position // the last record
}

// Peek reads a spool as Open does, and changes nothing. Errors are *Error:
// fs.ErrNotExist, there is none yet; ErrLocked, a node is at work on it; ErrDamaged,
// Open would say the same.
func Peek(root string) (Found, error) {
	o := Options{}
	o.setDefaults()
	return peek(root, o)
}

func peek(root string, o Options) (Found, error) {
	s := &Spool{o: o, sys: o.sys, root: root, dir: filepath.Join(root, spoolDir), boot: o.sys.BootID(), link: newLinker(), peek: true}
	if _, err := s.sys.Stat(s.dir); err != nil {
		return Found{}, failed("stat", s.dir, err)
	}
	lock, err := s.sys.Lock(filepath.Join(root, lockFile))
	if err != nil {
		return Found{}, failed("lock", filepath.Join(root, lockFile), err)
	}
	defer func() { _ = lock.Close() }() // nothing was written
	if _, err := s.recover(); err != nil {
		return Found{}, err
	}
	defer clear(s.id.key)
	return Found{s.id.node, fingerprint(s.id.public()), s.last}, nil
}
