// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const packagedConfig = "../../packaging/deb/hyperion-vault.conf"

// TestPackagedConfig: the file that the package installs is right as it is, but
// for the key that only the operator has, and listens on loopback only.
func TestPackagedConfig(t *testing.T) {
	lines, err := readConfigFile(packagedConfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"VAULT_PROXY_LISTEN", "VAULT_API_LISTEN", "VAULT_METRICS_LISTEN"} {
		if !strings.HasPrefix(lines[name], "127.0.0.1:") {
			t.Errorf("%s=%s, want an address on loopback", name, lines[name])
		}
	}
	if got := lines["VAULT_READ_AUTH"]; got != "both" {
		t.Errorf("VAULT_READ_AUTH=%s, want both", got)
	}

	v, warnings, err := load(&settings{}, nil, withSecretFiles(t, packagedConfig))
	if err != nil || len(warnings) != 0 {
		t.Fatalf("warnings %q, error %v", warnings, err)
	}
	_, err = v.check()
	if err == nil || strings.Count(err.Error(), "\n") != 0 || !strings.Contains(err.Error(), "VAULT_KMS_KEY_ID") {
		t.Errorf("error %v, want one line about VAULT_KMS_KEY_ID", err)
	}
}

// TestPackagedExamples: what stands in comments are settings too.
func TestPackagedExamples(t *testing.T) {
	text, err := os.ReadFile(packagedConfig)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, _, ok := strings.Cut(strings.TrimPrefix(line, "#"), "=")
		if !ok || !isName(name) {
			continue
		}
		if !slices.ContainsFunc(settingList(), func(st setting) bool { return st.name == name }) {
			t.Errorf("%s is not a setting", name)
		}
	}
}

// withSecretFiles is the file with the paths of another host replaced by some of
// this one.
func withSecretFiles(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	password := filepath.Join(dir, "password")
	config := filepath.Join(dir, "hyperion-vault.conf")
	replaced := strings.ReplaceAll(string(text), "/etc/hyperion-vault/vault_service.password", password)
	for _, line := range []string{"VAULT_TLS_CERT=", "VAULT_TLS_KEY="} {
		replaced = strings.ReplaceAll(replaced, "\n"+line, "\n#"+line)
	}
	for file, content := range map[string]string{password: "secret", config: replaced} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config
}

// TestUnitRestarts: systemd starts a node again however it ends, but for a fault of its
// settings, which each of these is.
func TestUnitRestarts(t *testing.T) {
	unit, err := os.ReadFile("../../packaging/deb/hyperion-vault.service")
	if err != nil {
		t.Fatal(err)
	}
	if line := fmt.Sprintf("\nRestartPreventExitStatus=%d\n", exitConfig); !strings.Contains(string(unit), line) {
		t.Errorf("the unit has no line %q", line)
	}
	wrong := writeConfig(t, 0o600, "VAULT_LOG_LEVEL=loud")
	for _, args := range [][]string{{"serve", "--config", wrong}, {"serve", "--config", "/none"}, {"serve", "--no-such-flag"}, {"serve", "argument"}, {"serve", "--log-level"}} {
		if code, _, errs := command(t, "", args...); code != exitConfig {
			t.Errorf("%q: got %d, want %d: %s", args, code, exitConfig, errs)
		}
	}
	if code, _, errs := command(t, "", "flush", "argument"); code != exitUsage {
		t.Errorf("another command: got %d, want %d: %s", code, exitUsage, errs)
	}
}
