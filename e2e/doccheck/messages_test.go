// SPDX-License-Identifier: GPL-3.0-or-later

package doccheck

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestErrorsListed compares docs/ERRORS.md with the sources: each message that
// a client can get is in it, and each SQLSTATE has an anchor.
func TestErrorsListed(t *testing.T) {
	doc := readFile(t, "docs/ERRORS.md")
	for _, m := range slices.Concat(goMessages(t), extensionMessages(t)) {
		if !strings.Contains(doc, m.text) {
			t.Errorf("%s: docs/ERRORS.md does not have %q", m.at, m.text)
		}
	}
	for state, at := range sqlStates(t) {
		if !strings.Contains(doc, `<a id="`+strings.ToLower(state)+`"></a>`) {
			t.Errorf("%s: docs/ERRORS.md has no anchor %q", at, strings.ToLower(state))
		}
	}
}

// toNobody is an error that stands for another one and is never sent.
const toNobody = "answered by the server"

// A message is one text of an error, its variable parts written as "…".
type message struct{ at, text string }

// goMessages finds the messages in literals of the error types, and in calls of
// the functions that make them.
func goMessages(t *testing.T) []message {
	t.Helper()
	var found []message
	for _, pattern := range []string{"proxy/*.go", "proxy/scram/*.go", "proxy/vault/*.go", "rewrite/*.go", "api/*.go"} {
		for _, path := range glob(t, pattern) {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				for _, e := range messageExprs(n) {
					if text := shape(e); strings.Trim(text, "…: ") != "" && text != toNobody {
						found = append(found, message{relative(t, files.Position(n.Pos()).String()), text})
					}
				}
				return true
			})
		}
	}
	if len(found) < 50 {
		t.Fatalf("found only %d messages: the error types have other names now", len(found))
	}
	return found
}

// messageExprs are the expressions of a node that become an error's message.
func messageExprs(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.CallExpr:
		name, _ := n.Fun.(*ast.Ident)
		switch {
		case name == nil:
		case name.Name == "fatalError" && len(n.Args) > 1:
			return n.Args[1:2]
		case (name.Name == "tooMany" || name.Name == "bad") && len(n.Args) > 0:
			return n.Args[:1]
		case name.Name == "writeError" && len(n.Args) > 3:
			return n.Args[3:4]
		}
	case *ast.ValueSpec: // const textBusy = …
		if strings.HasPrefix(n.Names[0].Name, "text") {
			return n.Values
		}
	case *ast.AssignStmt: // r.Message = …
		if s, ok := n.Lhs[0].(*ast.SelectorExpr); ok && s.Sel.Name == "Message" {
			return n.Rhs
		}
	case *ast.CompositeLit:
		name, _ := n.Type.(*ast.Ident)
		if sel, ok := n.Type.(*ast.SelectorExpr); ok { // vault.Error
			name = sel.Sel
		}
		if name == nil || !slices.Contains([]string{"sqlError", "Error", "Refusal", "badLiteral", "problem"}, name.Name) {
			return nil
		}
		for i, e := range n.Elts {
			kv, keyed := e.(*ast.KeyValueExpr)
			if !keyed {
				if (name.Name == "badLiteral" || name.Name == "problem") && i == 2 {
					return []ast.Expr{e}
				}
				continue
			}
			if key, ok := kv.Key.(*ast.Ident); ok && slices.Contains([]string{"message", "Message", "Msg", "text"}, key.Name) {
				return []ast.Expr{kv.Value}
			}
		}
	}
	return nil
}

var verb = regexp.MustCompile(`%[-+#0-9.]*[a-zA-Z]`)

// shape is what is fixed of a string expression.
func shape(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if err != nil {
			return "…"
		}
		return text
	case *ast.BinaryExpr:
		return collapse(shape(e.X) + shape(e.Y))
	case *ast.CallExpr:
		if s, ok := e.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "Sprintf" {
			return collapse(verb.ReplaceAllStringFunc(shape(e.Args[0]), func(v string) string {
				if strings.HasSuffix(v, "q") {
					return `"…"`
				}
				return "…"
			}))
		}
	case *ast.Ident:
		switch e.Name {
		case "schemaVault":
			return "vault"
		case "headerForwarded":
			return "X-Forwarded-For"
		}
	}
	return "…"
}

func collapse(s string) string {
	for strings.Contains(s, "……") {
		s = strings.ReplaceAll(s, "……", "…")
	}
	return s
}

var (
	errmsg = regexp.MustCompile(`\berrmsg\("((?:[^"\\]|\\.)*)"`)
	raise  = regexp.MustCompile(`\bRAISE\s+(?:EXCEPTION|WARNING|NOTICE)\s+'((?:[^']|'')*)'`)
)

