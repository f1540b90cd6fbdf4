// SPDX-License-Identifier: GPL-3.0-or-later

package hba

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCases decides about every client of testdata/*.txt, with the world that
// its README describes.
func TestCases(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			file, clients, _ := strings.Cut(string(text), "\n--\n")
			rules, err := Parse(rowsOf(t, file))
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(clients) {
				who, want, _ := strings.Cut(strings.TrimSpace(line), " => ")
				c := clientOf(t, who)
				if got := shown(rules.Decide(c, world(rules.Ask(c), c.User))); got != want {
					t.Errorf("%s: got %s, want %s", who, got, want)
				}
			}
		})
	}
}

func shown(v Verdict) string {
	switch v.Outcome {
	case Admitted:
		return "in"
	case Rejected:
		return "reject"
	case NotApplied:
		return fmt.Sprintf("line %d", v.Line.Number)
	default:
		return "none"
	}
}

func clientOf(t *testing.T, text string) Client {
	t.Helper()
	words := strings.Fields(text)
	if len(words) < 3 {
		t.Fatalf("client %q", text)
	}
	c := Client{User: words[1], Database: words[2], TLS: slices.Contains(words, "tls"), Physical: slices.Contains(words, "physical")}
	if words[0] != "local" {
		c.Addr = netip.MustParseAddr(words[0])
	}
	return c
}

// world answers questions, and only those.
func world(q Questions, user string) Facts {
	f := Facts{Roles: map[string]bool{}, Matches: map[Pattern]bool{}}
	for _, role := range q.Roles {
		f.Roles[role] = role == user || slices.Contains(map[string][]string{"alice": {"staff"}, "bob": {"crew", "staff"}}[user], role)
	}
	for _, p := range q.Matches {
		f.Matches[p] = regexp.MustCompile(p.Expression).MatchString(p.Text)
	}
	if q.Interfaces {
		for _, i := range []string{"127.0.0.1/8", "::1/128", "198.51.100.1/24", "203.0.113.1/24", "fd00:51::1/64"} {
			f.Interfaces = append(f.Interfaces, netip.MustParsePrefix(i))
		}
	}
	return f
}

// rowsOf reads simple lines as the server shows them.
func rowsOf(t *testing.T, file string) []Row {
	t.Helper()
	var rows []Row
	name := ""
	if strings.HasPrefix(file, "# from 16\n") {
		name = "/etc/postgresql/pg_hba.conf"
	}
	for i, line := range strings.Split(file, "\n") {
		words := strings.Fields(strings.ReplaceAll(line, `"`, ""))
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		row := Row{File: name, Line: i + 1, Type: words[0], Databases: strings.Split(words[1], ","), Users: strings.Split(words[2], ",")}
		rest := words[3:]
		if row.Type != "local" {
			row.Address, rest = rest[0], rest[1:]
			if p, err := netip.ParsePrefix(row.Address); err == nil {
				row.Address = p.Addr().String()
				row.Netmask = maskOf(p).String()
			} else if _, err := netip.ParseAddr(rest[0]); err == nil {
				row.Netmask, rest = rest[0], rest[1:]
			}
		}
		row.Method, row.Options = rest[0], rest[1:]
		rows = append(rows, row)
	}
	return rows
}

func maskOf(p netip.Prefix) netip.Addr {
	b := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
