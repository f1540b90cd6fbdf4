// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hyperiondb/hyperion-vault/cmd/canary"
)

// Kinds of places.
const (
	kindData    = "data"
	kindWAL     = "wal"
	kindLog     = "log"
	kindNodeLog = "node-log"
	kindAudit   = "audit"
	kindViews   = "views"
	kindBackup  = "base-backup"
	kindDump    = "dump"
)

var kinds = []string{kindData, kindWAL, kindLog, kindNodeLog, kindAudit, kindViews, kindBackup, kindDump}

// A place is one where values must not be.
type place struct {
	kind, name string
	control    *canary.Canary // must be found there
	hint       string         // if it is not
	look       func(ctx context.Context, s *scan) error
}

// A scan is the reading of one place.
type scan struct {
	p       *prover
	scanner *canary.Scanner
	name    string
	total   int64 // 0: unknown
	began   time.Time
	done    int64 // bytes
	skipped int64
}

// places are all that were named.
func (p *prover) places() []place {
	var all []place
	add := func(kind, name, hint string, control *canary.Canary, look func(context.Context, *scan) error) {
		all = append(all, place{kind, name, control, hint, look})
	}
	const checkpoint = "is its server named by --server, and a standby's primary too?"
	for _, dir := range p.c.DataDir {
		wal, logs := filepath.Join(dir, "pg_wal"), logDirs(dir)
		add(kindData, dir, checkpoint, p.controls.stored, func(ctx context.Context, s *scan) error {
			if _, err := os.Stat(filepath.Join(dir, "PG_VERSION")); err != nil {
				return fmt.Errorf("no data directory: %w", err)
			}
			return s.tree(ctx, dir, append(logs, wal)...)
		})
		add(kindWAL, wal, checkpoint, p.controls.stored, func(ctx context.Context, s *scan) error { return s.tree(ctx, wal) })
		for _, log := range logs {
			add(kindLog, log, logHint, p.controls.said, func(ctx context.Context, s *scan) error { return s.tree(ctx, log) })
		}
	}
	tree := func(kind string, paths []string, hint string, control *canary.Canary) {
		for _, path := range paths {
			add(kind, path, hint, control, func(ctx context.Context, s *scan) error { return s.tree(ctx, path) })
		}
	}
	tree(kindLog, p.c.Log, logHint, p.controls.said)
	tree(kindNodeLog, p.c.NodeLog, "is it the log of the node that PG… or --login standby=… names, at level warn or lower?", p.controls.turned)
	tree(kindAudit, p.c.AuditDir, "is it the directory of the node that PG… or --login standby=… names?", p.controls.named)
	for _, s := range p.servers {
		if s.conn != nil {
			all = append(all, p.views(s)...)
		}
	}
	return append(all, p.copies()...)
}

const logHint = "does its server log all that the role sends (--server at the primary), and does PG… or --login standby=… name the node beside it?"

// logDirs are the directories of a data directory in which its server logs.
func logDirs(dir string) []string {
	var there []string
	for _, name := range []string{"log", "pg_log"} {
		path := filepath.Join(dir, name)
		if entries, err := os.ReadDir(path); err == nil && len(entries) > 0 {
			there = append(there, path)
		}
	}
	return there
}

// views are a server's that show statements of others.
func (p *prover) views(s *provedServer) []place {
	view := func(name string, sql func(context.Context) (string, error)) place {
		return place{
			kindViews, name + " of " + s.name, p.controls.said, "does PG… or --login standby=… name the node beside it?",
			func(ctx context.Context, sc *scan) error {
				query, err := sql(ctx)
				if err != nil {
					return err
				}
				return eachText(ctx, s.conn, query, func(text string) { sc.scanner.Text(sc.name, text) })
			},
		}
	}
	all := []place{view("pg_stat_activity", func(context.Context) (string, error) { return activity, nil })}
	if s.statements == "" {
		p.report.notLooked(kindViews, "pg_stat_statements of "+s.name, "it is not there, or tracks nothing", false)
		return all
	}
	return append(all, view("pg_stat_statements", func(ctx context.Context) (string, error) {
		err := s.findStatements(ctx, p.c.AsIs)
		if err == nil && s.statements == "" {
			err = errors.New("it is not there any more")
		}
		return "SELECT s::pg_catalog.text FROM " + s.statements + " AS s", err
	}))
}

