// SPDX-License-Identifier: GPL-3.0-or-later

//go:build docker

package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

const (
	project = "hyperion-vault-e2e"

	// hosts are counted from 1, as in compose.yml.
	hosts = 3

	buildTime = 40 * time.Minute
	wholeTime = 4 * time.Minute
	stopTime  = 2 * time.Minute
)

// A trial is the cluster of docker/compose.yml.
type trial struct {
	root    string
	compose []string // the command, as far as the file
	token   string   // the first, an administrator's
}

// command runs one in the repository, and returns all that it said.
func command(ctx context.Context, name string, args ...string) (string, error) {
	root, err := cluster.Root()
	if err != nil {
		return "", err
	}
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = root
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(out), err
}

// start builds and starts the cluster as its first lines say.
func start(ctx context.Context) (*trial, error) {
	root, err := cluster.Root()
	if err != nil {
		return nil, err
	}
	c := &trial{root: root, compose: []string{"docker", "compose"}}
	if _, err := command(ctx, "docker", "compose", "version"); err != nil {
		c.compose = []string{"docker-compose"}
	}
	c.compose = append(c.compose, "--project-name", project, "--file", filepath.Join("docker", "compose.yml"))
	if err := c.remove(ctx); err != nil { // what a run left that was killed
		return c, err
	}
	ctx, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	up := []string{"up", "--detach"}
	if !*built {
		if err := c.bases(ctx); err != nil {
			return c, err
		}
		up = append(up, "--build")
	}
	if out, err := c.run(ctx, up...); err != nil {
		return c, fmt.Errorf("%w\n%s", err, short(out))
	}
	if err := c.whole(ctx); err != nil {
		return c, err
	}
	return c, c.readToken(ctx)
}

// bases makes the base images where they are not to be had.
func (c *trial) bases(ctx context.Context) error {
	for _, image := range []string{"debian:bookworm-slim", "golang:1.26-bookworm"} {
		if _, err := command(ctx, "docker", "image", "inspect", image); err == nil {
			continue
		}
		if _, err := command(ctx, "docker", "pull", image); err == nil {
			continue
		}
		if out, err := command(ctx, "docker/base-images.sh"); err != nil {
			return fmt.Errorf("%w\n%s", err, short(out))
		}
	}
	return nil
}

// run is a command of compose.
func (c *trial) run(ctx context.Context, args ...string) (string, error) {
	args = append(c.compose[1:len(c.compose):len(c.compose)], args...)
	return command(ctx, c.compose[0], args...)
}

func (c *trial) readToken(ctx context.Context) error {
	args := append(c.compose[1:len(c.compose):len(c.compose)], "run", "--rm", "--no-deps", "-T", "init", "cat", "/var/lib/vault-admin/token")
	get := exec.CommandContext(ctx, c.compose[0], args...)
	get.Dir = c.root
	out, err := get.Output() // what compose itself says goes to the other stream
	if err != nil {
		return fmt.Errorf("the admin token: %w", err)
	}
	c.token = strings.TrimSpace(string(out))
	return nil
}

// remove leaves nothing but images.
func (c *trial) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	out, err := c.run(ctx, "down", "--volumes", "--remove-orphans")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, short(out))
	}
	return nil
}

// tellLogs says what the containers said last.
func (c *trial) tellLogs(ctx context.Context) {
	out, err := c.run(ctx, "logs", "--no-color", "--tail", "60")
	fmt.Fprintln(os.Stderr, out, err)
}

// whole waits until each node is ready and lacks nothing, and each standby of the
// two streams.
func (c *trial) whole(ctx context.Context) error {
	for host := 1; host <= hosts; host++ {
		err := until(ctx, wholeTime, func() error {
			a, err := ask(ctx, host, "", "GET", "/readyz", "")
			if err == nil && (a.status != 200 || a.fields["status"] != "ok") {
				err = fmt.Errorf("%d %s", a.status, a.text)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("node%d is not ready: %w", host, err)
		}
	}
	err := until(ctx, wholeTime, func() error {
		primary, err := c.primary(ctx)
		if err != nil {
			return err
		}
		streaming, err := c.server(ctx, primary, "SELECT count(*) FILTER (WHERE sync_state = 'sync') || '/' || count(*) FROM pg_stat_replication WHERE state = 'streaming'")
		if err == nil && streaming != "1/2" {
			err = fmt.Errorf("standbys, synchronous and all: %s", streaming)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("replication: %w", err)
	}
	return nil
}

func (c *trial) wantWhole(t *testing.T) {
	t.Helper()
	if err := c.whole(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// container is the id of a service's.
func (c *trial) container(ctx context.Context, service string) (string, error) {
	out, err := command(ctx, "docker", "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project="+project, "--filter", "label=com.docker.compose.service="+service)
	if err == nil && len(strings.Fields(out)) != 1 {
		err = fmt.Errorf("containers of %s: %q", service, out)
	}
	return strings.TrimSpace(out), err
}

// id is container, for a test.
func (c *trial) id(t *testing.T, service string) string {
	t.Helper()
	id, err := c.container(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// server asks a server itself, past all nodes, as its own superuser.
func (c *trial) server(ctx context.Context, host int, sql string) (string, error) {
	id, err := c.container(ctx, fmt.Sprintf("db%d", host))
	if err != nil {
		return "", err
	}
	out, err := command(ctx, "docker", "exec", id, "psql", "--no-psqlrc", "--tuples-only", "--no-align", "--dbname", "app", "--command", sql)
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, short(out))
	}
	return strings.TrimSpace(out), nil
}

// primary finds the one server that takes writes.
func (c *trial) primary(ctx context.Context) (int, error) {
	found, err := 0, error(nil)
	for host := 1; host <= hosts; host++ {
		standby, failed := c.server(ctx, host, "SELECT pg_is_in_recovery()")
		switch {
		case failed != nil:
			err = errors.Join(err, failed)
		case standby == "f" && found != 0:
			return 0, fmt.Errorf("db%d and db%d both take writes", found, host)
		case standby == "f":
			found = host
		}
	}
	if found == 0 {
		return 0, errors.Join(errors.New("no primary"), err)
	}
	return found, nil
}

// wantPrimary waits for one that is none of those.
func (c *trial) wantPrimary(t *testing.T, but ...int) (primary int) {
	t.Helper()
	wait(t, "a primary", 2*time.Minute, func() (err error) {
		if primary, err = c.primary(t.Context()); err != nil {
			return err
		}
		for _, host := range but {
			if host == primary {
				return fmt.Errorf("it is db%d still", host)
			}
		}
		return nil
	})
	return primary
}

// others are the hosts but one.
func others(but int) (list []int) {
	for host := 1; host <= hosts; host++ {
		if host != but {
			list = append(list, host)
		}
	}
	return list
}

// docker runs a command of the engine that must succeed.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command(t.Context(), "docker", args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, short(out))
	}
	return strings.TrimSpace(out)
}
