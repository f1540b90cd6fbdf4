// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

const testKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

// minimal starts; a case changes it.
func minimal() map[string]string {
	return map[string]string{
		"VAULT_KMS_MODE": "local", "VAULT_ALLOW_LOCAL_KMS": "true", "VAULT_LOCAL_MASTER_KEY": testKey,
		"VAULT_PROXY_LISTEN": "127.0.0.1:6432", "VAULT_API_LISTEN": "127.0.0.1:8200",
	}
}

// parseServe is what kong makes of flags and environment, merged with a file.
func parseServe(t *testing.T, args []string, env map[string]string, file string) (values, []string, error) {
	t.Helper()
	environ := make([]string, 0, len(env))
	for name, value := range env {
		t.Setenv(name, value)
		environ = append(environ, name+"="+value)
	}
	var c commands
	app, err := kong.New(&c, kong.FlagNamer(fieldFlag))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Parse(append([]string{"serve"}, args...)); err != nil {
		t.Fatal(err)
	}
	return load(&c.Serve.Settings, environ, file)
}

func writeConfig(t *testing.T, mode os.FileMode, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.conf")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOrderOfSources(t *testing.T) {
	file := writeConfig(t, 0o600, "# a comment", "", "VAULT_PG_PORT=1003", " VAULT_PG_DBNAME = app ", "VAULT_PG_USER=filed", "VAULT_PG_PASSWORD=a=b #c")
	env := minimal()
	env["VAULT_PG_PORT"], env["VAULT_PG_USER"] = "1002", "environed"
	v, _, err := parseServe(t, []string{"--pg-port", "1001"}, env, file)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"VAULT_PG_PORT":     "1001",      // flag
		"VAULT_PG_USER":     "environed", // environment
		"VAULT_PG_DBNAME":   "app",       // file
		"VAULT_PG_PASSWORD": "a=b #c",    // file: no quoting, no comment behind a value
		"VAULT_PG_POOL_MAX": "16",        // default
	} {
		if got := v[name]; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestMinimalStarts(t *testing.T) {
	v, warnings, err := parseServe(t, nil, minimal(), "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := v.check()
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: got %q, want none", warnings)
	}
	if got, want := c.drain, 20*time.Second; got != want {
		t.Errorf("drain: got %s, want %s", got, want)
	}
	if c.proxyIPs.Contains(netip.MustParseAddr("127.0.0.1")) {
		t.Error("with no allowlist, secrets open for loopback; want: for nobody")
	}
}

// TestFaults has one line per wrong setting: what it is, what it should be, and
// never a secret.
func TestFaults(t *testing.T) {
	loose := writeConfig(t, 0o660, testKey)
	for _, test := range []struct {
		name string
		set  map[string]string // "-" removes
		want string            // all of it, or with … a part
	}{
		{"port", map[string]string{"VAULT_PG_PORT": "54x2"}, `VAULT_PG_PORT holds "54x2": it should be a port number from 1 to 65535`},
		{"port too large", map[string]string{"VAULT_PG_PORT": "65536"}, `VAULT_PG_PORT holds "65536": it should be a port number from 1 to 65535`},
		{"empty", map[string]string{"VAULT_PG_POOL_MAX": ""}, `VAULT_PG_POOL_MAX holds "": it should be a number from 1 to 1000`},
		{"service link", map[string]string{"VAULT_PG_PORT": "tcp://10.0.0.3:5432"}, `…Kubernetes sets this variable for a service…enableServiceLinks: false…`},
		{"service link for a text", map[string]string{"VAULT_PG_USER": "tcp://10.0.0.3:5432"}, `…Kubernetes sets this variable for a service…`},
		{"staleness", map[string]string{"VAULT_MAX_STALENESS": "500ms"}, `VAULT_MAX_STALENESS holds "500ms": it should be 0s, or a time from 1s to 24h`},
		{"audit sync", map[string]string{"VAULT_AUDIT_SYNC": "now"}, `VAULT_AUDIT_SYNC holds "now": it should be batch or always`},
		{"audit keep", map[string]string{"VAULT_AUDIT_KEEP": "0s"}, `VAULT_AUDIT_KEEP holds "0s": it should be a time from 1s to 87600h`},
		{"audit ship", map[string]string{"VAULT_AUDIT_SHIP": "reads"}, `VAULT_AUDIT_SHIP holds "reads": it should be all, writes or off`},
		{"audit retention", map[string]string{"VAULT_AUDIT_RETENTION": "10m"}, `VAULT_AUDIT_RETENTION holds "10m": it should be 0s, or a time from 1h to 876000h`},
		{"audit space", map[string]string{"VAULT_AUDIT_LOW_SPACE": "1GB"}, `VAULT_AUDIT_LOW_SPACE holds "1GB": it should be bytes from 1 to 1099511627776`},
		{"rotation", map[string]string{"VAULT_ROTATION_POLL_SECS": "15s"}, `VAULT_ROTATION_POLL_SECS holds "15s": it should be seconds from 0 to 3600`},
		{"bool", map[string]string{"VAULT_PG_ALLOW_TRUST": "maybe"}, `VAULT_PG_ALLOW_TRUST holds "maybe": it should be true or false`},
		{"enum", map[string]string{"VAULT_REQUIRE_TLS": "none"}, `VAULT_REQUIRE_TLS holds "none": it should be all, secrets or off`},
		{"sslmode", map[string]string{"VAULT_PG_SSLMODE": "verify"}, `…disable, allow, prefer, require, verify-ca or verify-full`},
		{"uuid", map[string]string{"VAULT_ID": "1234"}, `VAULT_ID holds "1234": it should be a UUID`},
		{"allowlist", map[string]string{"VAULT_ALLOWED_IPS": "10.0.0.0/33"}, `VAULT_ALLOWED_IPS holds "10.0.0.0/33": it should be addresses, CIDRs, loopback, samehost, with commas between`},
		{"the original's word for all proxies", map[string]string{"VAULT_TRUST_PROXY": "true"}, `VAULT_TRUST_PROXY holds "true": it should be addresses, CIDRs, loopback, samehost, with commas between, or false`},
		{"bootstrap token, not shown", map[string]string{"VAULT_BOOTSTRAP_TOKEN": "hunter2 "}, `VAULT_BOOTSTRAP_TOKEN is not right (8 bytes, not shown): it should be 1 to 512 visible ASCII characters`},
		{"bootstrap token in a loose file", map[string]string{"VAULT_BOOTSTRAP_TOKEN_FILE": loose}, `VAULT_BOOTSTRAP_TOKEN_FILE holds "` + loose + `": its mode is 0660…`},
		{"lockout", map[string]string{"VAULT_AUTH_LOCKOUT_SECS": "86401"}, `VAULT_AUTH_LOCKOUT_SECS holds "86401": it should be seconds from 0 to 86400`},
		{"listen without port", map[string]string{"VAULT_PROXY_LISTEN": "127.0.0.1"}, `…it should be addresses host:port or socket directories, with commas between`},
		{"api on a socket", map[string]string{"VAULT_API_LISTEN": "/tmp"}, `VAULT_API_LISTEN holds "/tmp": it should be an address host:port`},
		{"hosts", map[string]string{"VAULT_PG_HOSTS": "a,,b"}, `VAULT_PG_HOSTS holds "a,,b": it should be host, host:port, [v6]:port or a socket directory, with commas between`},
		{"master key, not shown", map[string]string{"VAULT_LOCAL_MASTER_KEY": "hunter2"}, `VAULT_LOCAL_MASTER_KEY is not right (7 bytes, not shown): it should be 32 bytes in base64`},
		{"master key of 31 bytes", map[string]string{"VAULT_LOCAL_MASTER_KEY": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg=="}, `…not shown…`},
		{"no master key", map[string]string{"VAULT_LOCAL_MASTER_KEY": "-"}, `VAULT_LOCAL_MASTER_KEY is not set, nor VAULT_LOCAL_MASTER_KEY_FILE: it should be 32 bytes in base64…`},
		{"loose file", map[string]string{"VAULT_LOCAL_MASTER_KEY": "-", "VAULT_LOCAL_MASTER_KEY_FILE": loose}, `VAULT_LOCAL_MASTER_KEY_FILE holds "` + loose + `": its mode is 0660: group or others may read it…`},
		{"file away", map[string]string{"VAULT_LOCAL_MASTER_KEY": "-", "VAULT_LOCAL_MASTER_KEY_FILE": "/nowhere"}, `VAULT_LOCAL_MASTER_KEY_FILE holds "/nowhere": no such file or directory`},
		{"both", map[string]string{"VAULT_LOCAL_MASTER_KEY_FILE": loose}, `VAULT_LOCAL_MASTER_KEY and VAULT_LOCAL_MASTER_KEY_FILE are both set: it should be one of them`},
		{"local not allowed", map[string]string{"VAULT_ALLOW_LOCAL_KMS": "false"}, `…set VAULT_ALLOW_LOCAL_KMS=true`},
		{"no key", map[string]string{"VAULT_KMS_MODE": "aws"}, `VAULT_KMS_KEY_ID holds "": it should be the ARN of a KMS key…`},
		{"an alias", map[string]string{"VAULT_KMS_MODE": "aws", "VAULT_KMS_KEY_ID": "alias/vault"}, `VAULT_KMS_KEY_ID holds "alias/vault": it should be the ARN…`},
		{"an old key", map[string]string{"VAULT_KMS_MODE": "aws", "VAULT_KMS_KEY_ID": "arn:aws:kms:eu-west-2:1:key/a", "VAULT_KMS_DECRYPT_KEY_IDS": "b"}, `VAULT_KMS_DECRYPT_KEY_IDS holds "b": it should be ARNs…`},
		{"a key of the other KMS", map[string]string{"VAULT_KMS_KEY_ID": "arn:aws:kms:eu-west-2:1:key/a"}, `VAULT_KMS_KEY_ID is set, but VAULT_KMS_MODE holds "local": a node knows the keys of one of the two`},
		{"old keys of the other KMS", map[string]string{"VAULT_KMS_DECRYPT_KEY_IDS": "arn:aws:kms:eu-west-2:1:key/a"}, `VAULT_KMS_DECRYPT_KEY_IDS is set, but…`},
		{"no certificates there", map[string]string{"VAULT_PG_SSLROOTCERT": "/nowhere"}, `VAULT_PG_SSLROOTCERT holds "/nowhere": no such file or directory`},
		{"no certificates in it", map[string]string{"VAULT_PG_SSLROOTCERT": "config_test.go"}, `VAULT_PG_SSLROOTCERT holds "config_test.go": no PEM certificate is in it`},
		{"a file away, and more", map[string]string{"VAULT_LOCAL_MASTER_KEY": "-", "VAULT_LOCAL_MASTER_KEY_FILE": "/nowhere", "VAULT_LOG_LEVEL": "loud"}, "VAULT_LOCAL_MASTER_KEY_FILE holds \"/nowhere\": no such file or directory\nVAULT_LOG_LEVEL holds…"},
		{"misspelt", map[string]string{"VAULT_KMS_MODE": "aws", "VAULT_KMS_KEYID": "a"}, "VAULT_KMS_KEY_ID holds \"\": …\nVAULT_KMS_KEYID is not a setting; did you mean VAULT_KMS_KEY_ID?"},
		{"plaintext", map[string]string{"VAULT_PROXY_LISTEN": "127.0.0.1:6432,0.0.0.0:6433"}, `VAULT_PROXY_LISTEN holds "127.0.0.1:6432,0.0.0.0:6433": that can be reached from other hosts…`},
		{"plaintext by a name", map[string]string{"VAULT_API_LISTEN": "vault.example:8200"}, `…reached from other hosts…`},
		{"half a pair", map[string]string{"VAULT_TLS_CERT": "/tmp/x"}, `VAULT_TLS_CERT is set without VAULT_TLS_KEY: it should be both or neither`},
	} {
		t.Run(test.name, func(t *testing.T) {
			env := minimal()
			for name, value := range test.set {
				if value == "-" {
					delete(env, name)
					continue
				}
				env[name] = value
			}
			_, err := settle(parseServe(t, nil, env, ""))
			if err == nil {
				t.Fatal("no error")
			}
			if got := err.Error(); !matches(got, test.want) {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), testKey) {
				t.Error("the error shows a secret")
			}
		})
	}
}

// matches compares with a pattern in which … stands for anything.
func matches(text, pattern string) bool {
	parts := strings.Split(pattern, "…")
	if !strings.HasPrefix(text, parts[0]) || !strings.HasSuffix(text, parts[len(parts)-1]) {
		return false
	}
	for _, part := range parts {
		_, rest, ok := strings.Cut(text, part)
		if !ok {
			return false
		}
		text = rest
	}
	return true
}

// TestAllFaultsAtOnce: an operator should not have to start five times.
func TestAllFaultsAtOnce(t *testing.T) {
	env := minimal()
	env["VAULT_PG_PORT"], env["VAULT_DRAIN_SECS"], env["VAULT_LOG_LEVEL"] = "x", "-1", "loud"
	v, _, err := parseServe(t, nil, env, "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.check()
	if err == nil {
		t.Fatal("no error")
	}
	if got := strings.Count(err.Error(), "\n") + 1; got != 3 {
		t.Errorf("lines: got %d, want 3:\n%v", got, err)
	}
}

func TestKeptSecret(t *testing.T) {
	for _, test := range []struct {
		uid  uint32
		mode os.FileMode
		want bool
	}{
		{1000, 0o600, true},
		{1000, 0o400, true},
		{1000, 0o640, false},
		{1000, 0o604, false},
		{0, 0o600, true},
		{0, 0o440, true},
		{0, 0o640, true},
		{0, 0o660, false},
		{0, 0o444, false},
	} {
		if got := keptSecret(test.uid, test.mode); got != test.want {
			t.Errorf("owner %d, mode %#o: got %v, want %v", test.uid, test.mode, got, test.want)
		}
	}
}

func TestConfigFileFaults(t *testing.T) {
	for _, test := range []struct {
		name  string
		mode  os.FileMode
		lines []string
		want  string
	}{
		{"no =", 0o600, []string{"VAULT_PG_PORT=1", "hunter2"}, "…, line 2: it should be NAME=value, or a comment that begins with #"},
		{"no name", 0o600, []string{"=hunter2"}, "…, line 1: it should be NAME=value…"},
		{"twice", 0o600, []string{"VAULT_PG_PORT=1", "VAULT_PG_PORT=2"}, "…, line 2: VAULT_PG_PORT stands there twice"},
		{"secret for all to see", 0o644, []string{"VAULT_PG_PASSWORD=hunter2"}, "… holds VAULT_PG_PASSWORD, and its mode is 0644: group or others may read it…"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := readConfigFile(writeConfig(t, test.mode, test.lines...))
			if err == nil {
				t.Fatal("no error")
			}
			if !matches(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got  %s\nwant %s", err, test.want)
			}
		})
	}
	if _, err := readConfigFile(writeConfig(t, 0o644, "VAULT_PG_PORT=1")); err != nil {
		t.Errorf("a file without a secret may be read by all: %v", err)
	}
	if _, err := readConfigFile("/nowhere"); err == nil || err.Error() != `--config or VAULT_CONFIG holds "/nowhere": no such file or directory` {
		t.Errorf("a missing file: got %v", err)
	}
}

func TestWarnings(t *testing.T) {
	file := writeConfig(t, 0o600, "VAULT_PG_HOST=a", "AWS_REGION=eu-central-1")
	env := minimal()
	env["VAULT_ALLOWED_IP"] = "loopback"        // two edits
	env["VAULT_ADDR"] = "http://127.0.0.1:8200" // another program's
	env["VAULT_SERVICE_HOST"] = "10.0.0.3"      // Kubernetes
	env["VAULT_CONFIG"] = file                  // known
	env["VAULT_READ_AUTH"] = "both"
	_, got, err := parseServe(t, nil, env, file)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"AWS_REGION in the configuration file is not a setting and is ignored",
		"VAULT_ALLOWED_IP is not a setting; did you mean VAULT_ALLOWED_IPS?",
		"VAULT_PG_HOST is not a setting; did you mean VAULT_PG_HOSTS?",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"a", "", 1},
		{"", "ab", 2},
		{"VAULT_ID", "VAULT_ID", 0},
		{"VAULT_DI", "VAULT_ID", 2},
		{"VAULT_PG_HOST", "VAULT_PG_HOSTS", 1},
		{"kitten", "sitting", 3},
	} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance(%q, %q): got %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for _, test := range []struct {
		text string
		port int
		want string // network and address; empty: refused
	}{
		{"127.0.0.1:5432", 0, "tcp 127.0.0.1:5432"},
		{":5432", 0, "tcp :5432"},
		{"db1", 5433, "tcp db1:5433"},
		{"db1:5434", 5433, "tcp db1:5434"},
		{"[::1]:5432", 0, "tcp [::1]:5432"},
		{"::1", 5432, "tcp [::1]:5432"},
		{"/run/postgresql", 0, "unix /run/postgresql"},
		{"db1", 0, ""},
		{"", 5432, ""},
		{"db1:", 5432, ""},
		{"db1:0", 5432, ""},
		{"db1:65536", 5432, ""},
		{"db1:pg", 5432, ""},
		{"a:b:c", 5432, ""},
		{"http://db1:5432", 5432, ""},
		{"db 1:5432", 5432, ""},
	} {
		e, err := parseEndpoint(test.text, test.port)
		got := ""
		if err == nil {
			got = e.network + " " + e.address
		}
		if got != test.want {
			t.Errorf("parseEndpoint(%q, %d): got %q, want %q", test.text, test.port, got, test.want)
		}
	}
}

func TestBeyondLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:1": false, "127.1.2.3:1": false, "[::1]:1": false, "localhost:1": false,
		":1": true, "0.0.0.0:1": true, "[::]:1": true, "10.0.0.1:1": true, "db1:1": true,
	} {
		if got := (endpoint{network: "tcp", address: address}).beyondLoopback(); got != want {
			t.Errorf("%s: got %v, want %v", address, got, want)
		}
	}
}

func TestSocketOfList(t *testing.T) {
	env := minimal()
	env["VAULT_PROXY_LISTEN"], env["VAULT_LOCAL_PG"], env["VAULT_PG_PORT"] = "/run/hv, 127.0.0.1:7000", "/run/postgresql", "5433"
	v, _, err := parseServe(t, nil, env, "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := v.check()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.proxyListen[0].address, "/run/hv/.s.PGSQL.7000"; got != want {
		t.Errorf("proxy: got %s, want %s", got, want)
	}
	if got, want := c.local.address, "/run/postgresql/.s.PGSQL.5433"; got != want {
		t.Errorf("local: got %s, want %s", got, want)
	}
}

func TestCertificate(t *testing.T) {
	cert, key := makePair(t)
	env := minimal()
	env["VAULT_TLS_CERT"], env["VAULT_TLS_KEY"], env["VAULT_PROXY_LISTEN"] = cert, key, "0.0.0.0:6432"
	load := func() error {
		v, _, err := parseServe(t, nil, env, "")
		if err != nil {
			return err
		}
		_, err = v.check()
		return err
	}
	if err := load(); err != nil {
		t.Errorf("a pair that fits: %v", err)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := load(); err == nil || !strings.Contains(err.Error(), "0644") {
		t.Errorf("a key that all may read: got %v, want an error with its mode", err)
	}
	_, env["VAULT_TLS_KEY"] = makePair(t)
	if err := load(); err == nil {
		t.Error("a key of another certificate: no error")
	}
}

func makePair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