// look goes through all places.
func (p *prover) look(ctx context.Context) error {
	p.scanner = canary.NewScanner(append(p.controls.all(), p.canaries...))
	p.report.found(p.seen)
	p.lastTold, p.written = time.Now(), time.Now().Add(controlWait)
	for _, pl := range p.places() {
		if err := p.lookAt(ctx, &pl); err != nil {
			return err
		}
	}
	p.notNamed()
	return nil
}

// controlWait is how long logs may take to be written.
const controlWait = 10 * time.Second

// lookAt reads a place, and again if what is on its way to it is not there yet. It
// fails only if nobody wants to know any more.
func (p *prover) lookAt(ctx context.Context, pl *place) error {
	var got looked
	err := poll(ctx, time.Until(p.written), func() (bool, error) {
		found := len(p.scanner.Findings)
		files, bytes := p.scanner.Files, p.scanner.Bytes
		s := &scan{p: p, scanner: p.scanner, name: pl.name, began: time.Now()}
		err := pl.look(ctx, s)
		got = looked{Kind: pl.kind, Place: pl.name, Files: p.scanner.Files - files, Bytes: p.scanner.Bytes - bytes, Skipped: s.skipped}
		here := p.scanner.Findings[found:]
		got.findings = slices.DeleteFunc(slices.Clone(here), func(f canary.Finding) bool { return slices.Contains(p.controls.all(), f.Canary) })
		got.Control = slices.ContainsFunc(here, func(f canary.Finding) bool { return f.Canary == pl.control })
		p.scanner.Findings = p.scanner.Findings[:found]
		return got.Control, err
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	got.Found = len(got.findings)
	p.report.found(got.findings)
	if err != nil && !errors.Is(err, errLate) {
		p.report.notLooked(pl.kind, pl.name, oneLine(err), true)
		return nil
	}
	p.report.Looked = append(p.report.Looked, got)
	if !got.Control {
		p.report.fault("%s %s: the control was not found there: %s", pl.kind, pl.name, pl.hint)
	}
	return nil
}

// tree reads all files of a tree, but not below those directories.
func (s *scan) tree(ctx context.Context, root string, without ...string) error {
	skip := map[string]bool{}
	for _, dir := range without {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return err
		}
		skip[real] = true
	}
	walk := func(visit func(path string, info fs.FileInfo) error) error {
		return canary.Walk(root, func(path string, info fs.FileInfo) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if skip[path] {
				return fs.SkipDir
			}
			return visit(path, info)
		})
	}
	err := walk(func(_ string, info fs.FileInfo) error {
		if s.wants(info) {
			s.total += info.Size()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return walk(func(path string, info fs.FileInfo) error {
		s.scanner.Name(path)
		if info.Mode().IsRegular() && !s.wants(info) {
			s.skipped++
		}
		if !s.wants(info) {
			return nil
		}
		return s.file(ctx, path)
	})
}

// clockSlack is more than a file's time and ours can differ on one host.
const clockSlack = 2 * time.Second

// wants says whether a file is to be read.
func (s *scan) wants(info fs.FileInfo) bool {
	return info.Mode().IsRegular() && (!s.p.c.Changed || info.ModTime().After(s.p.began.Add(-clockSlack)))
}

func (s *scan) file(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a living server removes some
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read from
	return s.read(ctx, path, f)
}

// read looks through r, up to its end or the context's.
func (s *scan) read(ctx context.Context, name string, r io.Reader) error {
	return s.scanner.Read(name, readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := r.Read(b)
		s.done += int64(n)
		s.progress()
		return n, err
	}))
}

type readerFunc func([]byte) (int, error)

// Read calls it.
func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// progress says every few seconds how far it is.
func (s *scan) progress() {
	if time.Since(s.p.lastTold) < progressEvery {
		return
	}
	s.p.lastTold = time.Now()
	of := ""
	if s.total > 0 {
		of = " of " + size(s.total)
	}
	rate := float64(s.done) / time.Since(s.began).Seconds()
	s.p.say("%s: %s%s, %s a second", s.name, size(s.done), of, size(int64(rate)))
}
