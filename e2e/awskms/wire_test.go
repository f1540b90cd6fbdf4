// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package awskms

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// TestShapes: each call that a node makes is as AWS's model of the service has it:
// for the key and for the one before, for the longest name, and when repeated.
// The model refuses such a call with anything about it changed.
func TestShapes(t *testing.T) {
	m := kmsModel(t)
	conn := shared.Connect(t, shared.DSN(0, shared.User))
	loose := shared.Nodes[0].StartLoose(t, map[string]string{"VAULT_KMS_KEY_ID": cluster.KMSOldKey, "VAULT_KMS_DECRYPT_KEY_IDS": ""})
	old := shared.Connect(t, shared.AddressDSN(loose.Proxy, shared.User))
	before.count()
	long := "shapes/" + strings.Repeat("n", 255-len("shapes/"))
	put(t, conn, long)
	put(t, old, "shapes/old")
	before.suffer(t, once(refused(400, "ThrottlingException", "Rate exceeded")))
	put(t, conn, "shapes/repeated")
	flush(t)
	before.suffer(t, once(refused(500, "KMSInternalException", "")))
	read(t, conn, "shapes/repeated")
	read(t, conn, long)
	read(t, conn, "shapes/old")

	seen := wireShapes(t)
	for _, want := range []string{
		"GenerateDataKey " + long, "Decrypt " + long, "GenerateDataKey shapes/old", "Decrypt shapes/old",
		"GenerateDataKey shapes/repeated", "Decrypt shapes/repeated",
	} {
		if least := 1 + strings.Count(want, "repeated"); seen[want] < least {
			t.Errorf("%s: seen %d times, want %d", want, seen[want], least)
		}
	}
	before.mu.Lock()
	defer before.mu.Unlock()
	for operation, read := range map[string][]string{"GenerateDataKey": {"CiphertextBlob", "KeyId", "Plaintext"}, "Decrypt": {"KeyId", "Plaintext"}} {
		c := before.sent[slices.IndexFunc(before.sent, func(c call) bool { return c.operation == operation })]
		refusesChanged(t, m, c)
		for _, member := range read { // of the answer, by the node
			if _, ok := m.Shapes[m.Operations[operation].Output.Shape].Members[member]; !ok {
				t.Errorf("an answer to %s has no %s", operation, member)
			}
		}
	}
}

// wireShapes: what has come to the KMS, and what that has answered, is as AWS's
// model has it, and tells of a secret nothing but its name. It returns how many
// calls there were, by operation and secret.
func wireShapes(t *testing.T) (seen map[string]int) {
	t.Helper()
	m := kmsModel(t)
	before.mu.Lock()
	defer before.mu.Unlock()
	seen = map[string]int{}
	for _, c := range before.sent {
		for _, wrong := range append(m.request(c), expected(c)...) {
			t.Errorf("%s: %s: %s", c.operation, wrong, c.body)
		}
		var in struct{ EncryptionContext map[string]string }
		if err := json.Unmarshal(c.body, &in); err != nil {
			t.Error(err)
		}
		seen[c.operation+" "+in.EncryptionContext["secret"]]++
	}
	for _, c := range before.answered {
		for _, wrong := range m.answer(c) {
			t.Errorf("an answer to %s: %s", c.operation, wrong)
		}
	}
	if len(seen) == 0 || len(before.answered) == 0 {
		t.Error("nothing was sent to the KMS, or nothing answered")
	}
	return seen
}

