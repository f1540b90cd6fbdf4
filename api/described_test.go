// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A source is the functions of this package, by their names. Those of the parser of
// JSON answer no request, and have names of their own.
type source map[string]*ast.FuncDecl

func readSource(t *testing.T) source {
	t.Helper()
	s := source{}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := goparser.ParseFile(token.NewFileSet(), e.Name(), nil, goparser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := f.Name.Name
			if receiver(f) == "parser" {
				name = "parser." + name
			}
			if s[name] != nil {
				t.Fatalf("two functions are called %s: this test would take one for the other", name)
			}
			s[name] = f
		}
	}
	return s
}

// receiver is the type whose method this is.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	e := f.Recv.List[0].Type
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	id, _ := e.(*ast.Ident) // nil: generic, of which there is none
	return id.Name
}

// nodes calls visit for all that a function does, and the functions of this package
// that it calls. An empty name: for all functions.
func (s source) nodes(name string, visit func(ast.Node)) {
	seen := map[string]bool{}
	var enter func(name string)
	enter = func(name string) {
		if s[name] == nil || seen[name] {
			return
		}
		seen[name] = true
		ast.Inspect(s[name], func(n ast.Node) bool {
			if n == nil {
				return true
			}
			visit(n)
			if call, ok := n.(*ast.CallExpr); ok {
				enter(called(call))
			}
			return true
		})
	}
	if name != "" {
		enter(name)
		return
	}
	for name := range s {
		enter(name)
	}
}

// called is the last name of what a call calls.
func called(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// literal is the text of a string literal; false: it is none.
func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// httpStatus is the number of http.StatusX; "": it is none.
func httpStatus(e ast.Expr) string {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || !strings.HasPrefix(s.Sel.Name, "Status") {
		return ""
	}
	for code := 100; code < 600; code++ {
		if name := strings.NewReplacer(" ", "", "-", "", "'", "").Replace(http.StatusText(code)); name != "" && "Status"+name == s.Sel.Name {
			return strconv.Itoa(code)
		}
	}
	return "?"
}

// problems are statuses with their codes, of problem{…} and writeError(…).
func (s source) problems(name string) map[string]bool {
	found := map[string]bool{}
	add := func(args []ast.Expr) {
		if len(args) < 2 {
			return
		}
		code, ok := literal(value(args[1]))
		if status := httpStatus(value(args[0])); ok && status != "" {
			found[status+" "+code] = true
		}
	}
	s.nodes(name, func(n ast.Node) {
		switch n := n.(type) {
		case *ast.CompositeLit:
			if id, ok := n.Type.(*ast.Ident); ok && id.Name == "problem" {
				add(n.Elts)
			}
		case *ast.CallExpr:
			if called(n) == "writeError" && len(n.Args) == 4 {
				add(n.Args[1:])
			}
		}
	})
	return found
}

// value is what stands behind a field's name, or alone.
func value(e ast.Expr) ast.Expr {
	if kv, ok := e.(*ast.KeyValueExpr); ok {
		return kv.Value
	}
	return e
}

// keys are those of the map literals in a node.
func keys(n ast.Node) (found []string) {
	ast.Inspect(n, func(n ast.Node) bool {
		if kv, ok := n.(*ast.KeyValueExpr); ok {
			if key, ok := literal(kv.Key); ok {
				found = append(found, key)
			}
		}
		return true
	})
	return found
}

// fields are what a handler decodes: the keys of the map that it gives decode, made
// there, by a function of its own, or put together. false: it decodes nothing.
func (s source) fields(t *testing.T, handler string) (found []string, decodes bool) {
	t.Helper()
	var given ast.Expr
	ast.Inspect(s[handler], func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && called(call) == "decode" {
			given = call.Args[1]
		}
		return true
	})
	switch g := given.(type) {
	case nil:
		return nil, false
	case *ast.CompositeLit:
		found = keys(g)
	case *ast.CallExpr:
		found = keys(s[called(g)])
	case *ast.Ident:
		ast.Inspect(s[handler], func(n ast.Node) bool {
			assign, ok := n.(*ast.AssignStmt)
			if !ok {
				return true
			}
			for i, left := range assign.Lhs {
				switch left := left.(type) {
				case *ast.Ident:
					if call, ok := assign.Rhs[min(i, len(assign.Rhs)-1)].(*ast.CallExpr); ok && left.Name == g.Name {
						found = append(found, keys(s[called(call)])...)
					}
				case *ast.IndexExpr:
					if key, ok := literal(left.Index); ok {
						found = append(found, key)
					}
				}
			}
			return true
		})
	}
	if len(found) == 0 {
		t.Fatalf("%s: what it decodes cannot be seen from its text", handler)
	}
	slices.Sort(found)
	return found, true
}

// asked are the parameters of the query that a handler knows.
func (s source) asked(handler string) (found []string) {
	ast.Inspect(s[handler], func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && (called(call) == "query" || called(call) == "pageOf") {
			for _, arg := range call.Args[1:] {
				if name, ok := literal(arg); ok {
					found = append(found, name)
				}
			}
		}
		return true
	})
	slices.Sort(found)
	return found
}

