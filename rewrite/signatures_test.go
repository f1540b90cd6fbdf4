// SPDX-License-Identifier: GPL-3.0-or-later

package rewrite

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// TestSignaturesMatchExtension compares the list with the functions of the
// extension's scripts, both ways: one that is missing here could not be
// called, one too many would let a call through that the server logs.
func TestSignaturesMatchExtension(t *testing.T) {
	want := extensionFunctions(t)
	for name, w := range want {
		s := signatureOf[name]
		if s == nil {
			t.Errorf("%s is not in the list", w)
			continue
		}
		if s.internal {
			if len(s.args) != len(w.args) {
				t.Errorf("%s: %d arguments, the extension's has %d", name, len(s.args), len(w.args))
			}
			continue
		}
		if s.variadic != w.variadic || len(s.args) != len(w.args) {
			t.Errorf("got  %s\nwant %s", s, w)
			continue
		}
		for i := range s.args {
			if argName(s.args[i]) != argName(w.args[i]) || optional(s.args[i]) != optional(w.args[i]) {
				t.Errorf("got  %s\nwant %s", s, w)
			}
		}
	}
	for _, s := range signatures {
		if want[s.name] == nil {
			t.Errorf("%s is not in the extension", &s)
		}
	}
}

// changeNothing are the volatile functions that change nothing. When a token was used
// last, which token_role and token_read note where they can, is nothing to be recorded.
var changeNothing = strings.Fields("verify_secret verify_begin status fail login_verifier hba_rules session_state replayed " +
	"token_role token_read check_rest_admin rest_roles rest_tokens")

// TestSignaturesWrite: what is not sent while no record can be written, and goes to the
// primary, is every function that may change something.
func TestSignaturesWrite(t *testing.T) {
	found := extensionFunctions(t)
	for name, f := range found {
		want := f.writes && !slices.Contains(changeNothing, name)
		if s := signatureOf[name]; s != nil && s.writes != want {
			t.Errorf("%s: writes is %v, want %v", name, s.writes, want)
		}
	}
	for _, name := range changeNothing {
		if f := found[name]; f == nil || !f.writes {
			t.Errorf("there is no volatile vault.%s", name)
		}
	}
}

// extensionFunctions reads the functions in schema vault out of the scripts.
func extensionFunctions(t *testing.T) map[string]*signature {
	t.Helper()
	found := map[string]*signature{}
	for _, s := range extensionScripts(t) {
		for _, o := range s.Stmt.GetDropStmt().GetObjects() {
			if names := strs(o.GetObjectWithArgs().GetObjname()); len(names) == 2 && names[0] == schemaVault {
				delete(found, names[1])
			}
		}
		f := s.Stmt.GetCreateFunctionStmt()
		if f == nil {
			continue
		}
		if names := strs(f.Funcname); len(names) == 2 && names[0] == schemaVault {
			found[names[1]] = signatureFrom(names[1], f)
		}
	}
	return found
}

// extensionScripts are the statements of the extension's scripts, in order.
func extensionScripts(t *testing.T) (all []*pg.RawStmt) {
	t.Helper()
	files, err := filepath.Glob("../extension/sql/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	slices.Sort(files)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := pg.Parse(psqlOut(string(raw)))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, tree.Stmts...)
	}
	return all
}

// TestTablesMatchExtension compares the tables with those of the extension's
// scripts, both ways: a dump that is restored through a node writes them all.
func TestTablesMatchExtension(t *testing.T) {
	found := map[string][]string{}
	for _, s := range extensionScripts(t) {
		if c := s.Stmt.GetCreateStmt(); c.GetRelation().GetSchemaname() == schemaVault {
			for _, e := range c.TableElts {
				if d := e.GetColumnDef(); d != nil {
					found[c.Relation.Relname] = append(found[c.Relation.Relname], d.Colname)
				}
			}
		}
		if a := s.Stmt.GetAlterTableStmt(); a.GetRelation().GetSchemaname() == schemaVault {
			for _, c := range a.Cmds {
				columns := found[a.Relation.Relname]
				switch cmd := c.GetAlterTableCmd(); cmd.Subtype { //nolint:exhaustive // the others change no list
				case pg.AlterTableType_AT_AddColumn:
					columns = append(columns, cmd.GetDef().GetColumnDef().Colname)
				case pg.AlterTableType_AT_DropColumn:
					columns = slices.DeleteFunc(columns, func(name string) bool { return name == cmd.Name })
				}
				found[a.Relation.Relname] = columns
			}
		}
	}
	for name, columns := range found {
		if !slices.Equal(tables[name], columns) {
			t.Errorf("table %s: got %v, the extension's has %v", name, tables[name], columns)
		}
	}
	for name := range tables {
		if found[name] == nil {
			t.Errorf("table %s is not in the extension", name)
		}
	}
}

func signatureFrom(name string, f *pg.CreateFunctionStmt) *signature {
	s := &signature{name: name, writes: true}
	for _, o := range f.Options {
		if d := o.GetDefElem(); d.Defname == "volatility" {
			s.writes = d.GetArg().GetString_().Sval == "volatile"
		}
	}
	if result := strs(f.GetReturnType().GetNames()); len(result) > 0 && strings.HasSuffix(result[len(result)-1], "trigger") {
		s.writes = false // nobody can call it
	}
	for _, n := range f.Parameters {
		p := n.GetFunctionParameter()
		switch p.Mode { //nolint:exhaustive // the others are plain inputs
		case pg.FunctionParameterMode_FUNC_PARAM_OUT, pg.FunctionParameterMode_FUNC_PARAM_TABLE:
			continue
		case pg.FunctionParameterMode_FUNC_PARAM_VARIADIC:
			s.variadic = true
		}
		arg := p.Name + " type"
		if p.Defexpr != nil {
			arg += " = default"
		}
		s.args = append(s.args, arg)
	}
	return s
}

// psqlOut drops the lines that are psql's.
func psqlOut(script string) string {
	out := []byte(script)
	for i := 0; i < len(out); i++ {
		if out[i] == '\\' && (i == 0 || out[i-1] == '\n') {
			for ; i < len(out) && out[i] != '\n'; i++ {
				out[i] = ' '
			}
		}
	}
	return string(out)
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"putsecret": "put_secret", "Put_Secret": "put_secret", "readsecret": "read_secret", "read_secrets": "read_secret",
		"get_secret": "put_secret", "list_secret": "list_secrets", "frobnicate": "", "x": "", "": "",
	} {
		got := ""
		if s := nearest(name); s != nil {
			got = s.name
		}
		if got != want {
			t.Errorf("nearest(%q) = %q, want %q", name, got, want)
		}
	}
}

// TestKnownNamesAreNoBlanks: a blanked identifier must not turn into a name
// that means something.
func TestKnownNamesAreNoBlanks(t *testing.T) {
	for name := range knownNames {
		if len(name) == 0 || len(name) > maxKnownIdent/8 || strings.Trim(name, "x") == "" {
			t.Errorf("%q", name)
		}
	}
}
