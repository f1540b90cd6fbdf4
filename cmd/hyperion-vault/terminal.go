// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"

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

// shown is text without what could steer a terminal: an escape is in its place.
func shown(text string) string {
	return visible(text, func(r rune) string { return strings.Trim(strconv.QuoteRune(r), "'") })
}

// shownJSON is the same for JSON, which has such a rune only in a string: it stays what
// it was.
func shownJSON(text string) string {
	return visible(text, func(r rune) string {
		switch {
		case r == '\n':
			return "\n"
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			return fmt.Sprintf(`\u%04x\u%04x`, high, low)
		}
		return fmt.Sprintf(`\u%04x`, r)
	})
}

// visible has each rune that does not print replaced.
func visible(text string, escape func(rune) string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(escape(r))
		}
	}
	return b.String()
}

// A table is lines of cells, as wide as their widest.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

// line adds one. What the cells hold may be anybody's text.
func (t table) line(cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = shown(fmt.Sprint(c))
	}
	_, _ = fmt.Fprintln(t.w, strings.Join(texts, "\t")) // end says what went wrong
}

// end writes the table.
func (t table) end() error { return t.w.Flush() }

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

// size is a number of bytes for people.
func size[N int64 | uint64](n N) string {
	f, unit := float64(n), "B"
	for _, next := range []string{"kB", "MB", "GB", "TB"} {
		if f < 1024 {
			break
		}
		f, unit = f/1024, next
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}
