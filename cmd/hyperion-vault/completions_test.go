// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

const completions = "../../packaging/completions/"

// TestCompletions keeps what shells offer true.
func TestCompletions(t *testing.T) {
	app := model(t)
	generated(t, completions+"hyperion-vault.bash", bash(app.Node))
	generated(t, completions+"_hyperion-vault", zsh(app.Node))
	generated(t, completions+"hyperion-vault.fish", fish(app.Node))
}

// TestBashCompletion asks bash itself.
func TestBashCompletion(t *testing.T) {
	for line, want := range map[string][]string{
		"hyperion-vault st":                           {"status"},
		"hyperion-vault status --s":                   {"--sessions"},
		"hyperion-vault token cr":                     {"create"},
		"hyperion-vault token create --ro":            {"--role"},
		"hyperion-vault serve --config /etc/x --chec": {"--check"},
		"hyperion-vault serve --read-auth ":           {"both", "ip", "token"},
		"hyperion-vault serve --read-auth b":          {"both"},
		"hyperion-vault serve --config compl":         {"completions_test.go"},
		"hyperion-vault get na":                       nil,
	} {
		words := strings.Split(line, " ")
		script := `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
			compopt() { [ "$*" = '-o default' ] && COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")); }
			_hyperion_vault; printf '%s\n' "${COMPREPLY[@]}"`
		out, err := exec.CommandContext(t.Context(), "bash", append([]string{"-c", script, "bash", completions + "hyperion-vault.bash"}, words...)...).CombinedOutput()
		if err != nil {
			t.Errorf("%q: %v: %s", line, err, out)
		}
		got := strings.Fields(string(out))
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

var (
	choice  = regexp.MustCompile(`^[a-z-]+((, [a-z-]+)* or [a-z-]+)?$`)
	choices = regexp.MustCompile(`, | or `)
)

// An argument is what may stand behind a flag.
type argument struct {
	path    bool
	choices []string
}

func argumentOf(f *kong.Flag) argument {
	form := f.Tag.Get("form")
	if choice.MatchString(form) && strings.Contains(form, " or ") {
		return argument{choices: choices.Split(form, -1)}
	}
	return argument{path: strings.HasPrefix(form, "a path") || f.PlaceHolder == "FILE" || f.PlaceHolder == "DIR"}
}

// offered are the flags of a command.
func offered(n *kong.Node) []*kong.Flag {
	return slices.DeleteFunc(slices.Clone(n.Flags), func(f *kong.Flag) bool { return f.Hidden })
}

func names(nodes []*kong.Node) []string {
	list := make([]string, len(nodes))
	for i, n := range nodes {
		list[i] = n.Name
	}
	return list
}

// every is a command and all below it, with the words that lead there.
func every(n *kong.Node, words []string, visit func(*kong.Node, []string)) {
	visit(n, words)
	for _, c := range n.Children {
		every(c, append(slices.Clone(words), c.Name), visit)
	}
}

const written = "# SPDX-License-Identifier: GPL-3.0-or-later\n# Written by go test ./cmd/hyperion-vault -run '^TestCompletions$' -update\n"

func bash(root *kong.Node) string {
	var paths []string
	var cases strings.Builder
	every(root, nil, func(n *kong.Node, words []string) {
		if n != root {
			paths = append(paths, fmt.Sprintf("'%s'", strings.Join(words, " ")))
		}
		fmt.Fprintf(&cases, "	'%s')\n", strings.Join(words, " "))
		list := names(n.Children)
		var files, none []string
		fmt.Fprintf(&cases, "		case $prev in\n")
		for _, f := range offered(n) {
			list = append(list, "--"+f.Name)
			switch a := argumentOf(f); {
			case f.IsBool():
			case a.path:
				files = append(files, "--"+f.Name)
			case a.choices != nil:
				fmt.Fprintf(&cases, "		--%s) offer='%s' ;;\n", f.Name, strings.Join(a.choices, " "))
			default:
				none = append(none, "--"+f.Name)
			}
		}
		if files != nil {
			fmt.Fprintf(&cases, "		%s) compopt -o default; return ;;\n", strings.Join(files, " | "))
		}
		if none != nil {
			fmt.Fprintf(&cases, "		%s) return ;;\n", strings.Join(none, " | "))
		}
		fmt.Fprintf(&cases, "		*) offer='%s' ;;\n		esac\n		;;\n", strings.Join(list, " "))
	})
	return "# shellcheck shell=bash\n" + written + `
_hyperion_vault() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' offer='' word
	COMPREPLY=()
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		case "${command:+$command }$word" in
		` + strings.Join(paths, " | ") + `) command=${command:+$command }$word ;;
		esac
	done
	case $command in
` + cases.String() + `	esac
	mapfile -t COMPREPLY < <(compgen -W "$offer" -- "$cur")
}

complete -F _hyperion_vault hyperion-vault
`
}

func zsh(root *kong.Node) string {
	escape := strings.NewReplacer(`\`, `\\`, "'", `'\''`, ":", `\:`, "[", `\[`, "]", `\]`)
	var b strings.Builder
	b.WriteString("#compdef hyperion-vault\n" + written)
	every(root, nil, func(n *kong.Node, words []string) {
		fmt.Fprintf(&b, "\n%s() {\n", strings.Join(append([]string{"_hyperion_vault"}, words...), "_"))
		if len(n.Children) > 0 {
			b.WriteString("  local line state\n")
		}
		b.WriteString("  _arguments -C")
		for _, f := range offered(n) {
			value := ""
			switch a := argumentOf(f); {
			case f.IsBool():
			case a.path:
				value = ":path:_files"
			case a.choices != nil:
				value = ":value:(" + strings.Join(a.choices, " ") + ")"
			default:
				value = ":value: "
			}
			equals := "="
			if value == "" {
				equals = ""
			}
			fmt.Fprintf(&b, " \\\n    '--%s%s[%s]%s'", f.Name, equals, escape.Replace(f.Help), value)
		}
		if len(n.Children) == 0 {
			b.WriteString("\n}\n")
			return
		}
		b.WriteString(" \\\n    '1: :->command' '*:: :->rest'\n  case $state in\n  command)\n    local -a commands=(\n")
		for _, c := range n.Children {
			fmt.Fprintf(&b, "      '%s:%s'\n", c.Name, escape.Replace(c.Help))
		}
		b.WriteString("    )\n    _describe command commands\n    ;;\n  rest)\n    case $line[1] in\n")
		for _, c := range n.Children {
			fmt.Fprintf(&b, "    %s) %s ;;\n", c.Name, strings.Join(append(append([]string{"_hyperion_vault"}, words...), c.Name), "_"))
		}
		b.WriteString("    esac\n    ;;\n  esac\n}\n")
	})
	b.WriteString("\n_hyperion_vault \"$@\"\n")
	return b.String()
}

func fish(root *kong.Node) string {
	escape := strings.NewReplacer(`\`, `\\`, "'", `\'`)
	var b strings.Builder
	b.WriteString(written + "\ncomplete -c hyperion-vault -f\n")
	every(root, nil, func(n *kong.Node, words []string) {
		where := "__fish_use_subcommand"
		if n != root {
			conditions := make([]string, len(words))
			for i, w := range words {
				conditions[i] = "__fish_seen_subcommand_from " + w
			}
			where = strings.Join(conditions, "; and ")
		}
		below := where
		if n != root && len(n.Children) > 0 {
			below += "; and not __fish_seen_subcommand_from " + strings.Join(names(n.Children), " ")
		}
		for _, c := range n.Children {
			fmt.Fprintf(&b, "complete -c hyperion-vault -n '%s' -a %s -d '%s'\n", below, c.Name, escape.Replace(c.Help))
		}
		for _, f := range offered(n) {
			value := ""
			switch a := argumentOf(f); {
			case f.IsBool():
			case a.path:
				value = " -r -F"
			case a.choices != nil:
				value = " -x -a '" + strings.Join(a.choices, " ") + "'"
			default:
				value = " -x"
			}
			fmt.Fprintf(&b, "complete -c hyperion-vault -n '%s' -l %s%s -d '%s'\n", where, f.Name, value, escape.Replace(f.Help))
		}
	})
	return b.String()
}