// extensionMessages finds what the extension says by errmsg, and by RAISE in its
// scripts, those of older versions included: a server may have one of them.
func extensionMessages(t *testing.T) []message {
	t.Helper()
	var found []message
	for _, path := range glob(t, "extension/src/*.c") {
		for _, m := range errmsg.FindAllStringSubmatch(string(read(t, path)), -1) {
			text, err := strconv.Unquote(`"` + m[1] + `"`)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			found = append(found, message{relative(t, path), verb.ReplaceAllString(text, "…")})
		}
	}
	if len(found) < 30 {
		t.Fatalf("found only %d messages of the extension", len(found))
	}
	inC := len(found)
	for _, path := range glob(t, "extension/sql/*.sql") {
		for _, m := range raise.FindAllStringSubmatch(string(read(t, path)), -1) {
			found = append(found, message{relative(t, path), strings.ReplaceAll(strings.ReplaceAll(m[1], "''", "'"), "%", "…")})
		}
	}
	if len(found) < inC+20 {
		t.Fatalf("found only %d messages of the extension's scripts", len(found)-inC)
	}
	return found
}

var (
	goState = regexp.MustCompile(`"([0-9A-Z]{5})"`)
	cState  = regexp.MustCompile(`errcode\((ERRCODE_[A-Z0-9_]+)\)`)
)

// stateNames are the conditions that the extension uses (PostgreSQL's
// errcodes.txt); a new one has to be added here and in the document.
var stateNames = map[string]string{
	"ERRCODE_CONFIGURATION_LIMIT_EXCEEDED":        "53400",
	"ERRCODE_DUPLICATE_OBJECT":                    "42710",
	"ERRCODE_FEATURE_NOT_SUPPORTED":               "0A000",
	"ERRCODE_INSUFFICIENT_PRIVILEGE":              "42501",
	"ERRCODE_INTERNAL_ERROR":                      "XX000",
	"ERRCODE_INVALID_PARAMETER_VALUE":             "22023",
	"ERRCODE_NO_DATA_FOUND":                       "P0002",
	"ERRCODE_NULL_VALUE_NOT_ALLOWED":              "22004",
	"ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE":    "55000",
	"ERRCODE_PROGRAM_LIMIT_EXCEEDED":              "54000",
	"ERRCODE_T_R_SERIALIZATION_FAILURE":           "40001",
	"ERRCODE_UNDEFINED_OBJECT":                    "42704",
	"ERRCODE_WARNING_PRIVILEGE_NOT_REVOKED":       "01006",
	"ERRCODE_DATA_CORRUPTED":                      "XX001",
	"ERRCODE_LOCK_NOT_AVAILABLE":                  "55P03",
	"ERRCODE_READ_ONLY_SQL_TRANSACTION":           "25006",
	"ERRCODE_WRONG_OBJECT_TYPE":                   "42809",
	"ERRCODE_INVALID_TEXT_REPRESENTATION":         "22P02",
	"ERRCODE_INVALID_BINARY_REPRESENTATION":       "22P03",
	"ERRCODE_INVALID_TRANSACTION_STATE":           "25000",
	"ERRCODE_STRING_DATA_RIGHT_TRUNCATION":        "22001",
	"ERRCODE_QUERY_CANCELED":                      "57014",
	"ERRCODE_ADMIN_SHUTDOWN":                      "57P01",
	"ERRCODE_DATATYPE_MISMATCH":                   "42804",
	"ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION": "28000",
}

// sqlStates are the SQLSTATEs that sources name, and where.
func sqlStates(t *testing.T) map[string]string {
	t.Helper()
	states := map[string]string{}
	for _, path := range []string{"proxy/sqlerror.go", "proxy/rows.go", "proxy/scram/scram.go", "proxy/vault/errors.go", "rewrite/refuse.go", "rewrite/literal.go"} {
		for _, m := range goState.FindAllStringSubmatch(readFile(t, path), -1) {
			if strings.ContainsAny(m[1], "0123456789") {
				states[m[1]] = path
			}
		}
	}
	for _, path := range glob(t, "extension/src/*.c") {
		for _, m := range cState.FindAllStringSubmatch(string(read(t, path)), -1) {
			state, known := stateNames[m[1]]
			if !known {
				t.Errorf("%s: %s is unknown to this test", relative(t, path), m[1])
			}
			states[state] = relative(t, path)
		}
	}
	return states
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root(t), pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: no files (%v)", pattern, err)
	}
	return paths
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	return string(read(t, filepath.Join(root(t), path)))
}

func relative(t *testing.T, path string) string {
	t.Helper()
	return strings.TrimPrefix(path, root(t)+string(filepath.Separator))
}

// root is the repository's directory.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
