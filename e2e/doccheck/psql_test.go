// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package doccheck

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// A psql is one running psql, fed as by a terminal.
type psql struct {
	in  io.Writer
	out *bufio.Reader
	n   int
}

// startPsql connects by a DSN. It has no terminal of its own, so that \prompt
// reads what comes behind it.
func startPsql(t *testing.T, program, dsn string) *psql {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, "--no-psqlrc", dsn)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "HOME=/nonexistent"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // psql ends
		_ = cmd.Wait() // or was ended with the test
	})
	return &psql{in: in, out: bufio.NewReader(out)}
}

var prompt = regexp.MustCompile(`^\\prompt '([^']*)'`)

// run sends a block and returns what it printed, as a terminal would show it:
// what was typed stands behind the question.
func (p *psql) run(t *testing.T, text, typed string) string {
	t.Helper()
	var send, asks strings.Builder
	for line := range strings.Lines(text) {
		send.WriteString(line)
		if m := prompt.FindStringSubmatch(line); m != nil {
			send.WriteString(typed + "\n")
			asks.WriteString(m[1])
		}
	}
	p.n++
	end := fmt.Sprintf("doccheck end %d", p.n)
	if _, err := io.WriteString(p.in, send.String()+"\\echo '"+end+"'\n"); err != nil {
		t.Fatalf("psql: %v", err)
	}
	var printed strings.Builder
	for {
		line, err := p.out.ReadString('\n')
		if before, ended := strings.CutSuffix(line, end+"\n"); ended {
			printed.WriteString(before)
			break
		}
		printed.WriteString(line)
		if err != nil {
			t.Fatalf("psql ended: %v\n%s", err, printed.String())
		}
	}
	out := printed.String()
	if ask := asks.String(); ask != "" {
		out = strings.Replace(out, ask, ask+typed+"\n", 1)
	}
	return out
}
