// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// The thread that watches the others has its slack, and the main one Linux's default.
func TestSlack(t *testing.T) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	slack := map[string]int{}
	for _, thread := range threads {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%s/timerslack_ns", thread.Name()))
		if err != nil {
			t.Skipf("NOT TESTED: another thread's slack is shown to root alone: %v", err)
		}
		slack[strings.TrimSpace(string(text))]++
		if thread.Name() == strconv.Itoa(os.Getpid()) && strings.TrimSpace(string(text)) != strconv.Itoa(defaultSlack) {
			t.Errorf("the main thread's slack is %s", text)
		}
	}
	if slack[strconv.Itoa(watchSlack)] == 0 {
		t.Errorf("no thread has a slack of %d: %v", watchSlack, slack)
	}
}
