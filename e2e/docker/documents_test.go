// SPDX-License-Identifier: GPL-3.0-or-later

//go:build docker

package docker

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.yaml.in/yaml/v3"

	"github.com/hyperiondb/hyperion-vault/e2e/doccheck"
)

func document(t *testing.T, path, kind string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(shared.root, path))
	if err != nil {
		t.Fatal(err)
	}
	found, err := doccheck.Texts(string(text), kind)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %d blocks %s, %v", path, len(found), kind, err)
	}
	return found
}

// TestReadme runs the README's lines on the running cluster: what is up stays up,
// and they print what they should.
func TestReadme(t *testing.T) {
	shared.wantWhole(t)
	found := document(t, "README.md", "docker")
	replacements := []string{"docker compose --file docker/compose.yml", strings.Join(shared.compose, " ")}
	if *built {
		replacements = append(replacements, " --build ", " ")
	}
	replace := strings.NewReplacer(replacements...)
	for _, block := range found {
		c := exec.CommandContext(t.Context(), "bash", "-eu", "-o", "pipefail", "-c", replace.Replace(block))
		c.Dir = shared.root
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%v in\n%s", err, block)
		}
		for _, want := range []string{`"status":"ok"`, `"version":1,"value":"s3cr3t"`, "\n s3cr3t-2\n", "\n hv1."} {
			if !strings.Contains(string(out), want) {
				t.Errorf("it printed\n%swithout %q", out, want)
			}
		}
	}
	shared.wantWhole(t)
}

// TestCI builds the image that docs/CI.md says how to build, and starts it as both
// services there do.
func TestCI(t *testing.T) {
	build := []string{"build", "--quiet", "--file", "docker/Dockerfile", "--target", "server", "--tag", "hyperion-vault"}
	for name, variable := range map[string]string{"GOPROXY": "GOPROXY", "GOSUMDB": "GOSUMDB", "GOFLAGS": "BUILD_GOFLAGS"} {
		build = append(build, "--build-arg", name+"="+os.Getenv(variable)) // as compose.yml does, so that nothing is built twice
	}
	docker(t, append(build, ".")...)
	folder := t.TempDir()
	file := document(t, "docs/CI.md", "image")[0]
	schema := document(t, "docs/CI.md", "schema")[0]
	for name, text := range map[string]string{"Dockerfile": file, "schema.sql": schema} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image := project + "-ci"
	docker(t, "build", "--quiet", "--tag", image, folder)
	t.Cleanup(func() { _, _ = command(context.WithoutCancel(t.Context()), "docker", "rmi", image) }) // one more run makes it again

	blocks := document(t, "docs/CI.md", "yaml")
	if len(blocks) != 2 {
		t.Fatalf("YAML blocks: got %d, want GitHub's and GitLab's", len(blocks))
	}
	t.Run("GitHub", func(t *testing.T) {
		var workflow struct {
			Jobs map[string]struct {
				Services map[string]struct {
					Env     map[string]string
					Options string
				}
			}
		}
		if err := yaml.Unmarshal([]byte(blocks[0]), &workflow); err != nil {
			t.Fatal(err)
		}
		service, ok := workflow.Jobs["test"].Services["vault"]
		if !ok {
			t.Fatal("no service vault in the job test")
		}
		tryService(t, image, service.Env, strings.Fields(service.Options), nil)
	})
	t.Run("GitLab", func(t *testing.T) {
		var pipeline struct {
			Test struct {
				Services []struct {
					Name, Alias string
					Command     []string
					Variables   map[string]string
				}
			}
		}
		if err := yaml.Unmarshal([]byte(blocks[1]), &pipeline); err != nil {
			t.Fatal(err)
		}
		if len(pipeline.Test.Services) != 1 {
			t.Fatal("no service in the job test")
		}
		service := pipeline.Test.Services[0]
		if got := strings.Join(service.Command, " "); got != "dev --listen 0.0.0.0 --sql /schema.sql" {
			t.Errorf("command: got %s", got)
		}
		tryService(t, image, service.Variables, nil, service.Command)
	})
}

// tryService runs the image as a service of a job, and is the job.
func tryService(t *testing.T, image string, env map[string]string, options, arguments []string) {
	t.Helper()
	run := []string{"run", "--detach", "--publish", "127.0.0.1::6432", "--publish", "127.0.0.1::8200"}
	for name, value := range env {
		run = append(run, "--env", name+"="+value)
	}
	id := docker(t, append(append(append(run, options...), image), arguments...)...)
	t.Cleanup(func() { _, _ = command(context.WithoutCancel(t.Context()), "docker", "rm", "--force", id) }) // a test that failed on its way
	defer func() {
		if t.Failed() {
			t.Log(docker(t, "logs", id))
		}
	}()
	wait(t, "the service is healthy", 3*time.Minute, func() error {
		if got := docker(t, "inspect", "--format", "{{.State.Health.Status}}", id); got != "healthy" {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
	address := docker(t, "port", id, "6432/tcp")
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgresql://app:%s@%s/app?sslmode=require", env["HYPERION_VAULT_DEV_PASSWORD"], address))
	if err != nil {
		t.Fatal(err)
	}
	if got := sql(t, conn, "SELECT vault.read_secret('stripe/key') FROM account"); got != "sk_test_1" {
		t.Errorf("the schema's secret: got %q", got)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	docker(t, "stop", "--time", "20", id)
	if code := docker(t, "inspect", "--format", "{{.State.ExitCode}}", id); code != "0" {
		t.Errorf("exit code: got %s, want 0", code)
	}
	docker(t, "rm", id)
}
