// SPDX-License-Identifier: GPL-3.0-or-later

package canary

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Walk calls visit for dir, or a file, and everything below it. It follows links, as a
// server's WAL and tablespaces may be behind some, and comes to the end of each only
// once. visit may answer fs.SkipDir. What goes away meanwhile is left out; a dir that
// is not there is an error.
func Walk(dir string, visit func(path string, info fs.FileInfo) error) error {
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	return walk(dir, map[string]bool{}, visit)
}

func walk(dir string, seen map[string]bool, visit func(string, fs.FileInfo) error) error {
	root, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) || seen[root] {
		return nil
	}
	if err != nil {
		return err
	}
	seen[root] = true
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeSymlink != 0 {
			return walk(path, seen, visit)
		}
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return visit(path, info)
	})
	return err
}
