// SPDX-License-Identifier: GPL-3.0-or-later

package scram

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
)

// CertHash returns the tls-server-end-point value of a certificate (RFC 5929
// section 4.1): its hash by the hash function of its own signature, with MD5
// and SHA-1 replaced by SHA-256. False for a signature that names no single
// hash function (Ed25519) or an unknown one: such a connection cannot be bound.
func CertHash(cert *x509.Certificate) ([]byte, bool) {
	if cert == nil || len(cert.Raw) == 0 {
		return nil, false
	}
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.DSAWithSHA256, x509.ECDSAWithSHA256:
		h := sha256.Sum256(cert.Raw)
		return h[:], true
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h := sha512.Sum384(cert.Raw)
		return h[:], true
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h := sha512.Sum512(cert.Raw)
		return h[:], true
	case x509.UnknownSignatureAlgorithm, x509.MD2WithRSA, x509.PureEd25519:
		return nil, false
	default:
		return nil, false
	}
}
