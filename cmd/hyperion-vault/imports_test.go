// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/hyperiondb/hyperion-vault"

// arrows say which packages of ours a package may import; envelope/erase is open
// to all. What has Go files and is not here is a package that nobody has thought
// about.
var arrows = map[string][]string{
	"cmd/hyperion-vault": {
		"api", "proxy", "proxy/lobby", "proxy/scram", "proxy/vault", "proxy/vault/audit", "proxy/wire", "rewrite", "envelope", "envelope/awskms", "envelope/localkms",
		"cmd/devcluster", "cmd/canary",
	},
	"cmd/devcluster":    {},
	"cmd/canary":        {},
	"api":               {"proxy/vault", "proxy/lobby"},
	"proxy":             {"rewrite", "proxy/wire", "proxy/lobby", "proxy/scram", "proxy/hba", "proxy/vault"},
	"proxy/hba":         {},
	"proxy/lobby":       {},
	"proxy/wire":        {},
	"proxy/scram":       {},
	"proxy/vault":       {"envelope", "proxy/hba", "proxy/vault/audit"},
	"proxy/vault/audit": {},
	"rewrite":           {},
	"envelope":          {},
	"envelope/erase":    {},
	"envelope/awskms":   {"envelope"},
	"envelope/localkms": {"envelope"},
	"e2e":               {"cmd/devcluster", "cmd/canary", "e2e", "proxy/vault/audit"}, // which reads exports
}

// testsOnly are further arrows of _test.go files: a test of a layer may build
// the real thing below it.
var testsOnly = map[string][]string{
	"proxy":       {"envelope", "envelope/localkms", "proxy/vault/audit", "cmd/devcluster", "cmd/canary"},
	"proxy/vault": {"envelope/localkms", "cmd/devcluster"},
	"envelope":    {"envelope/localkms"},
	"rewrite":     {"cmd/devcluster"},
}

func TestImports(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		checkImports(t, path, filepath.ToSlash(relative))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkImports(t *testing.T, path, relative string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	folder := filepath.ToSlash(filepath.Dir(relative))
	owner := folder
	if strings.HasPrefix(folder, "e2e/") {
		owner = "e2e"
	}
	allowed, known := arrows[owner]
	if !known {
		t.Errorf("%s: package %s has no line in the arrows of this test", relative, folder)
		return
	}
	allowed = append([]string{"envelope/erase", folder}, allowed...)
	if strings.HasSuffix(relative, "_test.go") {
		allowed = append(allowed, testsOnly[owner]...)
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Error(err)
			continue
		}
		inside, ours := strings.CutPrefix(imported, module+"/")
		if !ours {
			continue
		}
		if owner == "e2e" && strings.HasPrefix(inside, "e2e/") {
			continue
		}
		if !slices.Contains(allowed, inside) {
			t.Errorf("%s imports %s: the arrows allow %s only %s", relative, inside, folder, strings.Join(allowed, ", "))
		}
	}
}
