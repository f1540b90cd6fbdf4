// SPDX-License-Identifier: GPL-3.0-or-later

package awskms

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
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

// TestNoKMS: what answers anything else than a KMS does says nothing of a record.
func TestNoKMS(t *testing.T) {
	const key = "arn:aws:kms:eu-west-2:111122223333:key/6c1f5a3e-0d5c-4f6e-9b1a-4b7e2c9d8f10"
	s := serve(t, (*httptest.Server).Start)
	t.Setenv("AWS_ENDPOINT_URL_KMS", s.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	k, err := New(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	for what, answer := range map[string]http.HandlerFunc{
		"nothing":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"no fields": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") },
		"others":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"status":"ok"}`) },
		"a page":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>log in</html>") },
		"a fault":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) },
	} {
		s.mu.Lock()
		s.answer = answer
		s.mu.Unlock()
		_, err := k.Unwrap(t.Context(), key, []byte("wrapped"), envelope.Context{Secret: "a"})
		var e *envelope.KMSError
		if !errors.As(err, &e) || e.Kind != envelope.KMSUnavailable {
			t.Errorf("%s: got %v, want unavailable", what, err)
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
