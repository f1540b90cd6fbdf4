// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
)

// places bounds the writes that have a connection to the primary, and of them one
// client's. Each may wait there for a name that a session holds, for as long as the
// server lets it, and nobody has to look for long to find many such names. Make it with
// newPlaces; safe for concurrent use.
type places struct {
	all chan struct{}
	own turns // by client
}

// reservedForReads is how many connections to the primary no write ever takes.
const reservedForReads = 2

// newPlaces is for so many connections: a client has half of them, and never all that
// writes may take.
func newPlaces(connections int) *places {
	all := max(connections-reservedForReads, 1)
	return &places{all: make(chan struct{}, all), own: turns{each: min(connections/2, all-1)}}
}

// take waits for a place of a client's, to write a name; done gives it back. The error is
// an *Error.
func (p *places) take(ctx context.Context, client, name string) (done func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	if mine := p.own.wait(waiting, client); mine != nil {
		select {
		case p.all <- struct{}{}:
			return func() {
				<-p.all
				mine()
			}, nil
		case <-waiting.Done():
			mine()
		}
	}
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return nil, canceled(name, ctx.Err())
	}
	return nil, crowded(name, nil)
}

// crowded is busy, for all names.
func crowded(name string, err error) *Error {
	return &Error{Kind: KindBusy, Secret: name, Err: err, Msg: "this node has as many writes under way as it may", Hint: "Try again in a moment."}
}
