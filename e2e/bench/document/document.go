// SPDX-License-Identifier: GPL-3.0-or-later

// Package document is what all measurements that fill a part of
// docs/BENCHMARKS.md have in common: the machine, the median, and the way into the
// document.
package document

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// A Machine is where something was measured.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
}

// ThisMachine is the one that the program runs on.
func ThisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), Kernel: Content("/proc/sys/kernel/osrelease")}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	return m
}

// Content is what stands in a short file.
func Content(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}

// Median is the number in the middle, or the mean of the two that are there.
func Median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// Replace puts text between the two marks of a name in a document.
func Replace(path, name, text string) error {
	begin, end := "<!-- "+name+": begin -->\n", "<!-- "+name+": end -->"
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(doc), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s has no marks of %s", path, name)
	}
	return os.WriteFile(path, []byte(head+begin+text+end+tail), 0o644) //nolint:gosec // a document
}

// WriteJSON writes all numbers into a file.
func WriteJSON(path string, numbers any) error {
	text, err := json.MarshalIndent(numbers, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644) //nolint:gosec // a document
}
