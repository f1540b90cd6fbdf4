// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package awskms

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	model "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// wireShapes: what has come to the KMS is, field by field, what the AWS SDK's own
// types have (they are made from the model of the service), and tells of a secret
// nothing but its name. It returns how many calls there were, by operation and secret.
func wireShapes(t *testing.T) (seen map[string]int) {
	t.Helper()
	before.mu.Lock()
	defer before.mu.Unlock()
	seen = map[string]int{}
	for _, body := range before.bodies {
		strict := json.NewDecoder(strings.NewReader(body))
		strict.DisallowUnknownFields()
		var context map[string]string
		if strings.Contains(body, "CiphertextBlob") {
			var in model.DecryptInput
			if err := strict.Decode(&in); err != nil || aws.ToString(in.KeyId) != cluster.KMSKey || len(in.CiphertextBlob) == 0 || in.EncryptionAlgorithm != "SYMMETRIC_DEFAULT" || len(in.GrantTokens) != 0 || in.DryRun != nil || in.Recipient != nil {
				t.Errorf("Decrypt: %v: %s", err, body)
			}
			context = in.EncryptionContext
			seen["Decrypt "+context["secret"]]++
		} else {
			var in model.GenerateDataKeyInput
			if err := strict.Decode(&in); err != nil || aws.ToString(in.KeyId) != cluster.KMSKey || in.KeySpec != "AES_256" || in.NumberOfBytes != nil || len(in.GrantTokens) != 0 || in.DryRun != nil || in.Recipient != nil {
				t.Errorf("GenerateDataKey: %v: %s", err, body)
			}
			context = in.EncryptionContext
			seen["GenerateDataKey "+context["secret"]]++
		}
		if len(context) != 2 || context["vault"] != shared.VaultID || context["secret"] == "" {
			t.Errorf("the context: %v", context)
		}
		if strings.Contains(body, "value of") {
			t.Errorf("the KMS was sent a value: %s", body)
		}
	}
	if len(seen) == 0 {
		t.Error("nothing was sent to the KMS")
	}
	return seen
}