// calls says whether a handler calls a function.
func (s source) calls(handler, function string) (found bool) {
	s.nodes(handler, func(n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		found = found || ok && called(call) == function
	})
	return found
}

// successes are the statuses that a handler answers with if all is well, and the
// headers that it sets then.
func (s source) successes(handler string) (statuses, headers []string) {
	s.nodes(handler, func(n ast.Node) {
		e, ok := n.(ast.Expr)
		if !ok {
			return
		}
		if status := httpStatus(e); strings.HasPrefix(status, "2") {
			statuses = append(statuses, status)
		}
		if call, ok := n.(*ast.CallExpr); ok && called(call) == "Set" && len(call.Args) == 2 {
			if name, ok := literal(call.Args[0]); ok && slices.Contains([]string{"ETag", "Location", "Link"}, name) {
				headers = append(headers, name)
			}
		}
	})
	slices.Sort(statuses)
	slices.Sort(headers)
	return slices.Compact(statuses), slices.Compact(headers)
}

var field = regexp.MustCompile(`"([a-z0-9_]+)":`)

// written are the fields of what a function writes as JSON by itself.
func (s source) written(function string) (found []string) {
	ast.Inspect(s[function], func(n ast.Node) bool {
		if e, ok := n.(ast.Expr); ok {
			text, _ := literal(e) // "": it is none
			for _, m := range field.FindAllStringSubmatch(text, -1) {
				found = append(found, m[1])
			}
		}
		return true
	})
	slices.Sort(found)
	return slices.Compact(found)
}

// TestDescribedHandlers reads the text of each handler beside its description: the
// fields and parameters that it takes, what it may answer, and with which headers.
func TestDescribedHandlers(t *testing.T) {
	d, s := readDocument(t), readSource(t)
	paths := (&Handler{}).paths()
	d.operations(t, func(path, method string, op map[string]any) {
		do := paths[path][strings.ToUpper(method)].do
		if do == nil {
			return // TestDescribedPaths says so, if there should be one
		}
		full := runtime.FuncForPC(reflect.ValueOf(do).Pointer()).Name()
		name := strings.TrimSuffix(full[strings.LastIndexByte(full, '.')+1:], "-fm")
		what := fmt.Sprintf("%s %s (%s)", method, path, name)
		if s[name] == nil {
			t.Fatalf("%s: where is it?", what)
		}
		responses := object(t, op["responses"])

		fields, decodes := s.fields(t, name)
		var described []string
		if properties, ok := d.at(t, "paths", path, method, "requestBody", "content", "application/json", "schema", "properties").(map[string]any); ok {
			described = slices.Sorted(maps.Keys(properties))
		}
		if !slices.Equal(fields, described) || decodes != (op["requestBody"] != nil) {
			t.Errorf("%s: it decodes %v, described are %v", what, fields, described)
		}
		if got, want := d.parameters(t, path, op, "query"), s.asked(name); !slices.Equal(got, want) {
			t.Errorf("%s: it asks for %v, described are %v", what, want, got)
		}
		if got, want := slices.Contains(d.parameters(t, path, op, "header"), "If-Match"), s.calls(name, "ifMatch"); got != want || (responses["412"] != nil) != want {
			t.Errorf("%s: If-Match: %v, described: %v", what, want, got)
		}

		statuses, headers := s.successes(name)
		var got []string
		for status := range responses {
			if strings.HasPrefix(status, "2") {
				got = append(got, status)
			}
		}
		if !slices.Equal(got, statuses) {
			t.Errorf("%s: it answers %v, described are %v", what, statuses, got)
		}
		for _, status := range got {
			d.checkHeaders(t, what, object(t, object(t, responses[status])["headers"]), headers, method != "get" && !d.reads(op))
		}
		for problem := range s.problems(name) {
			status, code, _ := strings.Cut(problem, " ")
			if !slices.Contains(d.codes(t, "paths", path, method, "responses", status), code) {
				t.Errorf("%s: %s is not described", what, problem)
			}
		}
	})
}

// reads says whether an operation changes nothing: it takes a position.
func (d *document) reads(op map[string]any) bool {
	list, _ := op["parameters"].([]any) // nil: none
	return slices.ContainsFunc(list, func(p any) bool {
		m, _ := p.(map[string]any)
		return m["$ref"] == "#/components/parameters/ReadAfter"
	})
}

// checkHeaders: those that every answer has, those that the handler sets, and of who
// writes the position.
func (d *document) checkHeaders(t *testing.T, what string, described map[string]any, set []string, writes bool) {
	t.Helper()
	want := append([]string{headerID}, set...)
	if writes {
		want = append(want, headerAfter)
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(described)); !slices.Equal(got, want) {
		t.Errorf("%s: headers %v, described are %v", what, want, got)
	}
}
