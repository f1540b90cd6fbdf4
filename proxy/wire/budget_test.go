// SPDX-License-Identifier: GPL-3.0-or-later

package wire

import (
	"errors"
	"net"
	"testing"
)

func TestBudget(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	var b Budget
	b.SetMax(5 * BufferSize)
	r := NewClientReader(NewConn(near))
	r.Charge(&b)
	go far.Write(make([]byte, 16*BufferSize)) //nolint:errcheck // the other side closes
	if err := r.Hold(2*BufferSize, 16*BufferSize); err != nil {
		t.Fatal(err)
	}
	if got := b.Used(); got != 2*BufferSize {
		t.Errorf("%d bytes held, want %d", got, 2*BufferSize)
	}
	if err := r.Hold(16*BufferSize, 16*BufferSize); !errors.Is(err, ErrNoRoom) {
		t.Errorf("got %v, want ErrNoRoom", err)
	}
	r.Release()
	if got := b.Used(); got != 0 {
		t.Errorf("%d bytes held after the end", got)
	}
}
