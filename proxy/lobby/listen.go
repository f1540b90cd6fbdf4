// SPDX-License-Identifier: GPL-3.0-or-later

package lobby

import (
	"net"
	"time"
)

// Listen returns a listener of which at most so many connections are open: for one more
// the one goes that is open longest, at the address that has most.
func Listen(l net.Listener, most int) net.Listener { return &listener{l, New(), most} }

type listener struct {
	net.Listener
	inside *Lobby
	most   int
}

func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g, _, _ := l.inside.Enter(nc, l.most, l.most, time.Now()) // it is nobody's turn but theirs: one always goes
	return &visitor{nc, g}, nil
}

// visitor is a connection that leaves when it is closed.
type visitor struct {
	net.Conn
	guest *Guest
}

func (v *visitor) Close() error {
	v.guest.Leave()
	return v.Conn.Close()
}
