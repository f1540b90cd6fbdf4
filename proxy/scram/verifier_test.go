// SPDX-License-Identifier: GPL-3.0-or-later

package scram

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

func TestParseVerifier(t *testing.T) {
	v := testVerifier(t, "secret")
	good := v.Text()
	got, err := ParseVerifier(good)
	if err != nil {
		t.Fatal(err)
	}
	if got.Text() != good || !bytes.Equal(got.Salt, v.Salt) || got.Iterations != 2 {
		t.Errorf("round trip changed the verifier")
	}
	for _, bad := range []string{
		"", "md5d41d8cd98f00b204e9800998ecf8427e", "secret", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096", "SCRAM-SHA-256$4096:AAAA", "SCRAM-SHA-256$4096:AAAA$AA:AA",
		strings.Replace(good, "$2:", "$:", 1), strings.Replace(good, "$2:", "$0:", 1), strings.Replace(good, "$2:", "$02:", 1), strings.Replace(good, "$2:", "$+2:", 1),
		strings.Replace(good, "$2:", "$10000001:", 1), strings.Replace(good, "$2:MDEy", "$2:MD\nEy", 1), good + "A", good + ":", good[:len(good)-1], " " + good,
		strings.Replace(good, "SCRAM-SHA-256", "SCRAM-SHA-1", 1), "SCRAM-SHA-256$2:" + strings.Repeat("A", 2048),
	} {
		if _, err := ParseVerifier(bad); !errors.Is(err, ErrVerifier) {
			t.Errorf("%q: error %v, want ErrVerifier", bad, err)
		} else if len(bad) > 20 && strings.Contains(err.Error(), bad[20:]) {
			t.Errorf("the error quotes the text: %v", err)
		}
	}
}

func TestVerifierIsNotPrinted(t *testing.T) {
	v := testVerifier(t, "secret")
	js, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{fmt.Sprint(v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), fmt.Sprintf("%x", v), fmt.Sprintf("%s", &v), strings.Trim(string(js), `"`)} {
		if got != "[redacted]" {
			t.Errorf("printed as %q", got)
		}
	}
}

func TestCertHash(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	make509 := func(alg x509.SignatureAlgorithm, pub, priv any) *x509.Certificate {
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), SignatureAlgorithm: alg}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, priv)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	c256 := make509(x509.ECDSAWithSHA256, key.Public(), key)
	c512 := make509(x509.ECDSAWithSHA512, key.Public(), key)
	h256, h512 := sha256.Sum256(c256.Raw), sha512.Sum512(c512.Raw)
	if got, ok := CertHash(c256); !ok || !bytes.Equal(got, h256[:]) {
		t.Errorf("SHA-256 certificate: %x, %v", got, ok)
	}
	if got, ok := CertHash(c512); !ok || !bytes.Equal(got, h512[:]) {
		t.Errorf("SHA-512 certificate: %x, %v", got, ok)
	}
	c256.SignatureAlgorithm = x509.SHA1WithRSA // RFC 5929: replaced by SHA-256
	if got, ok := CertHash(c256); !ok || !bytes.Equal(got, h256[:]) {
		t.Errorf("SHA-1 certificate: %x, %v", got, ok)
	}
	if got, ok := CertHash(make509(x509.PureEd25519, edKey.Public(), edKey)); ok {
		t.Errorf("Ed25519 certificate: %x, want none", got)
	}
	if _, ok := CertHash(nil); ok {
		t.Error("no certificate: want none")
	}
}
