// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package tools

import (
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// A terminal is a program on a pseudo-terminal (util-linux's script makes it),
// so that it prompts, and takes ^C as a signal.
type terminal struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser

	mu   sync.Mutex
	out  string // what nobody has expected yet
	done chan struct{}
}

func startTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = "'" + arg + "'"
	}
	p := &terminal{t: t, cmd: cluster.Command(t, env, "script", "-qfc", strings.Join(quoted, " "), "/dev/null"), done: make(chan struct{})}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in = in
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.collect(out)
	t.Cleanup(func() { _ = p.in.Close() }) // it may have ended long ago
	return p
}

func (p *terminal) collect(out io.Reader) {
	defer close(p.done)
	buf := make([]byte, 4<<10)
	for {
		n, err := out.Read(buf)
		p.mu.Lock()
		p.out += string(buf[:n])
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// expect waits until the program has printed text, and forgets all up to it.
func (p *terminal) expect(text string) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.t.Logf("waiting for %q; there is %q", text, p.out)
		}
	}()
	cluster.Eventually(p.t, text, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		_, rest, found := strings.Cut(p.out, text)
		if found {
			p.out = rest
		}
		return found
	})
}

func (p *terminal) send(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, text); err != nil {
		p.t.Fatal(err)
	}
}

// end waits for the program's end, which must be a good one.
func (p *terminal) end() {
	p.t.Helper()
	<-p.done
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%v: %s", err, p.out)
	}
}
