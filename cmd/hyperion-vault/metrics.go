// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/proxy"
)

// kmsMetrics are of each try at the KMS; what the core counts are calls with all their
// retries.
type kmsMetrics struct {
	seconds *prometheus.HistogramVec // by operation and outcome
	retries *prometheus.CounterVec   // by what was retried
}

func newKMSMetrics(r prometheus.Registerer) *kmsMetrics {
	m := &kmsMetrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "hyperion_vault", Name: "kms_seconds", Help: "How long the KMS took, by operation and outcome; each try counts.",
			Buckets: []float64{.0001, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"operation", "outcome"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "hyperion_vault", Name: "kms_retries_total", Help: "Tries at the KMS that were repeated, by what had failed.",
		}, []string{"reason"}),
	}
	for _, operation := range []string{"generate", "unwrap"} {
		m.seconds.WithLabelValues(operation, "ok")
	}
	for _, kind := range []envelope.KMSErrorKind{envelope.KMSUnavailable, envelope.KMSThrottled} {
		m.retries.WithLabelValues(kmsLabel(kind))
	}
	r.MustRegister(m.seconds, m.retries)
	return m
}

func kmsLabel(kind envelope.KMSErrorKind) string { return strings.ReplaceAll(kind.String(), " ", "_") }

func (m *kmsMetrics) retried(kind envelope.KMSErrorKind) {
	m.retries.WithLabelValues(kmsLabel(kind)).Inc()
}

// A timedKMS takes the time of each call.
type timedKMS struct {
	kms envelope.KMS
	m   *kmsMetrics
}

// Generate is the KMS's.
func (k timedKMS) Generate(ctx context.Context, c envelope.Context) (plain, wrapped []byte, keyID string, err error) {
	defer k.m.took("generate", time.Now(), &err)
	return k.kms.Generate(ctx, c)
}

// Unwrap is the KMS's.
func (k timedKMS) Unwrap(ctx context.Context, keyID string, wrapped []byte, c envelope.Context) (plain []byte, err error) {
	defer k.m.took("unwrap", time.Now(), &err)
	return k.kms.Unwrap(ctx, keyID, wrapped, c)
}

func (m *kmsMetrics) took(operation string, begun time.Time, err *error) {
	outcome := "ok"
	if *err != nil {
		kind := envelope.KMSUnavailable // as the retrying KMS takes what no provider has named
		var e *envelope.KMSError
		if errors.As(*err, &e) {
			kind = e.Kind
		}
		outcome = kmsLabel(kind)
	}
	m.seconds.WithLabelValues(operation, outcome).Observe(time.Since(begun).Seconds())
}

// nodeGauges are what the node is.
func (n *node) nodeGauges() []prometheus.Collector {
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "hyperion_vault", Name: name, Help: help, ConstLabels: labels}, value)
	}
	all := []prometheus.Collector{
		gauge("build_info", "1, with the node's version.", prometheus.Labels{"version": version}, func() float64 { return 1 }),
		gauge("primary", "1 if the server beside the node answered when it was last asked, and is the primary.", nil, func() float64 {
			if h := n.vault.Health(); h.Err != nil || h.Status.InRecovery || n.vault.LocalReplaced() {
				return 0
			}
			return 1
		}),
	}
	all = append(all, gauge("rest_connections", "Connections to REST.", nil, func() float64 {
		now, _ := n.rest.Connections()
		return float64(now)
	}), prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "hyperion_vault", Name: "limited_total", Help: proxy.LimitedHelp, ConstLabels: prometheus.Labels{"limit": "rest"},
	}, func() float64 {
		_, turnedAway := n.rest.Connections()
		return float64(turnedAway)
	}))
	if n.config.certificate != nil {
		all = append(all, gauge("certificate_expiry_timestamp_seconds", "When the certificate that clients are shown ends, in seconds since 1970.", nil,
			func() float64 { return float64(n.certificate.Load().Leaf.NotAfter.Unix()) }))
	}
	return all
}
