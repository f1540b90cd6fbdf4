// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/hostile"
)

// attackVar makes the test binary the attackers' process: they have a machine of
// their own in life, so here they get what processor time nobody else wants.
const attackVar = "SOAK_ATTACK"

func TestMain(m *testing.M) {
	if what := os.Getenv(attackVar); what != "" {
		if err := attackAll(strings.Split(what, "\n")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Who attacks: without a role's password, or with it, also past the node.
const (
	strangers        = "strangers"
	insiders         = "insiders"
	insidersAtServer = "insiders at the server's port"
)

// attack starts all attacks of a kind at once, on the address at; what it returns
// ends them.
func (r *run) attack(t *testing.T, who, at, dsn string) (stop func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nice", "-n", "19", self)
	cmd.Env = append(os.Environ(), attackVar+"="+strings.Join([]string{
		at, dsn, r.c.Certificate(), strconv.Itoa(r.spec.silent), who,
	}, "\n"))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	until, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Where Linux shares processors by session, a process's own niceness counts
	// only within it.
	group := fmt.Sprintf("/proc/%d/autogroup", cmd.Process.Pid)
	if err := os.WriteFile(group, []byte("19"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Logf("the attackers are not nice: %v", err)
	}
	return func() {
		until.Close() // what they wait for
		if err := cmd.Wait(); err != nil {
			t.Errorf("an attack could not be made: %v", err)
		}
	}
}

// noticing has the server end what insiders at its own port leave running, as a node does:
// else they soon have all its places.
const noticing = " options='-c client_connection_check_interval=500'"

// attackAll attacks until standard input ends.
func attackAll(what []string) error {
	if len(what) != 5 {
		return fmt.Errorf("%s has %d lines", attackVar, len(what))
	}
	target, err := hostile.NewTarget(what[0], what[1], what[2])
	if err != nil {
		return err
	}
	silent, err := strconv.Atoi(what[3])
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	attacks := hostile.Insiders()
	if what[4] == strangers {
		attacks = hostile.Strangers(silent)
	}
	errs := make([]error, len(attacks))
	for i, a := range attacks {
		wg.Go(func() {
			if err := a.Run(ctx, target); err != nil {
				errs[i] = fmt.Errorf("%s: %w", a.Name, err)
			}
		})
	}
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // nothing comes but its end
	stop()
	wg.Wait()
	return errors.Join(errs...)
}
