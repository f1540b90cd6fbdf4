// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

// maxLine is the longest line that a terminal hands over; of a longer one it drops
// the rest silently.
const maxLine = 4095

// isTerminal says whether a stream is one.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// readHidden reads a line from a terminal that does not show it, without its end. It
// is asked for when the terminal shows nothing any more. The caller zeroes it.
func readHidden(ctx context.Context, f *os.File, ask func()) (line []byte, err error) {
	fd := int(f.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("the terminal: %w", err)
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO | unix.ECHONL
	hidden.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		return nil, fmt.Errorf("the terminal cannot be kept from showing the value: %w", err)
	}
	defer func() { err = errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETS, before)) }()
	ask()
	type reading struct {
		line []byte
		err  error
	}
	done := make(chan reading, 1)
	go func() {
		buffer := make([]byte, maxLine+1)
		n, err := f.Read(buffer)
		done <- reading{buffer[:n], err}
	}()
	select {
	case r := <-done:
		n := len(r.line)
		switch {
		case r.err != nil:
			return r.line, r.err
		case n > 0 && r.line[n-1] == '\n':
			return r.line[:n-1], nil
		case n >= maxLine:
			erase.Zero(r.line)
			return nil, fmt.Errorf("a terminal takes lines of %d bytes at most: send a longer value to stdin", maxLine)
		}
		return r.line, nil // ended by Ctrl-D
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
