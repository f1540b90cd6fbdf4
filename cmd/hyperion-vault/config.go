// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
)

// values are settings as text, each from the first that names it: flag,
// environment, file, default. A setting that nobody names is not in it.
type values map[string]string

// A faultError is one wrong setting in one line.
type faultError struct{ line string }

func (e *faultError) Error() string { return e.line }

func faultf(format string, args ...any) error {
	return &faultError{line: fmt.Sprintf(format, args...)}
}

// load merges what kong found (flags, then environment) with the file and the
// defaults. The warnings are for the log; an error joins one line per fault. Values come
// with it if only files of secrets are at fault.
func load(s *settings, environ []string, file string) (v values, warnings []string, err error) {
	lines := map[string]string{}
	if file != "" {
		if lines, err = readConfigFile(file); err != nil {
			return nil, nil, err
		}
	}
	env := vaultEnvironment(environ)
	v = values{}
	fields := reflect.ValueOf(s).Elem()
	for _, st := range settingList() {
		if st.secret { // no flag: kong does not know it
			if text, ok := env[st.name]; ok {
				v[st.name] = text
			}
		} else if p, ok := fields.Field(st.index).Interface().(*string); ok && p != nil {
			v[st.name] = *p
		}
		if _, ok := v[st.name]; ok {
			continue
		}
		if text, ok := lines[st.name]; ok {
			v[st.name] = text
		} else if st.preset != "" {
			v[st.name] = st.preset
		}
	}
	warnings = unknownNames(env, lines)
	return v, warnings, v.readSecrets()
}

// settle looks at what load found. The error joins one line per fault, of both, and what
// is misspelt: that may be why.
func settle(v values, warnings []string, err error) (*nodeConfig, error) {
	if v == nil {
		return nil, err
	}
	config, faults := v.check()
	if err = errors.Join(err, faults); err == nil {
		return config, nil
	}
	for _, warning := range warnings {
		err = errors.Join(err, faultf("%s", warning))
	}
	return nil, err
}

// readSecrets takes the secrets that are in files of their own.
func (v values) readSecrets() error {
	var errs []error
	for _, name := range []string{"VAULT_PG_PASSWORD", "VAULT_LOCAL_MASTER_KEY", "VAULT_BOOTSTRAP_TOKEN"} {
		path, ok := v[name+"_FILE"]
		if !ok || path == "" {
			continue
		}
		if _, both := v[name]; both {
			errs = append(errs, faultf("%s and %s_FILE are both set: it should be one of them", name, name))
			continue
		}
		secret, err := readSecretFile(path)
		if err != nil {
			errs = append(errs, faultf("%s_FILE holds %q: %s", name, path, err))
			continue
		}
		v[name] = secret
	}
	return errors.Join(errs...)
}

// vaultEnvironment is the part of the environment that could be meant for us.
func vaultEnvironment(environ []string) map[string]string {
	found := map[string]string{}
	for _, entry := range environ {
		if name, text, ok := strings.Cut(entry, "="); ok && strings.HasPrefix(name, "VAULT_") {
			found[name] = text
		}
	}
	return found
}

// unknownNames warns of what looks misspelt, and of lines that mean nothing.
func unknownNames(env, lines map[string]string) []string {
	known := []string{"VAULT_CONFIG"}
	for _, st := range settingList() {
		known = append(known, st.name)
	}
	var warnings []string
	seen := map[string]bool{}
	check := func(name string, inFile bool) {
		if seen[name] || slices.Contains(known, name) {
			return
		}
		seen[name] = true
		near := nearest(name, known)
		switch {
		case near != "":
			warnings = append(warnings, fmt.Sprintf("%s is not a setting; did you mean %s?", name, near))
		case inFile:
			warnings = append(warnings, name+" in the configuration file is not a setting and is ignored")
		}
	}
	for name := range lines {
		check(name, true)
	}
	for name := range env {
		check(name, false)
	}
	slices.Sort(warnings)
	return warnings
}

// nearest is the known name within two edits, or "".
func nearest(name string, known []string) string {
	best, bestDistance := "", 3
	for _, k := range known {
		if d := distance(name, k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is Levenshtein's; the names are short.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// readConfigFile reads lines NAME=value. There is no quoting: a value is all
// that stands behind the first "=", without the blanks around it.
func readConfigFile(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, faultf("--config or VAULT_CONFIG holds %q: %s", path, cause(err))
	}
	lines := map[string]string{}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || !isName(name) { // the line itself may be a secret: not shown
			return nil, faultf("%s, line %d: it should be NAME=value, or a comment that begins with #", path, i+1)
		}
		if _, twice := lines[name]; twice {
			return nil, faultf("%s, line %d: %s stands there twice", path, i+1, name)
		}
		lines[name] = strings.TrimSpace(value)
	}
	for _, st := range settingList() {
		if _, ok := lines[st.name]; ok && st.secret {
			if err := secretMode(path); err != nil {
				return nil, faultf("%s holds %s, and %s", path, st.name, err)
			}
		}
	}
	return lines, nil
}

func isName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z', c == '_', i > 0 && c >= '0' && c <= '9':
		default:
			return false
		}
	}
	return true
}

// maxSecretFile is far above any password or key.
const maxSecretFile = 16 << 10

// readSecretFile returns the content without the line break that editors add.
func readSecretFile(path string) (string, error) {
	if err := secretMode(path); err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", cause(err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxSecretFile {
		return "", fmt.Errorf("it should be a file of at most %d bytes", maxSecretFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", cause(err)
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if secret == "" {
		return "", errors.New("the file is empty")
	}
	return secret, nil
}

// secretMode refuses a file that others on this host could read.
func secretMode(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return cause(err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if mode := info.Mode().Perm(); !ok || !keptSecret(stat.Uid, mode) {
		return fmt.Errorf("its mode is %#o: group or others may read it; it should be 0600 (chmod 600 %s), or root's and 0640", mode, path)
	}
	return nil
}

// keptSecret is PostgreSQL's rule for the key of its certificate: the file is its
// owner's alone, or root's and for a group that we are in, as Kubernetes mounts a
// Secret for who is not root.
func keptSecret(uid uint32, mode os.FileMode) bool {
	return mode&0o077 == 0 || uid == 0 && mode&0o027 == 0
}

// forget replaces the secrets by their hashes, which still tell whether a later
// reading differs.
func (v values) forget() {
	for _, st := range settingList() {
		if text, ok := v[st.name]; ok && st.secret {
			hash := sha256.Sum256([]byte(text))
			v[st.name] = hex.EncodeToString(hash[:])
		}
	}
}

// cause drops the path that the os package puts in front: we name it ourselves.
func cause(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
