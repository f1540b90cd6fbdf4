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
)

// Free ports come from below the range that the kernel gives to outgoing
// connections (32768 and up), so that a port stays free while its process is
// down and is started again.
const (
	firstPort = 20000
	lastPort  = 32000
	portTries = 200
)

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
	for range portTries {
		port := firstPort + rand.IntN(lastPort-firstPort) //nolint:gosec // a port is no secret
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
