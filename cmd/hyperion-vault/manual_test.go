// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

const manualPage = "../../packaging/man/hyperion-vault.1"

// model is the table of commands as the parser sees it.
func model(t *testing.T) *kong.Application {
	t.Helper()
	app, err := kong.New(&commands{}, kong.Name("hyperion-vault"), kong.FlagNamer(fieldFlag), kong.PostBuild(describeSettings))
	if err != nil {
		t.Fatal(err)
	}
	return app.Model
}

// generated compares a file that is made from the code with what the code says
// today, or writes it.
func generated(t *testing.T, path, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the commands and settings say; run: go test ./cmd/hyperion-vault -run '^TestManual$|^TestCompletions$' -update", path)
	}
}

// TestManual keeps the manual page true.
func TestManual(t *testing.T) {
	generated(t, manualPage, manual(model(t)))
}

func manual(app *kong.Application) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(`.\" SPDX-License-Identifier: GPL-3.0-or-later`)
	p(`.\" Written by go test ./cmd/hyperion-vault -run '^TestManual$' -update`)
	p(`.TH HYPERION\-VAULT 1 "" "hyperion\-vault" "User Commands"`)
	p(".SH NAME\nhyperion\\-vault \\- secrets vault for replicated PostgreSQL")
	p(".SH SYNOPSIS\n.B hyperion\\-vault\n.I COMMAND\n[\\fIARGUMENT\\fR] [\\fIFLAG\\fR ...]")
	p(".SH DESCRIPTION\n%s", roff("A node runs beside each PostgreSQL server of a cluster. Clients connect to it as to PostgreSQL; it seals the values of secrets "+
		"before the server sees them, and opens them on the way back. So tables, WAL, logs, replicas and dumps hold ciphertext only. "+
		"The other commands prepare a cluster, manage it, and put and get secrets by REST."))
	p(".SH COMMANDS")
	for _, c := range leaves(app.Node) {
		p(".SS %s", roff(commandLine(c)))
		p("%s", roff(c.Help))
		if c.Name == "serve" {
			p("%s", roff("Its settings are below; each can be a flag."))
		}
		for _, f := range c.Flags {
			if f.Hidden || f.Name == "help" || f.Tag.Has("form") {
				continue
			}
			p(".TP\n.B %s\n%s", roff(flagText(f)), roff(flagHelp(f)))
		}
	}
	p(".SH SETTINGS\n%s", roff("Each is taken from the first of these that names it: its flag, the environment, the file of --config (lines NAME=value), the default. "+
		"Secrets have no flag."))
	for _, st := range settingList() {
		name := st.name
		if st.flag != "" {
			name += ", " + st.flag
		}
		text := st.help + " Form: " + st.form + "."
		if st.preset != "" {
			text += " Default: " + st.preset + "."
		}
		p(".TP\n.B %s\n%s", roff(name), roff(text))
	}
	p(".SH SIGNALS")
	for _, s := range [][2]string{
		{"SIGHUP", "The node reads its settings again. A fault anywhere changes nothing."},
		{"SIGUSR2", "The node forgets its data keys."},
		{"SIGTERM, SIGINT", "Sessions may finish their transactions for VAULT_DRAIN_SECS; the second signal ends the process at once."},
	} {
		p(".TP\n.B %s\n%s", roff(s[0]), roff(s[1]))
	}
	p(".SH EXIT STATUS")
	for _, e := range []struct {
		code int
		text string
	}{
		{exitOK, "It was done; of status: the node is ready."},
		{exitFault, "It could not be done; of status: the node is not ready."},
		{exitUsage, "A flag, an argument or a setting is wrong; of status: or no node answers. Of serve: it crashed."},
		{exitBlind, "What audit verify, export and tail should read cannot be read."},
		{exitConfig, "Of serve: a flag, an argument or a setting is wrong."},
	} {
		p(".TP\n.B %d\n%s", e.code, roff(e.text))
	}
	p(".SH FILES")
	for _, f := range [][2]string{
		{"/etc/hyperion-vault/hyperion-vault.conf", "The settings that the systemd unit names to the node."},
		{"/var/lib/hyperion-vault", "The node's own directory: which vault it serves, its audit records, the socket for status and flush."},
	} {
		p(".TP\n.I %s\n%s", roff(f[0]), roff(f[1]))
	}
	p(".SH SEE ALSO\n.BR psql (1),\n.BR systemctl (1)\n.PP\n%s", roff("/usr/share/doc/hyperion-vault: OPERATIONS.md, CONFIG.md, SQL.md, API.md, ERRORS.md"))
	return b.String()
}

// leaves are the commands that can be run, in the order of the table.
func leaves(n *kong.Node) []*kong.Node {
	var list []*kong.Node
	for _, c := range n.Children {
		if c.Leaf() {
			list = append(list, c)
		}
		list = append(list, leaves(c)...)
	}
	return list
}

// commandLine is a command with its arguments.
func commandLine(n *kong.Node) string {
	text := strings.TrimPrefix(n.Path(), "hyperion-vault ")
	for _, a := range n.Positional {
		if !strings.Contains(text, a.Summary()) { // the path may have it already
			text += " " + a.Summary()
		}
	}
	return text
}

func flagText(f *kong.Flag) string {
	if f.IsBool() {
		return "--" + f.Name
	}
	return "--" + f.Name + "=" + f.FormatPlaceHolder()
}

func flagHelp(f *kong.Flag) string {
	text := f.Help
	if len(f.Envs) > 0 {
		text += " (" + strings.Join(f.Envs, ", ") + ")"
	}
	return text
}

// roff is text that the formatter prints as it is.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
