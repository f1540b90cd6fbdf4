// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/CONFIG.md anew")

const (
	configDoc = "../../docs/CONFIG.md"
	docBegin  = "<!-- settings: written by go test ./cmd/hyperion-vault -run TestConfigDoc -update -->\n"
	docEnd    = "<!-- end of settings -->\n"
)

// settingsTable is the part of the document that the struct decides.
func settingsTable() string {
	var b strings.Builder
	b.WriteString("| Setting | Default | |\n|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;")
	for _, st := range settingList() {
		preset := "–"
		if st.preset != "" {
			preset = "`" + st.preset + "`"
		}
		flag := "no flag: it is a secret"
		if st.flag != "" {
			flag = "`" + st.flag + "`"
		}
		fmt.Fprintf(&b, "| `%s`<br>%s | %s | %s Form: %s. |\n", st.name, flag, preset, cell.Replace(st.help), cell.Replace(st.form))
	}
	return b.String()
}

func TestConfigDoc(t *testing.T) {
	text, err := os.ReadFile(configDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), docBegin)
	got, after, ok2 := strings.Cut(rest, docEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no settings between %q and %q", configDoc, docBegin, docEnd)
	}
	want := settingsTable()
	if *update {
		if err := os.WriteFile(configDoc, []byte(before+docBegin+want+docEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("%s is not what the settings say; run: go test ./cmd/hyperion-vault -run TestConfigDoc -update\ngot:\n%s\nwant:\n%s", configDoc, got, want)
	}
}

// TestSettingsAreDescribed keeps the struct complete.
func TestSettingsAreDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, st := range settingList() {
		switch {
		case !strings.HasPrefix(st.name, "VAULT_"):
			t.Errorf("%q: want a name that begins with VAULT_", st.name)
		case seen[st.name]:
			t.Errorf("%s is there twice", st.name)
		case st.help == "" || !strings.HasSuffix(st.help, "."):
			t.Errorf("%s: want a help text that ends with a full stop", st.name)
		case st.form == "":
			t.Errorf("%s: want its form", st.name)
		case st.secret && st.preset != "":
			t.Errorf("%s: a secret has no default", st.name)
		}
		seen[st.name] = true
	}
}
