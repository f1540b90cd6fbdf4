// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package regress

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/bzip2"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

// A source is what the suites are taken from: Debian's source package of the
// installed server, as apt has fetched and verified it.
type source struct {
	// Version is the source package's, Server the installed server's. They
	// differ where the mirror no longer, or not yet, has the server's source.
	Version, Server string
	// Tests is its src/test.
	Tests string
	// Bindir has the psql of that version: its scripts are written for it.
	Bindir string

	server string // bindir of the installed server
}

// stale tells that the expected files are not this server's.
func (s *source) stale() bool { return s.Version != s.Server }

// String is the table's word for both versions.
func (s *source) String() string {
	if s.stale() {
		return s.Version + " (server " + s.Server + ")"
	}
	return s.Version
}

var fetched struct {
	once   sync.Once
	source *source
	err    error
}

// fetch returns the source, once for all tests of a run. What an earlier run
// has fetched for the same server is in e2e/out, which `make clean` removes.
func fetch(t *testing.T) *source {
	t.Helper()
	fetched.once.Do(func() { fetched.source, fetched.err = openSource(t.Context()) })
	if fetched.err != nil {
		t.Fatalf("the source of PostgreSQL's suites: %v", fetched.err)
	}
	if s := fetched.source; s.stale() {
		t.Logf("The server is %s, but the nearest source that the mirror serves is %s: what changed in between fails direct, too. "+
			"To have all of it compared, bring both to one version (apt-get install postgresql-15=…) and run `make clean`.", s.Server, s.Version)
	}
	return fetched.source
}

// debianVersion is the package's version in what `postgres --version` says.
var debianVersion = regexp.MustCompile(`\(Debian (([0-9]+)\.[0-9]+[^)]*)\)`)

func openSource(ctx context.Context) (*source, error) {
	server, err := devcluster.FindServer(ctx)
	if err != nil {
		return nil, err
	}
	says, err := run(ctx, filepath.Join(server, "postgres"), "--version")
	if err != nil {
		return nil, err
	}
	m := debianVersion.FindStringSubmatch(says)
	if m == nil {
		return nil, fmt.Errorf("the server in %s is not a package of Debian's, it says %q: install postgresql-15 by `make deps`", server, strings.TrimSpace(says))
	}
	root, err := cluster.Root()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, "e2e", "out", "regress", m[1])
	mark := filepath.Join(dir, "source.json")
	s := &source{}
	if text, err := os.ReadFile(mark); err == nil {
		s.server = server
		return s, json.Unmarshal(text, s)
	}
	a := &apt{dir: dir, pkg: "postgresql-" + m[2], major: m[2]}
	if s, err = a.fetch(ctx, m[1], server); err != nil {
		return nil, err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	s.server = server
	return s, os.WriteFile(mark, text, 0o600) // last: whoever finds it finds all
}

// apt is a private one: the mirrors and keys of the system, but with source
// packages, and lists and cache below dir.
type apt struct {
	dir, pkg, major string
}

// keyring is installed wherever apt is.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

func (a *apt) fetch(ctx context.Context, installed, server string) (*source, error) {
	if err := os.RemoveAll(a.dir); err != nil {
		return nil, err
	}
	for _, dir := range []string{"lists/partial", "cache/archives/partial", "packages"} {
		if err := os.MkdirAll(filepath.Join(a.dir, dir), 0o755); err != nil {
			return nil, err
		}
	}
	if err := a.writeSources(ctx); err != nil {
		return nil, err
	}
	if _, err := a.run(ctx, "apt-get", "--quiet", "update"); err != nil {
		return nil, err
	}
	version, err := a.download(ctx, installed)
	if err != nil {
		return nil, err
	}
	tests := filepath.Join(a.dir, "test")
	if err := a.unpack(tests); err != nil {
		return nil, err
	}
	s := &source{Version: version, Server: installed, Tests: tests, Bindir: server}
	if s.stale() {
		s.Bindir, err = a.psql(ctx, version)
	}
	return s, err
}

// writeSources names the mirrors from which the system gets Debian itself.
func (a *apt) writeSources(ctx context.Context) error {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return err
	}
	m := regexp.MustCompile(`(?m)^VERSION_CODENAME=(\w+)$`).FindSubmatch(release)
	if m == nil {
		return errors.New("/etc/os-release has no VERSION_CODENAME: this needs a Debian")
	}
	name := string(m[1])
	targets, err := run(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
	if err != nil {
		return err
	}
	var b strings.Builder
	for line := range strings.Lines(targets) {
		f := strings.Fields(line)
		if len(f) == 3 && slices.Contains([]string{name, name + "-updates", name + "-security"}, f[1]) && f[2] == "main" {
			for _, kind := range []string{"deb", "deb-src"} {
				fmt.Fprintf(&b, "%s [signed-by=%s] %s %s main\n", kind, keyring, f[0], f[1])
			}
		}
	}
	if b.Len() == 0 {
		return fmt.Errorf("apt's sources name no mirror of Debian %s", name)
	}
	return os.WriteFile(filepath.Join(a.dir, "sources.list"), []byte(b.String()), 0o600)
}

