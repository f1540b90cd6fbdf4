// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// Room is the memory for what an access reads, of which a face has only so much.
type Room interface {
	// Fits says whether sealed records of n bytes in all, and what is made of them, may be
	// held now.
	Fits(n int) bool
	// Await waits until they may, while nothing of them is held. The error is an *Error.
	Await(ctx context.Context, n int) error
}

// SetRoom bounds what the reads of this access hold; without one they have no bound.
func (a *Access) SetRoom(r Room) { a.room = r }

func (a *Access) fits(n int) bool { return a.room == nil || a.room.Fits(n) }

// noRoom is that so many bytes of records may not be held now.
type noRoom int

func (noRoom) Error() string { return "there is no room for the records" }

// reading runs read where the reads of a are done, see readerFor. If that finds no room
// for what it has read it lets go of it, and is run again when there is: who waits holds
// neither records nor a connection. The error is an *Error, or read's.
func (v *Vault) reading(ctx context.Context, a *Access, action audit.Action, name string, read func(*pgxpool.Pool, Actor) error) error {
	for {
		err := v.readOnce(ctx, a, action, name, read)
		var full noRoom
		if !errors.As(err, &full) {
			return err
		}
		if err := v.awaitRoom(ctx, a, action, name, int(full)); err != nil {
			return err
		}
	}
}

func (v *Vault) readOnce(ctx context.Context, a *Access, action audit.Action, name string, read func(*pgxpool.Pool, Actor) error) error {
	q, actor, done, err := v.readerFor(ctx, a, action, name)
	if err != nil {
		return err
	}
	defer done()
	return read(q, actor)
}

// awaitRoom waits for room, and asks again for the right to read what it is for.
func (v *Vault) awaitRoom(ctx context.Context, a *Access, action audit.Action, name string, n int) error {
	if err := a.room.Await(ctx, n); err != nil {
		return err
	}
	if err := v.stillKnown(ctx, a, action, name); err != nil || name == "" {
		return err
	}
	return v.authorize(ctx, a, action, name)
}

// permitted are those of the names that a may read, each once. A refusal is recorded.
func (v *Vault) permitted(ctx context.Context, a *Access, names []string) []string {
	mine := make([]string, 0, len(names))
	var refused []audit.Record
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		if err := v.permit(a, audit.ActionRead, name); err != nil {
			refused = append(refused, a.refusal(audit.ActionRead, name, err))
			continue
		}
		mine = append(mine, name)
	}
	v.refusedAs(ctx, a, refused...)
	return mine
}
