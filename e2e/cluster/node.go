// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Freeze stops the node's process where it is (SIGSTOP) until Thaw, or the end
// of the test.
func (n *Node) Freeze(tb testing.TB) {
	tb.Helper()
	if err := syscall.Kill(n.PID, syscall.SIGSTOP); err != nil {
		tb.Fatalf("freeze %s: %v", n.Name, err)
	}
	pid := n.PID
	tb.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // it may be gone by then
	waitStopped(tb, pid)
}

// waitStopped returns once no thread of the process runs: kill does not wait for
// that, and a thread on another processor may still take an answer.
func waitStopped(tb testing.TB, pid int) {
	tb.Helper()
	Eventually(tb, "a process that stands still", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(threads) == 0 {
			return true // it is gone
		}
		for _, thread := range threads {
			text, err := os.ReadFile(thread)
			if err != nil {
				continue // this thread is gone
			}
			_, rest, _ := strings.Cut(string(text), ") ")
			if rest == "" || !strings.Contains("TZX", rest[:1]) { // stopped, or ended
				return false
			}
		}
		return true
	})
}

// Thaw lets a frozen process go on.
func (n *Node) Thaw(tb testing.TB) {
	tb.Helper()
	if err := syscall.Kill(n.PID, syscall.SIGCONT); err != nil {
		tb.Fatalf("thaw %s: %v", n.Name, err)
	}
}

// FreezeServer stops the postmaster and all its processes (SIGSTOP).
func (n *Node) FreezeServer(tb testing.TB) {
	tb.Helper()
	postmaster := n.postmaster(tb)
	_ = syscall.Kill(postmaster, syscall.SIGSTOP) // first, so that it makes no more children
	pids := serverPIDs(tb, postmaster)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGSTOP) // a backend may have ended
	}
	tb.Cleanup(func() { resume(pids) })
	for _, pid := range pids {
		waitStopped(tb, pid)
	}
}

// ThawServer lets a frozen server go on.
func (n *Node) ThawServer(tb testing.TB) {
	tb.Helper()
	resume(serverPIDs(tb, n.postmaster(tb)))
}

// postmaster is the server's first process, whoever started it.
func (n *Node) postmaster(tb testing.TB) int {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(n.DataDir, "postmaster.pid"))
	if err != nil {
		tb.Fatalf("%s: no server: %v", n.Name, err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		tb.Fatalf("%s: postmaster.pid: %v", n.Name, err)
	}
	return pid
}

func resume(pids []int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGCONT) // a backend may have ended
	}
}

// serverPIDs is the postmaster, first, and its children.
func serverPIDs(tb testing.TB, postmaster int) []int {
	tb.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster))
	if err != nil {
		tb.Fatal(err)
	}
	pids := []int{postmaster}
	for _, field := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			tb.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// Alive tells whether the node's process lives.
func (n *Node) Alive() bool { return syscall.Kill(n.PID, 0) == nil }

// Resident is the node's resident memory in bytes (VmRSS), Peak its highest
// (VmHWM).
func (n *Node) Resident(tb testing.TB) int64 { tb.Helper(); return status(tb, n.PID, "VmRSS:") }

// Virtual is the size of the node's address space in bytes (VmSize): it grows
// with what was allocated and never touched as well.
func (n *Node) Virtual(tb testing.TB) int64 { tb.Helper(); return status(tb, n.PID, "VmSize:") }

// Peak is the highest resident memory that the node ever had.
func (n *Node) Peak(tb testing.TB) int64 { tb.Helper(); return status(tb, n.PID, "VmHWM:") }

// Peak is the highest resident memory that the node ever had (VmHWM).
func (l *Loose) Peak(tb testing.TB) int64 { tb.Helper(); return status(tb, l.PID, "VmHWM:") }

func status(tb testing.TB, pid int, field string) int64 {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		rest, found := strings.CutPrefix(line, field)
		if !found {
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		return kilobytes << 10
	}
	tb.Fatalf("no %s in /proc/%d/status", field, pid)
	return 0
}

// Metric is the sum of a metric's samples. labels, as `outcome="ok"`, choose
// those that have all of them; a metric without a sample is 0.
func (n *Node) Metric(tb testing.TB, name string, labels ...string) float64 {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, n.Metrics, nil)
	if err != nil {
		tb.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		tb.Fatalf("metrics: %v", err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	sum, scanner := 0.0, bufio.NewScanner(response.Body)
	for scanner.Scan() {
		line := scanner.Text()
		space := strings.LastIndexByte(line, ' ')
		if space < 0 || !matches(line[:space], name, labels) {
			continue
		}
		value, err := strconv.ParseFloat(line[space+1:], 64)
		if err != nil {
			tb.Fatalf("metric %s: %v", name, err)
		}
		sum += value
	}
	if err := scanner.Err(); err != nil {
		tb.Fatalf("metrics: %v", err)
	}
	return sum
}

func matches(sample, name string, labels []string) bool {
	rest, found := strings.CutPrefix(sample, name)
	if !found || rest != "" && rest[0] != '{' {
		return false
	}
	for _, label := range labels {
		if !strings.Contains(rest, label) {
			return false
		}
	}
	return true
}
