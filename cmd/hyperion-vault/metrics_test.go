// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

// scriptedKMS fails with these errors, one a call, then with none.
type scriptedKMS struct{ errs []error }

func (k *scriptedKMS) next() error {
	if len(k.errs) == 0 {
		return nil
	}
	err := k.errs[0]
	k.errs = k.errs[1:]
	return err
}

func (k *scriptedKMS) Generate(context.Context, envelope.Context) (plain, wrapped []byte, keyID string, err error) {
	return nil, nil, "", k.next()
}

func (k *scriptedKMS) Unwrap(context.Context, string, []byte, envelope.Context) ([]byte, error) {
	return nil, k.next()
}

// TestKMSMetrics: each try is counted with how it ended, and each retry.
func TestKMSMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := newKMSMetrics(registry)
	kms := envelope.Retry(timedKMS{&scriptedKMS{errs: []error{
		&envelope.KMSError{Kind: envelope.KMSThrottled}, errors.New("of no kind"), nil, &envelope.KMSError{Kind: envelope.KMSDenied},
	}}, m}, envelope.RetryConfig{
		MaxRetries: 3, OnRetry: m.retried, Wait: func(context.Context, time.Duration) error { return nil },
	})
	if _, _, _, err := kms.Generate(t.Context(), envelope.Context{}); err != nil {
		t.Fatal(err)
	}
	if _, err := kms.Unwrap(t.Context(), "", nil, envelope.Context{}); err == nil {
		t.Fatal("an error of the KMS got lost")
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, sample := range f.GetMetric() {
			name := f.GetName()
			for _, l := range sample.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = sample.GetCounter().GetValue() + float64(sample.GetHistogram().GetSampleCount())
		}
	}
	want := map[string]float64{
		"hyperion_vault_kms_seconds generate throttled": 1, "hyperion_vault_kms_seconds generate unavailable": 1,
		"hyperion_vault_kms_seconds generate ok": 1, "hyperion_vault_kms_seconds unwrap access_denied": 1, "hyperion_vault_kms_seconds unwrap ok": 0,
		"hyperion_vault_kms_retries_total throttled": 1, "hyperion_vault_kms_retries_total unavailable": 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
