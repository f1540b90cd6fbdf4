// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package awskms tests nodes that use the AWS KMS, against an endpoint that
// others wrote (e2e/kms), and with that endpoint away, slow, unwilling or wrong.
package awskms

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var (
	kms    *cluster.KMS
	before *front
	shared *cluster.Cluster
)

// inflight is small enough to be reached.
const inflight = 8

func TestMain(m *testing.M) {
	if err := serveKMS(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	cluster.Main(m, cluster.Spec{
		Settings: cluster.LogAll(), AWS: cluster.AWS("http://" + before.address),
		NodeEnv: map[string]string{
			"VAULT_KMS_KEY_ID": cluster.KMSKey, "VAULT_KMS_DECRYPT_KEY_IDS": cluster.KMSOldKey, "VAULT_KMS_MAX_INFLIGHT": fmt.Sprint(inflight),
			"VAULT_ROTATION_POLL_SECS": "1",
		},
	}, &shared)
	if err := kms.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serveKMS() (err error) {
	ctx := context.Background()
	if kms, err = cluster.StartKMS(ctx); err != nil {
		return err
	}
	before, err = newFront(kms.Address)
	return err
}
