// SPDX-License-Identifier: GPL-3.0-or-later

package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// A Log is a record that is being written: in memory, and in a file of JSON
// lines if it has one. It is safe for concurrent use.
type Log struct {
	began time.Time

	mu   sync.Mutex
	ops  []Op
	file *os.File
	w    *bufio.Writer
	err  error // the first one of the file
}

// NewLog begins a record that is in memory only.
func NewLog() *Log { return &Log{began: time.Now()} }

// CreateLog begins a record that is a file as well.
func CreateLog(path string) (*Log, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	l := NewLog()
	l.file, l.w = file, bufio.NewWriter(file)
	return l, nil
}

// A line of the file has one of these.
type line struct {
	Op    *Op    `json:"op,omitempty"`
	Rules *Rules `json:"rules,omitempty"`
	Final *Final `json:"final,omitempty"`
}

// Now is the time since the record began.
func (l *Log) Now() time.Duration { return time.Since(l.began) }

// Append writes an operation down that has ended, and gives it its number.
func (l *Log) Append(op Op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	op.ID = len(l.ops) + 1
	l.ops = append(l.ops, op)
	l.write(line{Op: &op})
}

// Ops is a copy of what was appended so far.
func (l *Log) Ops() []Op {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Op(nil), l.ops...)
}

// After is a copy of what was appended after the n-th operation.
func (l *Log) After(n int) []Op {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Op(nil), l.ops[n:]...)
}

// Check judges the record. What it judged by is written into the file, too, so
// that ReadFile and Check find the same again.
func (l *Log) Check(rules Rules, final Final) *Report {
	l.mu.Lock()
	l.write(line{Rules: &rules})
	if final != nil {
		l.write(line{Final: &final})
	}
	l.mu.Unlock()
	return Check(l.Ops(), rules, final)
}

// Close ends the file. Its error is the first that writing met.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := errors.Join(l.err, l.w.Flush(), l.file.Close())
	l.file, l.w = nil, nil
	return err
}

// write adds a line to the file; the lock is held.
func (l *Log) write(entry line) {
	if l.w == nil || l.err != nil {
		return
	}
	text, err := json.Marshal(entry)
	if err == nil {
		_, err = l.w.Write(append(text, '\n'))
	}
	l.err = err
}

// A Record is a whole file.
type Record struct {
	Ops   []Op
	Rules Rules
	Final Final
}

// Check judges the record again.
func (r *Record) Check() *Report { return Check(r.Ops, r.Rules, r.Final) }

// ReadFile reads what a Log has written. Half a line at the end, of a writer
// that was killed, is left out.
func ReadFile(path string) (*Record, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	record := &Record{}
	r := bufio.NewReader(file)
	for number := 1; ; number++ {
		text, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return record, nil
		}
		if err != nil {
			return nil, err
		}
		if err := record.add(text); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, number, err)
		}
	}
}

func (r *Record) add(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var entry line
	if err := decoder.Decode(&entry); err != nil {
		return err
	}
	switch {
	case entry.Op != nil:
		r.Ops = append(r.Ops, *entry.Op)
	case entry.Rules != nil:
		r.Rules = *entry.Rules
	case entry.Final != nil:
		r.Final = *entry.Final
	}
	return nil
}
