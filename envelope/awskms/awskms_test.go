// SPDX-License-Identifier: GPL-3.0-or-later

package awskms

import (
	"testing"

	"github.com/hyperiondb/hyperion-vault/envelope"
)

// TestParseKeyID: only a key's ARN is a key id. What a KMS answers is tested with
// a real one, by e2e/awskms.
func TestParseKeyID(t *testing.T) {
	for id, region := range map[string]string{
		"arn:aws:kms:eu-west-2:111122223333:key/6c1f5a3e-0d5c-4f6e-9b1a-4b7e2c9d8f10":          "eu-west-2",
		"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890": "us-gov-west-1",
		"6c1f5a3e-0d5c-4f6e-9b1a-4b7e2c9d8f10":                                                 "",
		"alias/vault":                                                                          "",
		"arn:aws:kms:eu-west-2:111122223333:alias/vault":                                       "",
		"arn:aws:kms:eu-west-2:111122223333:key/":                                              "",
		"arn:aws:kms::111122223333:key/x":                                                      "",
		"arn:aws:s3:eu-west-2:111122223333:key/x":                                              "",
		"": "",
	} {
		got, err := ParseKeyID(id)
		if got != region || (err == nil) != (region != "") {
			t.Errorf("%q: got %q, %v, want %q", id, got, err, region)
		}
	}
}

// TestPrintable: an answer's words go into a log in one short line.
func TestPrintable(t *testing.T) {
	long := make([]byte, 4*maxMessage)
	for i := range long {
		long[i] = "\n\x1bé"[i%4]
	}
	if got := printable(string(long)); len(got) > maxMessage {
		t.Errorf("%d bytes", len(got))
	} else if got != printable(got) {
		t.Errorf("got %q", got)
	}
}

var _ envelope.KMS = (*KMS)(nil)
