// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestMain makes the test binary a hyperion-vault when it is called as one:
// dev runs itself for init and serve, with an environment of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"dev", "serve", "init", "audit", "prove", "version"}, os.Args[1]) {
		main()
	}
	os.Exit(m.Run())
}

// output collects what a process wrote, also while it writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// program is one run of hyperion-vault.
type program struct {
	cmd *exec.Cmd
	out io.Reader
	err output
}

func startProgram(t *testing.T, env []string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.CommandContext(t.Context(), os.Args[0], args...)}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	p.cmd.Stderr = &p.err
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = out
	// Should all of us end without a word, as tests do that run out of time.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel ends the child with the thread that started it
		started <- p.cmd.Start()
		<-t.Context().Done() // which ends the child anyway
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill() // a test that failed on its way
			_ = p.cmd.Wait()
		}
	})
	return p
}

// terminate ends the process in order and returns its exit code and the rest of
// its output.
func (p *program) terminate(t *testing.T) (code int, rest string) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(p.out)
	if err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode(), string(text)
}

// finish runs a command to its end.
func finish(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := startProgram(t, env, args...)
	text, err := io.ReadAll(p.out)
	if err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode(), string(text), p.err.String()
}

func connectTo(ctx context.Context, address, user, password, database string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("postgresql://%s:%s@%s/%s?sslmode=disable", user, password, address, database))
}

func ask(t *testing.T, address, user, password, database, sql string, args ...any) string {
	t.Helper()
	conn, err := connectTo(t.Context(), address, user, password, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) // its results were read
	var text string
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close() // read to its end
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func processGone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
