// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package awskms

import (
	"encoding/json"
	"strings"
	"testing"

	model "github.com/aws/aws-sdk-go-v2/service/kms"
)

// wireShapes: what has come to the KMS is, field by field, what the AWS SDK's own
// types have (they are made from the model of the service), and tells of a secret
// nothing but its name.
func wireShapes(t *testing.T) {
	t.Helper()
	before.mu.Lock()
	defer before.mu.Unlock()
	seen := map[string]int{}
	for _, body := range before.bodies {
		strict := json.NewDecoder(strings.NewReader(body))
		strict.DisallowUnknownFields()
		var context map[string]string
		if strings.Contains(body, "CiphertextBlob") {
			var in model.DecryptInput
			if err := strict.Decode(&in); err != nil || in.KeyId == nil || len(in.CiphertextBlob) == 0 || in.EncryptionAlgorithm != "SYMMETRIC_DEFAULT" || len(in.GrantTokens) != 0 || in.DryRun != nil || in.Recipient != nil {
				t.Errorf("Decrypt: %v: %s", err, body)
			}
			context = in.EncryptionContext
			seen["Decrypt"]++
		} else {
			var in model.GenerateDataKeyInput
			if err := strict.Decode(&in); err != nil || in.KeyId == nil || in.KeySpec != "AES_256" || in.NumberOfBytes != nil || len(in.GrantTokens) != 0 || in.DryRun != nil || in.Recipient != nil {
				t.Errorf("GenerateDataKey: %v: %s", err, body)
			}
			context = in.EncryptionContext
			seen["GenerateDataKey"]++
		}
		if len(context) != 2 || context["vault"] != shared.VaultID || context["secret"] == "" {
			t.Errorf("the context: %v", context)
		}
	}
	if seen["GenerateDataKey"] == 0 {
		t.Errorf("seen: %v", seen)
	}
}
