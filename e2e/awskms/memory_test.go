// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package awskms

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// operations is how many secrets are put and read before the node's memory is
// looked through; `make kms-many` has 10,000.
var operations = flag.Int("operations", 300, "secrets that are put and read before the node's memory is looked through")

// TestMemory: after work and a flush, the running process holds no data key, no
// key derived from one, no value and no ClientKey of a session that has ended.
func TestMemory(t *testing.T) {
	n := shared.Nodes[0]
	readable(t, n.PID)
	user := shared.AddUser(t, "memory", "*", "*")
	before.count()
	values, keys := map[string]string{}, newHaystack()
	keys.add("the ClientKey", clientKey(t, user))
	const sessions = 3
	for session := range sessions {
		conn, err := pgx.Connect(t.Context(), shared.DSN(0, user))
		if err != nil {
			t.Fatal(err)
		}
		for i := range *operations / sessions {
			name := fmt.Sprintf("memory/%d/%d", session, i)
			values[name] = fmt.Sprintf("value %x of %s", sha256.Sum256([]byte(name)), name)
			cluster.Exec(t, conn, "SELECT vault.put_secret($1, $2)", name, values[name])
			if got := cluster.Text(t, conn, "SELECT vault.read_secret($1)", name); got != values[name] {
				t.Fatalf("%s: got %q", name, got)
			}
		}
		if session == sessions-1 && keys.search(t, n.PID) == "" {
			t.Error("the ClientKey was not found while its session is open: the search finds nothing")
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	h := newHaystack()
	h.add("the ClientKey", clientKey(t, user))
	for name, value := range values {
		h.add("the value of "+name, []byte(value))
	}
	h.addKeys(t)
	h.nothingLeft(t, n.PID)
}

// readable skips a test where nobody may look: without root, or over a stricter
// ptrace_scope.
func readable(t *testing.T, pid int) {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Skipf("NOT TESTED: the node's memory cannot be read here: %v", err)
	}
	_ = mem.Close() // it was only tried
}

// addKeys adds the data keys that the KMS has answered, and the keys derived from
// them.
func (h *haystack) addKeys(t *testing.T) {
	t.Helper()
	before.mu.Lock()
	defer before.mu.Unlock()
	for i, dek := range before.keys {
		h.add(fmt.Sprintf("data key %d", i), dek)
		const info = "\x01\x01" // the record's format and algorithm (docs/ENVELOPE.md)
		okm, err := hkdf.Key(sha256.New, dek, []byte("hyperion-vault/envelope/1"), info, 64)
		if err != nil {
			t.Fatal(err)
		}
		h.add(fmt.Sprintf("the encryption key of data key %d", i), okm[:32])
	}
	if keys := len(before.keys); keys < *operations/3*3 {
		t.Fatalf("%d data keys were seen, want %d", keys, *operations/3*3)
	}
}

// nothingLeft empties the cache and waits until nothing is found any more.
func (h *haystack) nothingLeft(t *testing.T, pid int) {
	t.Helper()
	if found := h.search(t, pid); !strings.Contains(found, "encryption key") {
		t.Fatal("the keys that are in use were not found: the search finds nothing")
	}
	flush(t)
	began, found := time.Now(), h.search(t, pid)
	for found != "" && time.Since(began) < 2*time.Minute {
		t.Logf("%v after the flush: %d places", time.Since(began).Round(time.Millisecond), strings.Count(found, "\n"))
		found = h.search(t, pid)
	}
	if found != "" {
		t.Fatalf("the node's memory still holds\n%s", found)
	}
	t.Logf("%v after the flush: nothing", time.Since(began).Round(time.Millisecond))
}

// clientKey is what a node keeps of a session's log-in (RFC 5802).
func clientKey(t *testing.T, user string) []byte {
	t.Helper()
	super := shared.Connect(t, shared.SuperDSN(0))
	verifier := cluster.Text(t, super, "SELECT rolpassword FROM pg_authid WHERE rolname = $1", user)
	head, _, _ := strings.Cut(strings.TrimPrefix(verifier, "SCRAM-SHA-256$"), "$")
	count, salt, _ := strings.Cut(head, ":")
	iterations, err := strconv.Atoi(count)
	if err != nil {
		t.Fatal(err)
	}
	salted, err := base64.StdEncoding.DecodeString(salt)
	if err != nil {
		t.Fatal(err)
	}
	password, err := pbkdf2.Key(sha256.New, "pw-"+user, salted, iterations, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, password)
	mac.Write([]byte("Client Key"))
	return mac.Sum(nil)
}

// A haystack is searched for many needles at once, by their first eight bytes.
type haystack struct {
	needles map[uint64][]needle
	maybe   []bool // by 20 bits of those: most places are out at once
	longest int
}

type needle struct {
	what  string
	bytes []byte
}

const sieve = 1 << 20

func newHaystack() *haystack {
	return &haystack{needles: map[uint64][]needle{}, maybe: make([]bool, sieve)}
}

// add adds a secret as it is, in hexadecimal digits and in base64.
func (h *haystack) add(what string, secret []byte) {
	forms := map[string][]byte{
		"": secret, " in hex": []byte(hex.EncodeToString(secret)), " in HEX": bytes.ToUpper([]byte(hex.EncodeToString(secret))),
		" in base64": []byte(base64.RawStdEncoding.EncodeToString(secret)), " in base64url": []byte(base64.RawURLEncoding.EncodeToString(secret)),
	}
	for form, b := range forms {
		first := binary.LittleEndian.Uint64(b)
		h.needles[first] = append(h.needles[first], needle{what + form, b})
		h.maybe[hashed(first)] = true
		h.longest = max(h.longest, len(b))
	}
}

func hashed(first uint64) uint64 { return first * 0x9E3779B97F4A7C15 >> 44 }

// search reads all of a process's memory, and tells what it found where.
func (h *haystack) search(t *testing.T, pid int) string {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	var out strings.Builder
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		low, high, _ := strings.Cut(f[0], "-")
		from, err1 := strconv.ParseUint(low, 16, 64)
		to, err2 := strconv.ParseUint(high, 16, 64)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if f[1][0] == 'r' && !strings.Contains(line, "[v") { // vvar and vsyscall are the kernel's
			h.searchArea(&out, mem, int64(from), int64(to), f[len(f)-1])
		}
	}
	return out.String()
}

func (h *haystack) searchArea(out *strings.Builder, mem io.ReaderAt, from, to int64, name string) {
	const chunk = 4 << 20
	buffer := make([]byte, chunk)
	for at := from; at < to; at += int64(chunk - h.longest) {
		n, _ := mem.ReadAt(buffer[:min(chunk, to-at)], at) // what was never touched cannot be read
		b := buffer[:n]
		for i := 0; i+8 <= len(b); i++ {
			first := binary.LittleEndian.Uint64(b[i:])
			if !h.maybe[hashed(first)] {
				continue
			}
			for _, n := range h.needles[first] {
				if bytes.HasPrefix(b[i:], n.bytes) {
					fmt.Fprintf(out, "%s at %x, in %s\n", n.what, at+int64(i), name)
				}
			}
		}
	}
}
