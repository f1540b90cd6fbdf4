// SPDX-License-Identifier: GPL-3.0-or-later

package devcluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// certificatePaths are those of the certificate and of its key.
func (c *Cluster) certificatePaths() (cert, key string) {
	return filepath.Join(c.dir, "tls.crt"), filepath.Join(c.dir, "tls.key")
}

// makeCertificate makes one for the address that nodes listen on; nobody trusts it.
func (c *Cluster) makeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "hyperion-vault dev"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(0, 1, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.ParseIP(loopback), net.IPv6loopback},
		// Its own issuer, so that `sslrootcert=…/tls.crt` works.
		BasicConstraintsValid: true, IsCA: true,
	}
	if ip := net.ParseIP(c.config.Listen); ip != nil {
		template.IPAddresses = append(template.IPAddresses, ip)
	} else {
		template.DNSNames = append(template.DNSNames, c.config.Listen)
	}
	if host, err := os.Hostname(); err == nil {
		template.DNSNames = append(template.DNSNames, host)
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certPath, keyPath := c.certificatePaths()
	if err := writeFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), account{}); err != nil {
		return err
	}
	return writeFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), account{})
}

// httpClient trusts our own certificate and keeps no connection open.
func (c *Cluster) httpClient() *http.Client {
	transport := &http.Transport{DisableKeepAlives: true, Proxy: nil}
	if c.beyondLoopback() {
		roots := x509.NewCertPool()
		certPath, _ := c.certificatePaths()
		if cert, err := os.ReadFile(certPath); err == nil {
			roots.AppendCertsFromPEM(cert)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport}
}
