// SPDX-License-Identifier: GPL-3.0-or-later

package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// The keys of e2e/kms/seed.yaml.
const (
	KMSKey    = "arn:aws:kms:eu-west-2:111122223333:key/6c1f5a3e-0d5c-4f6e-9b1a-4b7e2c9d8f10"
	KMSOldKey = "arn:aws:kms:eu-west-2:111122223333:key/0b9e4d27-51c8-4a3f-8e6d-7f2a1c3b5d69"
)

// A KMS is an endpoint of the AWS KMS's protocol that others wrote (e2e/kms), as
// a process on an address of its own.
type KMS struct {
	Address string // host and port

	dir   string
	cmd   *exec.Cmd
	ended <-chan struct{}
}

// StartKMS starts one, with the keys of the seed.
func StartKMS(ctx context.Context) (*KMS, error) {
	dir, err := os.MkdirTemp("", "hyperion-vault-kms-")
	if err != nil {
		return nil, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	k := &KMS{Address: address, dir: dir}
	return k, k.Start(ctx)
}

// Start starts it, again after Kill, with what it had.
func (k *KMS) Start(ctx context.Context) error {
	root, err := Root()
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(k.Address)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(k.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()                            // the process has it
	k.cmd = exec.Command(filepath.Join(root, "bin", "local-kms")) //nolint:noctx,gosec // it lives until Kill; built by the Makefile
	k.cmd.Env = []string{
		"PORT=" + port, "KMS_SEED_PATH=" + filepath.Join(root, "e2e", "kms", "seed.yaml"), "KMS_DATA_PATH=" + filepath.Join(k.dir, "data"),
	}
	k.cmd.Stdout, k.cmd.Stderr = log, log
	if k.ended, err = startTied(k.cmd); err != nil {
		return fmt.Errorf("%w: `make e2e` builds it", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", k.Address)
		if err == nil {
			return conn.Close()
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the KMS endpoint does not answer: %w", err)
		}
		<-tick.C
	}
}

// Kill ends the process at once.
func (k *KMS) Kill() {
	_ = k.cmd.Process.Kill() // it may be gone
	<-k.ended
}

// Stop ends it for good.
func (k *KMS) Stop() error {
	k.Kill()
	return os.RemoveAll(k.dir)
}

// AWS are the variables by which a node's SDK finds an endpoint.
func AWS(endpoint string) []string {
	return []string{
		"AWS_ENDPOINT_URL_KMS=" + endpoint, "AWS_ACCESS_KEY_ID=tests", "AWS_SECRET_ACCESS_KEY=secret", "AWS_EC2_METADATA_DISABLED=true",
	}
}
