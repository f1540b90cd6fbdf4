// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"errors"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
)

// noValue is what kong says of a flag whose value is missing, or is read as a flag.
var noValue = regexp.MustCompile(`expected \S+ value but got "(.*?)" \(.*`)

// usageFault says what is wrong on the command line, and where help is. An argument that
// nobody expects is not shown: it may be a value, given where none should be.
func usageFault(err error) error {
	var parse *kong.ParseError
	if !errors.As(err, &parse) || parse.Context == nil {
		return err
	}
	at := parse.Context.Selected()
	if at == nil {
		at = parse.Context.Model.Node
	}
	what := err.Error()
	stray := strings.HasPrefix(what, "unexpected argument ")
	put := at.Name == "put"
	switch value := noValue.FindStringSubmatch(what); {
	case put && stray:
		what = "one argument too many (not shown): others on this host can read it. The value is read from stdin, or asked for"
	case put && strings.HasPrefix(what, "unknown flag "): // a value may begin so
		what = "there is no such flag (not shown). The value is read from stdin, or asked for"
	case stray && at.Leaf():
		what = "one argument too many (not shown)"
	case stray && !strings.Contains(what, "did you mean"):
		what = "there is no such command"
	case len(at.Children) > 0 && strings.HasPrefix(what, "expected "):
		var names []string
		for _, child := range at.Children {
			names = append(names, child.Name)
		}
		what = "a command should follow: " + strings.Join(names, ", ")
	case value != nil && value[1] == "EOL":
		what = noValue.ReplaceAllString(what, "its value is missing")
	case value != nil:
		what = noValue.ReplaceAllString(what, "its value is missing: what follows begins as a flag does")
	}
	return faultf("%s; see %s --help", what, commandOf(at))
}

// commandOf is what is typed for a command.
func commandOf(at *kong.Node) string {
	words := at.Name
	for up := at.Parent; up != nil; up = up.Parent {
		words = up.Name + " " + words
	}
	return words
}
