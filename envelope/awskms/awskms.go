// SPDX-License-Identifier: GPL-3.0-or-later

// Package awskms is the AWS Key Management Service as a KMS of envelope's.
// Endpoint, credentials and proxies are as the AWS SDK finds them: in its own
// variables of the environment, its files, or the host's role.
package awskms

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/hyperiondb/hyperion-vault/envelope"
	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

const (
	// attemptTimeout bounds one call, so that a KMS that hangs leaves time for
	// another try.
	attemptTimeout = 3 * time.Second
	dialTimeout    = 2 * time.Second
)

// KMS asks the AWS KMS. Safe for concurrent use.
type KMS struct {
	client      *kms.Client
	credentials aws.CredentialsProvider
	keyID       string
}

// ParseKeyID returns the region of a key's ARN. Aliases and bare ids are refused:
// the KMS answers with the ARN, which is what a record holds.
func ParseKeyID(keyID string) (region string, err error) {
	a, err := arn.Parse(keyID)
	const prefix = "key/"
	if err != nil || a.Service != "kms" || a.Region == "" || a.AccountID == "" ||
		len(a.Resource) <= len(prefix) || a.Resource[:len(prefix)] != prefix {
		return "", errors.New("not the ARN of a KMS key")
	}
	return a.Region, nil
}

// New reads the SDK's configuration; it asks nobody. keyID is the ARN of the key
// that wraps new data keys.
func New(ctx context.Context, keyID string) (*KMS, error) {
	region, err := ParseKeyID(keyID)
	if err != nil {
		return nil, err
	}
	transport := awshttp.NewBuildableClient()
	c, err := config.LoadDefaultConfig(ctx, config.WithRegion(region), config.WithHTTPClient(transport),
		// Who calls this repeats it: under one bound, with what it counts.
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }))
	if err != nil {
		return nil, fmt.Errorf("the AWS SDK's configuration: %w", err)
	}
	// The configuration may have added certificates to trust (AWS_CA_BUNDLE).
	if with, ok := c.HTTPClient.(*awshttp.BuildableClient); ok {
		transport = with
	}
	own := func(o *kms.Options) { o.HTTPClient = newClient(transport.GetTransport()) }
	return &KMS{client: kms.NewFromConfig(c, own), credentials: c.Credentials, keyID: keyID}, nil
}

// in sends a call to a key's own region.
func in(keyID string) func(*kms.Options) {
	return func(o *kms.Options) {
		if region, err := ParseKeyID(keyID); err == nil {
			o.Region = region
		}
	}
}

// ready tells a lack of credentials, which are cached, from what the KMS says.
func (k *KMS) ready(ctx context.Context) error {
	if _, err := k.credentials.Retrieve(ctx); err != nil {
		return errNoCredentials
	}
	return nil
}

// Generate asks for a new data key (GenerateDataKey).
func (k *KMS) Generate(ctx context.Context, c envelope.Context) (plain, wrapped []byte, keyID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	if err := k.ready(ctx); err != nil {
		return nil, nil, "", err
	}
	out, err := k.client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: &k.keyID, KeySpec: types.DataKeySpecAes256, EncryptionContext: c.Map(),
	}, in(k.keyID))
	if err != nil {
		return nil, nil, "", classify("GenerateDataKey", err)
	}
	plain, err = take(out.Plaintext, out.KeyId, k.keyID)
	return plain, out.CiphertextBlob, k.keyID, err
}

// Unwrap asks for a data key again (Decrypt), naming the key that wrapped it.
func (k *KMS) Unwrap(ctx context.Context, keyID string, wrapped []byte, c envelope.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	if err := k.ready(ctx); err != nil {
		return nil, err
	}
	out, err := k.client.Decrypt(ctx, &kms.DecryptInput{
		KeyId: &keyID, CiphertextBlob: wrapped, EncryptionContext: c.Map(),
		EncryptionAlgorithm: types.EncryptionAlgorithmSpecSymmetricDefault,
	}, in(keyID))
	if err != nil {
		return nil, classify("Decrypt", err)
	}
	return take(out.Plaintext, out.KeyId, keyID)
}

// take copies a data key out of an answer, which it erases.
func take(answer []byte, answered *string, keyID string) ([]byte, error) {
	defer erase.Zero(answer)
	switch {
	case answered == nil: // no KMS says so; what stands before one may
		return nil, &envelope.KMSError{Kind: envelope.KMSUnavailable, Err: errors.New("its answer names no key")}
	case *answered != keyID:
		return nil, &envelope.KMSError{Kind: envelope.KMSInvalid, Err: fmt.Errorf("it answered for another key than %s", keyID)}
	case len(answer) != envelope.DEKSize:
		return nil, &envelope.KMSError{Kind: envelope.KMSInvalid, Err: fmt.Errorf("it answered with %d bytes for a data key", len(answer))}
	}
	return append(make([]byte, 0, envelope.DEKSize), answer...), nil
}