// scope is what a request is signed for: the region of the key and the service.
var scope = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=tests/\d{8}/eu-west-2/kms/aws4_request, SignedHeaders=(?:[a-z-]+;)*host;(?:[a-z-]+;)*x-amz-target, Signature=[0-9a-f]{64}$`)

// expected says what is not as a node has it, of what the model leaves open.
func expected(c call) (wrong []string) {
	var in map[string]any
	if err := json.Unmarshal(c.body, &in); err != nil {
		return []string{"not an object"}
	}
	members := map[string][]string{
		"GenerateDataKey": {"EncryptionContext", "KeyId", "KeySpec"},
		"Decrypt":         {"CiphertextBlob", "EncryptionAlgorithm", "EncryptionContext", "KeyId"},
	}[c.operation]
	if got := slices.Sorted(maps.Keys(in)); !slices.Equal(got, members) {
		wrong = append(wrong, fmt.Sprintf("got members %v, want %v", got, members))
	}
	if in["KeyId"] != cluster.KMSKey && in["KeyId"] != cluster.KMSOldKey {
		wrong = append(wrong, "another key")
	}
	if c.operation == "GenerateDataKey" && in["KeySpec"] != "AES_256" || c.operation == "Decrypt" && in["EncryptionAlgorithm"] != "SYMMETRIC_DEFAULT" {
		wrong = append(wrong, "another kind of key")
	}
	context, ok := in["EncryptionContext"].(map[string]any)
	if name, _ := context["secret"].(string); !ok || len(context) != 2 || context["vault"] != shared.VaultID || name == "" {
		wrong = append(wrong, fmt.Sprintf("the context: %v", context))
	}
	if !scope.MatchString(c.header.Get("Authorization")) {
		wrong = append(wrong, "signed otherwise: "+c.header.Get("Authorization"))
	}
	if bytes.Contains(c.body, []byte("value of")) {
		wrong = append(wrong, "it holds a value")
	}
	return wrong
}

// refusesChanged: nothing of a call could be otherwise without the model's word.
func refusesChanged(t *testing.T, m *apiModel, c call) {
	t.Helper()
	changed := map[string]call{}
	with := func(what string, change func(c *call, in map[string]any)) {
		other := call{c.operation, c.method, c.path, c.header.Clone(), nil}
		var in map[string]any
		if err := json.Unmarshal(c.body, &in); err != nil {
			t.Fatal(err)
		}
		change(&other, in)
		body, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		other.body = body
		changed[what] = other
	}
	var in map[string]any
	if err := json.Unmarshal(c.body, &in); err != nil {
		t.Fatal(err)
	}
	for name := range in {
		with(name+" in lower case", func(_ *call, in map[string]any) { in[strings.ToLower(name)] = in[name]; delete(in, name) })
		with(name+" as a number", func(_ *call, in map[string]any) { in[name] = 7 })
		with(name+" as null", func(_ *call, in map[string]any) { in[name] = nil })
	}
	with("one more member", func(_ *call, in map[string]any) { in["Comment"] = "" })
	with("a number in the context", func(_ *call, in map[string]any) { in["EncryptionContext"] = map[string]any{"vault": 1} })
	with("too long a key id", func(_ *call, in map[string]any) { in["KeyId"] = strings.Repeat("k", 2049) })
	with("no key id", func(_ *call, in map[string]any) { in["KeyId"] = "" })
	with("an unknown kind", func(_ *call, in map[string]any) { in["KeySpec"], in["EncryptionAlgorithm"] = "AES_512", "AES" })
	with("no base64", func(_ *call, in map[string]any) { in["CiphertextBlob"] = "_-" })
	with("too much wrapped", func(_ *call, in map[string]any) { in["CiphertextBlob"] = make([]byte, 6145) })
	with("what is required left out", func(_ *call, in map[string]any) { delete(in, "CiphertextBlob"); delete(in, "KeyId") })
	with("another target", func(c *call, _ map[string]any) { c.header.Set("X-Amz-Target", "Trent."+c.operation) })
	with("another operation", func(c *call, _ map[string]any) { c.operation = "GenerateDataKeys" })
	with("another content type", func(c *call, _ map[string]any) { c.header.Set("Content-Type", "application/json") })
	with("another method", func(c *call, _ map[string]any) { c.method = http.MethodPut })
	with("another path", func(c *call, _ map[string]any) { c.path = "/kms" })
	for what, other := range changed {
		if m.request(other) == nil {
			t.Errorf("%s, %s: taken for a request of the model", c.operation, what)
		}
	}
}
