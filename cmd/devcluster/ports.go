// SPDX-License-Identifier: GPL-3.0-or-later

package devcluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
)

// Free ports come from below the range that the kernel gives to outgoing
// connections (32768 and up), so that a port stays free while its process is
// down and is started again.
const (
	firstPort = 20000
	lastPort  = 32000
	portTries = 200

	// portRanges is in how many parts they come: a process takes one for itself,
	// so that another's cluster does not get the port of a server that is down.
	portRanges = 12
)

// portRange is what a process picks from.
type portRange struct {
	first, count int
	held         net.Listener // open for as long as the process lives
	picked       atomic.Int64 // so many of them, beginning somewhere
}

// pick returns a port that was not picked for as long as possible: between its release
// and its server's start nobody holds it, nor while that is down.
func (r *portRange) pick() int { return r.first + int(r.picked.Add(1)%int64(r.count)) }

// ownRange takes a part of the ports; all, if the parts are taken. Whose a part is
// says a socket without a file: the kernel closes it with the process, and it
// counts where the ports do, in the network namespace.
var ownRange = sync.OnceValue(func() *portRange {
	const count = (lastPort - firstPort) / portRanges
	for i := range portRanges {
		name := &net.UnixAddr{Net: "unix", Name: "@hyperion-vault/devcluster/ports/" + strconv.Itoa(i)}
		if held, err := net.ListenUnix("unix", name); err == nil {
			return (&portRange{first: firstPort + i*count, count: count, held: held}).begin()
		}
	}
	return (&portRange{first: firstPort, count: lastPort - firstPort}).begin()
})

// begin begins somewhere: a process before this one may have left connections behind.
func (r *portRange) begin() *portRange {
	r.picked.Store(int64(rand.IntN(r.count))) //nolint:gosec // a port is no secret
	return r
}

// A reservation holds a port until the child that will use it starts.
type reservation struct {
	Port int

	once     sync.Once
	listener net.Listener
}

func (r *reservation) release() {
	r.once.Do(func() { _ = r.listener.Close() }) // a listener that never accepted
}

func listen(ctx context.Context, host string, port int) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
}

// reserve holds the wanted port on host, or some free port if it is taken or 0.
func reserve(ctx context.Context, host string, want int) (*reservation, error) {
	if want != 0 {
		if l, err := listen(ctx, host, want); err == nil {
			return &reservation{Port: want, listener: l}, nil
		}
	}
	var lastErr error
	ports := ownRange()
	for range portTries {
		port := ports.pick()
		l, err := listen(ctx, host, port)
		if err == nil {
			return &reservation{Port: port, listener: l}, nil
		}
		lastErr = err
		var addrErr *net.AddrError
		if errors.As(err, &addrErr) {
			break // not an address of this machine: no port will do
		}
	}
	return nil, fmt.Errorf("no free port on %s: %w", host, lastErr)
}
