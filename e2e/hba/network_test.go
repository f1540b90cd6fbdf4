// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package hba

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

// The clients' networks. Names are fixed, so that what a killed run left behind
// is found; a lock keeps two runs apart. The addresses are those of
// documentation.
const (
	spaceNear, spaceOther = "hv-hba-near", "hv-hba-other"

	plan = `netns add hv-hba-near
link add hv-hba-1 type veth peer name eth0 netns hv-hba-near
addr add 198.51.100.1/24 dev hv-hba-1
addr add fd00:51::1/64 dev hv-hba-1 nodad
link set hv-hba-1 up
-n hv-hba-near addr add 198.51.100.2/24 dev eth0
-n hv-hba-near addr add 198.51.100.130/24 dev eth0
-n hv-hba-near addr add 100.64.9.77/32 dev eth0
-n hv-hba-near addr add fd00:51::2/64 dev eth0 nodad
-n hv-hba-near link set eth0 up
route add 100.64.9.77/32 via 198.51.100.2
netns add hv-hba-other
link add hv-hba-2 type veth peer name eth0 netns hv-hba-other
addr add 203.0.113.1/24 dev hv-hba-2
link set hv-hba-2 up
-n hv-hba-other addr add 203.0.113.2/24 dev eth0
-n hv-hba-other link set eth0 up`
)

// places says for each client address in which namespace it is and which of our
// addresses it can reach; an empty space is our own.
var places = map[string]struct{ space, server string }{
	"198.51.100.1":   {"", "198.51.100.1"},
	"198.51.100.2":   {spaceNear, "198.51.100.1"},
	"198.51.100.130": {spaceNear, "198.51.100.1"},
	"100.64.9.77":    {spaceNear, "198.51.100.1"},
	"fd00:51::2":     {spaceNear, "fd00:51::1"},
	"203.0.113.2":    {spaceOther, "203.0.113.1"},
}

// network makes the namespaces until the test ends. Where it cannot, nothing of
// what this package is about can be tested.
func network(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: network namespaces need root")
	}
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "hyperion-vault-e2e-hba.lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:usetesting // one for all runs on this host
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Close() }) // which unlocks
	clear := func() {                      // links first: those of a namespace go some time after it
		for _, line := range []string{"link del hv-hba-1", "link del hv-hba-2", "netns del " + spaceNear, "netns del " + spaceOther} {
			_ = ip(t, line) // it may not be there
		}
	}
	clear() // what a killed run left
	t.Cleanup(clear)
	for line := range strings.Lines(plan) {
		if err := ip(t, line); err != nil {
			if strings.HasPrefix(line, "netns add") {
				t.Skipf("NOT TESTED: no network namespaces here: %v", err)
			}
			t.Fatal(err)
		}
	}
}

// ip runs iproute2.
func ip(t *testing.T, line string) error {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // the clean-up comes after the end
	out, err := exec.CommandContext(ctx, "ip", strings.Fields(line)...).CombinedOutput()
	if err != nil {
		return &os.PathError{Op: "ip " + strings.TrimSpace(line), Path: strings.TrimSpace(string(out)), Err: err}
	}
	return nil
}

// dialFrom dials from an address in a namespace. A socket belongs for ever to
// the namespace of the thread that made it.
func dialFrom(address, space string) pgconn.DialFunc {
	return func(ctx context.Context, network, to string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 0))}
		if space == "" {
			return d.DialContext(ctx, network, to)
		}
		runtime.LockOSThread()
		back, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return nil, err
		}
		defer func() { _ = back.Close() }() // only read
		other, err := os.Open(filepath.Join("/run/netns", space))
		if err != nil {
			return nil, err
		}
		defer func() { _ = other.Close() }() // only read
		if err := unix.Setns(int(other.Fd()), syscall.CLONE_NEWNET); err != nil {
			return nil, err
		}
		conn, err := d.DialContext(ctx, network, to)
		if back := unix.Setns(int(back.Fd()), syscall.CLONE_NEWNET); back != nil {
			return nil, back // the thread stays locked and ends with its goroutine
		}
		runtime.UnlockOSThread()
		return conn, err
	}
}
