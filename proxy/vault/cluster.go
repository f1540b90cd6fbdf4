// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

const (
	// hostTimeout bounds the asking of one server.
	hostTimeout = time.Second

	// Watch asks the local server this often, and sooner while it fails.
	watchEvery    = 15 * time.Second
	watchRetryMin = 500 * time.Millisecond
)

// Health is what [Vault.Watch] saw last.
type Health struct {
	Status Status // of the last time that the server answered
	Err    error  // an *Error: why vault calls cannot be served; nil: they can
}

// Health returns what was seen last. It does no I/O.
func (v *Vault) Health() Health { return *v.health.Load() }

// Status asks the local server for its vault and compares the id with the
// pinned one; the first id ever met is pinned and starts the sealer. The error is
// an *Error: KindServer, or KindTampered for another vault's id.
func (v *Vault) Status(ctx context.Context) (Status, error) {
	st, err := v.readStatus(ctx)
	if err != nil {
		return st, err
	}
	if st.VaultID == "" {
		return st, v.serverError(errNoBootstrap)
	}
	id, err := envelope.ParseUUID(st.VaultID)
	if err != nil {
		return st, v.serverError(errStatus)
	}
	if err := v.pin.Check(id); err != nil {
		return st, v.pinError(err)
	}
	if err := v.start(id); err != nil {
		return st, &Error{Kind: KindNotReady, Msg: fmt.Sprintf("node %q cannot start its sealer", v.node), Hint: "See the node's log.", Err: err}
	}
	return st, nil
}

func (v *Vault) pinError(err error) *Error {
	if !errors.Is(err, ErrForeignVault) {
		return &Error{Kind: KindNotReady, Msg: fmt.Sprintf("node %q cannot remember its vault", v.node), Hint: "See the node's log.", Err: err}
	}
	return &Error{
		Kind: KindTampered, Err: err,
		Msg:  fmt.Sprintf("the server of node %q has another vault than the node is pinned to", v.node),
		Hint: "If the node was moved on purpose, start it with a new audit directory and the new VAULT_ID.",
	}
}

// Watch asks the local server from time to time, until ctx ends, and keeps
// [Vault.Health]. It logs once when the state changes.
func (v *Vault) Watch(ctx context.Context) {
	var others sync.WaitGroup
	others.Go(func() { v.Steadily(ctx, "watching the primary", v.watchPrimary) })
	others.Go(func() { v.Steadily(ctx, "watching the staleness", v.watchStaleness) })
	others.Go(func() { v.Steadily(ctx, "telling of locks", v.tellLocks) })
	defer others.Wait()
	v.Steadily(ctx, "watching the server", v.watchServer)
}

func (v *Vault) watchServer(ctx context.Context) {
	retry, last := watchRetryMin, "nothing yet"
	for {
		st, err := v.Status(ctx)
		if ctx.Err() != nil {
			return
		}
		now, wait := "", watchEvery
		if err != nil {
			now = err.Error()
			wait = retry
			retry = min(2*retry, watchEvery)
			st = v.Health().Status
		} else {
			retry = watchRetryMin
			v.readSlots(ctx)
		}
		v.health.Store(&Health{Status: st, Err: err})
		switch {
		case now == last:
		case err != nil:
			v.log.LogAttrs(ctx, levelOf(err), "vault not usable", errAttrs(err)...)
		default:
			v.log.InfoContext(ctx, "vault usable", "vault_id", st.VaultID, "extension", st.ExtensionVersion, "standby", st.InRecovery)
		}
		last = now
		if !pause(ctx, wait) {
			return
		}
	}
}
