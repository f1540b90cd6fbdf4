// SPDX-License-Identifier: GPL-3.0-or-later

// Package doccheck holds the documents to what the program does. Each fenced
// block has a comment in front of it that says what becomes of it:
//
//	<!-- doccheck: node -->            SQL, run through the node as the user
//	<!-- doccheck: server -->          SQL, run on the server's own port as postgres
//	<!-- doccheck: shell -->           run by bash, with DEV as the cluster's directory
//	<!-- doccheck: output -->          what the block before printed; … is anything
//	<!-- doccheck: proof -->           lines "node=> SQL -- answer, remark"
//	<!-- doccheck: docker -->          run by e2e/docker on a cluster of containers
//	<!-- doccheck: image -->           a Dockerfile; schema, what it copies; e2e/docker builds it
//	<!-- doccheck: yaml -->            read by e2e/docker, e2e/rest and cmd/hyperion-vault
//	<!-- doccheck: make -->            not run, but each make target must exist
//	<!-- doccheck: packages -->        run by make packages-test or make walk, as root of a bare Debian
//	<!-- doccheck: illustration -->    not run
//
// What is not run is in unrun, with the reason. "type: TEXT" behind node, server or proof is what \prompt gets to read. The
// addresses and passwords that `hyperion-vault dev` prints are replaced by the
// test cluster's, TOKEN is its administrator's. Blocks of one document share their
// psql sessions, and the directory in which the shell is.
package doccheck

import (
	"fmt"
	"regexp"
	"strings"
)

// A block is one fenced block of a document.
type block struct {
	line     int    // of the opening fence
	section  string // the heading above it
	kind     string // the comment's first word; empty: no comment
	typed    string // for \prompt
	language string // behind the opening fence
	text     string // with its last line feed
}

var comment = regexp.MustCompile(`^<!-- doccheck: ([a-z]+)(?:, type: (.*?))? -->$`)

// blocks takes the fenced blocks out of a document.
func blocks(text string) ([]block, error) {
	var found []block
	var open *block
	var pending block
	section := ""
	for i, line := range strings.Split(text, "\n") {
		switch m := comment.FindStringSubmatch(line); {
		case open != nil && line == "```":
			found = append(found, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		case strings.HasPrefix(line, "```"):
			b := pending
			b.line, b.section, b.language = i+1, section, line[3:]
			open, pending = &b, block{}
		case m != nil:
			pending = block{kind: m[1], typed: m[2]}
		case strings.Contains(line, "doccheck:"):
			return nil, fmt.Errorf("line %d: a doccheck comment that cannot be read", i+1)
		case strings.TrimSpace(line) != "":
			pending = block{}
			if hashes, title, ok := strings.Cut(line, " "); ok && hashes != "" && strings.Trim(hashes, "#") == "" {
				section = title
			}
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the block is not closed", open.line)
	}
	return found, nil
}

// Texts are the blocks of one kind, for tests elsewhere that run them.
func Texts(document, kind string) ([]string, error) {
	found, err := blocks(document)
	var texts []string
	for _, b := range found {
		if b.kind == kind {
			texts = append(texts, b.text)
		}
	}
	return texts, err
}

// same compares what was printed with what a document shows: spaces at the ends
// of lines and empty lines at the end do not count, … stands for anything in its
// line.
func same(printed, shown string) bool {
	got, want := tidy(printed), tidy(shown)
	if len(got) != len(want) {
		return false
	}
	for i := range want {
		parts := strings.Split(want[i], "…")
		for j := range parts {
			parts[j] = regexp.QuoteMeta(parts[j])
		}
		if !regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(got[i]) {
			return false
		}
	}
	return true
}

func tidy(text string) []string {
	lines := strings.Split(strings.TrimRight(text, "\n "), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}
