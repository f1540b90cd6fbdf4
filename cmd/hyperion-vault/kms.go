// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/awskms"
	"github.com/hyperiondb/hyperion-vault/envelope/erase"
	"github.com/hyperiondb/hyperion-vault/envelope/localkms"
	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// kmsState is what the last canary said.
type kmsState struct{ err error }

var errNotTried = errors.New("not asked yet")

// provider is the KMS that the settings name, and the id of the key that it
// wraps data keys with. It asks nobody yet.
func (c *nodeConfig) provider(ctx context.Context) (envelope.KMS, string, error) {
	if c.kmsKeyID != "" {
		kms, err := awskms.New(ctx, c.kmsKeyID)
		return kms, c.kmsKeyID, err
	}
	kms, err := localkms.New(c.masterKey)
	erase.Zero(c.masterKey)
	if err != nil {
		return nil, "", err
	}
	return kms, kms.KeyID(), nil
}

// sealerMaker takes the keys of the KMS now, so that a wrong key or too little
// lockable memory is found at the start even if the vault id is not.
func sealerMaker(ctx context.Context, c *nodeConfig, m *kmsMetrics, log *slog.Logger) (func(envelope.UUID) (*envelope.Sealer, error), error) {
	kms, keyID, err := c.provider(ctx)
	if err != nil {
		return nil, err
	}
	retrying := envelope.Retry(timedKMS{kms, m}, envelope.RetryConfig{MaxRetries: c.kmsRetries, OnRetry: m.retried})
	maker := func(id envelope.UUID) (*envelope.Sealer, error) {
		return envelope.New(envelope.Config{
			KMS: retrying, Vault: id, KeyID: keyID, DecryptKeyIDs: c.decryptKeyIDs, CacheTTL: c.cacheTTL, CacheEntries: c.cacheEntries,
			MaxInflight: c.kmsInflight, AllowUnlocked: c.allowUnlocked,
		})
	}
	trial, err := maker(envelope.NewUUID())
	if errors.Is(err, envelope.ErrUnlocked) {
		return nil, fmt.Errorf("%w: raise the limit (LimitMEMLOCK= of the unit, ulimit -l), or set VAULT_ALLOW_UNLOCKED=true", err)
	}
	if err != nil {
		return nil, err
	}
	defer trial.Close()
	switch st := trial.Stats(); {
	case c.cacheTTL == 0:
	case !st.Locked:
		log.Warn("data keys are kept in memory that may be swapped to disk", "remedy", "raise the limit of locked memory (LimitMEMLOCK=, ulimit -l)")
	case st.Capacity < c.cacheEntries:
		log.Warn("fewer data keys are kept than asked for", "kept", st.Capacity, "asked", c.cacheEntries,
			"remedy", "raise the limit of locked memory (LimitMEMLOCK=, ulimit -l)")
	}
	return maker, nil
}

const (
	canaryEvery    = time.Minute
	canaryRetryMin = 500 * time.Millisecond
	canaryRetryMax = 10 * time.Second
	canaryTimeout  = 20 * time.Second
	// kmsGlance is how soon a client's failure makes the node ask for itself.
	kmsGlance = time.Second
)

// watchKMS asks the KMS with a canary, and logs once when its state changes.
func (n *node) watchKMS(ctx context.Context) {
	retry, last := canaryRetryMin, "not asked yet"
	for {
		err := n.canary(ctx)
		if ctx.Err() != nil {
			return
		}
		n.kms.Store(&kmsState{err: err})
		now, wait := "", canaryEvery
		if err != nil {
			now, wait = stateOf(err), retry
			retry = min(2*retry, canaryRetryMax)
		} else {
			retry = canaryRetryMin
		}
		switch {
		case vault.KindOf(err) == vault.KindNotReady: // told by the watch of the server
		case now == last:
		case err != nil:
			n.log.WarnContext(ctx, "KMS not usable", "error", err.Error())
		default:
			n.log.InfoContext(ctx, "KMS usable")
		}
		last = now
		if !n.restKMS(ctx, wait) {
			return
		}
	}
}

// stateOf is what kind of failure it is: the KMS's own words differ each time.
func stateOf(err error) string {
	var e *envelope.KMSError
	if errors.As(err, &e) {
		return e.Kind.String()
	}
	return err.Error()
}

// restKMS waits until the KMS is to be asked again: some time, or as soon as it
// has failed a client while it was thought to be well. false: ctx has ended.
func (n *node) restKMS(ctx context.Context, wait time.Duration) bool {
	glance := time.NewTicker(kmsGlance)
	defer glance.Stop()
	end, outages := time.Now().Add(wait), n.vault.KMSOutages()
	for {
		select {
		case <-glance.C:
		case <-ctx.Done():
			return false
		}
		if time.Now().After(end) || wait == canaryEvery && n.vault.KMSOutages() != outages {
			return true
		}
	}
}

func (n *node) canary(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, canaryTimeout)
	defer cancel()
	return n.vault.Canary(ctx)
}
