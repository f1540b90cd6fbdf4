// SPDX-License-Identifier: GPL-3.0-or-later

package vault

import (
	"context"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

func TestCheckName(t *testing.T) {
	if err := CheckName("app/db/password"); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "/s3cret", "s3cret value", "a/s3cret/rotate", strings.Repeat("s3cret", 50)} {
		wantKind(t, CheckName(bad), KindInvalid)
	}
}

func TestCheckValue(t *testing.T) {
	for _, tc := range []struct {
		name, value string
		want        Kind
		ok          bool
	}{
		{"shortest", "x", 0, true},
		{"longest", strings.Repeat("x", envelope.MaxValue), 0, true},
		{"not ASCII", "pässwört", 0, true},
		{"empty", "", KindInvalid, false},
		{"too long", strings.Repeat("x", envelope.MaxValue+1), KindInvalid, false},
		{"not UTF-8", "s3cret\xff", KindBinary, false},
		{"NUL", "s3cret\x00", KindBinary, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := CheckValue([]byte(tc.value))
			if tc.ok {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantKind(t, err, tc.want)
		})
	}
}

func TestSeal(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	r, err := envelope.ParseRecord(sealText(t, v, "a/b", 7, "s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Vault.String() != testVaultID || r.Secret.String() != testSecretID || r.Name != "a/b" || r.Version != 7 || r.Format != envelope.FormatText || r.AllowedCIDRs != nil {
		t.Errorf("sealed for %+v", r.Subject)
	}
}

// A key serves once and only for what it was made; a failed Seal spends it too.
func TestSealRefuses(t *testing.T) {
	v, _, _ := newTestVault(t, nil)
	for _, tc := range []struct {
		name, secret, id, value string
		version                 int32
		want                    Kind
	}{
		{"other name", "a/c", testSecretID, "s3cret", 1, KindInternal},
		{"version 0", "a/b", testSecretID, "s3cret", 0, KindInternal},
		{"not a uuid", "a/b", "s3cret", "s3cret", 1, KindInternal},
		{"no value", "a/b", testSecretID, "", 1, KindInvalid},
		{"binary", "a/b", testSecretID, "s3cret\xff", 1, KindBinary},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k, err := v.NewKey(t.Context(), testActor, "a/b")
			if err != nil {
				t.Fatal(err)
			}
			_, err = v.Seal(k, tc.secret, tc.id, tc.version, []byte(tc.value))
			wantKind(t, err, tc.want)
			_, err = v.Seal(k, "a/b", testSecretID, 1, []byte("s3cret"))
			wantKind(t, err, KindInternal)
		})
	}
}

func TestNewKeyErrors(t *testing.T) {
	v, kms, _ := newTestVault(t, nil)
	_, err := v.NewKey(t.Context(), testActor, "s3cret value")
	wantKind(t, err, KindInvalid)

	kms.fail = &envelope.KMSError{Kind: envelope.KMSDenied}
	_, err = v.NewKey(t.Context(), testActor, "a/b")
	if e := asKind(t, err, KindKMS); e.Kind.SQLState() != "58000" || !strings.Contains(e.Detail, "KMS") || e.Secret != "a/b" {
		t.Errorf("KMS error %+v", e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	kms.fail = ctx.Err()
	_, err = v.NewKey(ctx, testActor, "a/b")
	if e := asKind(t, err, KindCanceled); e.Kind.SQLState() != "57014" {
		t.Errorf("canceled: %+v", e)
	}
	var none *Key
	none.Destroy()
}