// run runs one of apt's programs over the private lists.
func (a *apt) run(ctx context.Context, program string, args ...string) (string, error) {
	options := []string{
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(a.dir, "sources.list"),
		"-o", "Dir::Etc::sourceparts=/dev/null",
		"-o", "Dir::State::lists=" + filepath.Join(a.dir, "lists"),
		"-o", "Dir::Cache=" + filepath.Join(a.dir, "cache"),
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::Retries=3",
	}
	if os.Geteuid() == 0 {
		options = append(options, "-o", "APT::Sandbox::User=root") // apt's own user may not reach the directory
	}
	cmd := exec.CommandContext(ctx, program, append(options, args...)...)
	cmd.Dir = filepath.Join(a.dir, "packages")
	return output(cmd)
}

// download gets the source of the installed version, or else, of the versions
// with the same major that the mirror really has, the nearest one.
func (a *apt) download(ctx context.Context, installed string) (string, error) {
	listed, err := a.run(ctx, "apt-cache", "showsrc", a.pkg)
	if err != nil {
		return "", err
	}
	var versions []string
	for _, m := range regexp.MustCompile(`(?m)^Version: (.*)$`).FindAllStringSubmatch(listed, -1) {
		if strings.HasPrefix(m[1], a.major+".") {
			versions = append(versions, m[1])
		}
	}
	distance := func(version string) int {
		d := minor(version) - minor(installed)
		return max(d, -d)
	}
	slices.SortStableFunc(versions, func(x, y string) int {
		if x == installed || y == installed {
			return cmp.Compare(bit(y == installed), bit(x == installed))
		}
		return cmp.Compare(distance(x), distance(y))
	})
	errs := []error{fmt.Errorf("no source of %s: the mirror lists %q", a.pkg, versions)}
	for _, version := range slices.Compact(versions) {
		if _, err := a.run(ctx, "apt-get", "--quiet", "source", "--download-only", a.pkg+"="+version); err != nil {
			errs = append(errs, err)
			continue
		}
		return version, nil
	}
	return "", errors.Join(errs...)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// minor is 20 of 15.20-0+deb12u1.
func minor(version string) int {
	_, rest, _ := strings.Cut(version, ".")
	digits, _, _ := strings.Cut(rest, "-")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

// unpack takes src/test out of the archive whose hash apt has verified.
// Debian's patches change nothing there.
func (a *apt) unpack(into string) error {
	paths, err := filepath.Glob(filepath.Join(a.dir, "packages", "*.orig.tar.bz2"))
	if err != nil || len(paths) != 1 {
		return fmt.Errorf("want one archive in %s, got %q, %w", a.dir, paths, err)
	}
	file, err := os.Open(paths[0])
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	for archive := tar.NewReader(bzip2.NewReader(file)); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_, name, ours := strings.Cut(header.Name, "/src/test/")
		if !ours || header.Typeflag != tar.TypeReg {
			continue
		}
		if !filepath.IsLocal(name) {
			return fmt.Errorf("the archive has a file %q", header.Name)
		}
		if err := write(filepath.Join(into, name), archive); err != nil {
			return err
		}
	}
}

func write(path string, from io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	return errors.Join(err, file.Close())
}

// psql unpacks, and does not install, the client programs of a version.
func (a *apt) psql(ctx context.Context, version string) (string, error) {
	if _, err := a.run(ctx, "apt-get", "--quiet", "download", "postgresql-client-"+a.major+"="+version); err != nil {
		return "", err
	}
	paths, err := filepath.Glob(filepath.Join(a.dir, "packages", "postgresql-client-*.deb"))
	if err != nil || len(paths) != 1 {
		return "", fmt.Errorf("want one package in %s, got %q, %w", a.dir, paths, err)
	}
	into := filepath.Join(a.dir, "client")
	if _, err := run(ctx, "dpkg-deb", "--extract", paths[0], into); err != nil {
		return "", err
	}
	return filepath.Join(into, "usr", "lib", "postgresql", a.major, "bin"), nil
}

// run runs a program that must work and returns what it printed.
func run(ctx context.Context, program string, args ...string) (string, error) {
	return output(exec.CommandContext(ctx, program, args...))
}

func output(cmd *exec.Cmd) (string, error) {
	cmd.Env = append(cmd.Environ(), "LC_ALL=C.UTF-8")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, errs.String())
	}
	return out.String(), nil
}
