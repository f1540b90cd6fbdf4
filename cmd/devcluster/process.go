// SPDX-License-Identifier: GPL-3.0-or-later

package devcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A spawner starts every child from one thread that lives as long as the
// cluster. The kernel sends a child its parent-death signal when the *thread*
// that made it ends, and Go's runtime ends threads as it likes.
type spawner struct {
	starts chan func()
	done   chan struct{}
}

func newSpawner() *spawner {
	s := &spawner{starts: make(chan func()), done: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		for {
			select {
			case start := <-s.starts:
				start()
			case <-s.done:
				return
			}
		}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	select {
	case s.starts <- func() { result <- cmd.Start() }:
		return <-result
	case <-s.done:
		return errors.New("the cluster is closed")
	}
}

// close ends the thread; a child that is still alive gets its death signal.
func (s *spawner) close() { close(s.done) }

// account is who a child runs as; nil credential: as ourselves.
type account struct {
	credential *syscall.Credential
	name       string
}

// serverAccount finds who runs PostgreSQL, which refuses to run as root.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		return account{name: "this user"}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if uidErr != nil || gidErr != nil || uid == 0 {
			continue
		}
		return account{credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, name: name}, nil
	}
	return account{}, errors.New("running as root, and neither a user \"postgres\" nor \"nobody\" exists to run PostgreSQL as")
}

// own gives a path to the account.
func (a account) own(path string) error {
	if a.credential == nil {
		return nil
	}
	return os.Lchown(path, int(a.credential.Uid), int(a.credential.Gid))
}

// give gives it an open file.
func (a account) give(f *os.File) error {
	if a.credential == nil {
		return nil
	}
	return f.Chown(int(a.credential.Uid), int(a.credential.Gid))
}

// mkdir makes a directory that we own and only the account may enter besides.
func (a account) mkdir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return a.admit(path)
}

// admit lets the account enter (not list) a directory of ours.
func (a account) admit(path string) error {
	if a.credential == nil {
		return os.Chmod(path, 0o700) //nolint:gosec // a directory
	}
	if err := os.Chown(path, os.Geteuid(), int(a.credential.Gid)); err != nil {
		return err
	}
	return os.Chmod(path, 0o710) //nolint:gosec // a directory
}

// environment is all that a child sees of ours: nothing. A server's
// `COPY … FROM PROGRAM 'env'` would show whatever we had passed on.
func environment(bindir, home string, extra ...string) []string {
	return append([]string{
		"PATH=" + bindir + ":/usr/local/bin:/usr/bin:/bin",
		"HOME=" + home,
		"LC_ALL=C.UTF-8",
		"TZ=UTC",
	}, extra...)
}

// A process is one child: the same fields at every start, a new exec.Cmd each.
type process struct {
	label    string // for messages: "node1: PostgreSQL"
	path     string
	args     []string
	env      []string
	dir      string
	account  account
	logPath  string
	death    syscall.Signal // sent by the kernel when we die
	spawner  *spawner
	reserved []*reservation // ports that are held until the child takes them
	onDeath  func(label string, state string)

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd has ended
	quiet  bool          // its end is our own doing, or told by an error: no message
}

// start runs the child; it does not wait until the child is ready, which the
// caller says by up.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.aliveLocked() {
		return fmt.Errorf("%s already runs", p.label)
	}
	log, err := os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("%s: %w", p.label, err)
	}
	defer func() { _ = log.Close() }() // the child has its own copy
	for _, r := range p.reserved {
		r.release()
	}
	cmd := &exec.Cmd{
		Path: p.path, Args: append([]string{p.path}, p.args...), Env: p.env, Dir: p.dir, Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{
			Credential: p.account.credential,
			// The terminal's Ctrl-C is for us; we stop children in order. And Linux
			// shares processors by session, as between services.
			Setsid:    true,
			Pdeathsig: p.death,
		},
	}
	if err := p.spawner.start(cmd); err != nil {
		return fmt.Errorf("%s: %w", p.label, err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited, p.quiet = cmd, exited, true
	go p.watch(cmd, exited)
	return nil
}

func (p *process) watch(cmd *exec.Cmd, exited chan struct{}) {
	err := cmd.Wait()
	p.mu.Lock()
	quiet := p.quiet
	close(exited)
	p.mu.Unlock()
	if quiet || p.onDeath == nil {
		return
	}
	state := "exit status 0"
	if err != nil {
		state = err.Error()
	}
	p.onDeath(p.label, state)
}

// up says that the child is ready: from now on its death is news.
func (p *process) up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = false
}

func (p *process) aliveLocked() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.aliveLocked()
}

// pid is that of the last start, 0 before the first.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// ended is closed when the child of the last start has ended.
func (p *process) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		over := make(chan struct{})
		close(over)
		return over
	}
	return p.exited
}

// signal sends one; expectEnd says that an end after it is our own doing.
func (p *process) signal(sig syscall.Signal, expectEnd bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.aliveLocked() {
		return
	}
	if expectEnd {
		p.quiet = true
	}
	_ = p.cmd.Process.Signal(sig) // a process that ended meanwhile is what we want
}

// A step of an orderly end: a signal and how long it may take.
type step struct {
	signal syscall.Signal
	wait   time.Duration
}

// stop sends one signal after the other until the child has ended.
func (p *process) stop(ctx context.Context, steps ...step) error {
	ended := p.ended()
	for _, s := range steps {
		p.signal(s.signal, true)
		timer := time.NewTimer(s.wait)
		select {
		case <-ended:
			timer.Stop()
			return nil
		case <-timer.C:
		case <-ctx.Done(): // no time left: on to the stronger signal
			timer.Stop()
		}
	}
	return fmt.Errorf("%s (process %d) did not end", p.label, p.pid())
}

// run executes a short-lived tool and returns what it printed.
func run(ctx context.Context, s *spawner, a account, dir string, env []string, path string, args ...string) (string, error) {
	var out, errOut strings.Builder
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // PostgreSQL's tools and our own program
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = env, dir, &out, &errOut
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	if err := s.start(cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("%s: %w: %s", path, err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}
