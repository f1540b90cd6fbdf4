// SPDX-License-Identifier: GPL-3.0-or-later

//go:build docker

package docker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// inspected is what the engine says of a container.
type inspected struct {
	Name   string
	Config struct {
		User   string
		Env    []string
		Labels map[string]string
	}
	HostConfig struct {
		ReadonlyRootfs       bool
		Privileged           bool
		CapDrop, SecurityOpt []string
		Ulimits              []struct {
			Name string
			Hard int64
		}
		PortBindings map[string][]struct {
			HostIP string `json:"HostIp"`
		}
	}
	State struct{ Health *struct{ Status string } }
}

// TestHardened: every container of the cluster runs as somebody, with a root that
// it cannot write and no capability; ports are this machine's alone.
func TestHardened(t *testing.T) {
	shared.wantWhole(t)
	ids := strings.Fields(docker(t, "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project="+project))
	var list []inspected
	if err := json.Unmarshal([]byte(docker(t, append([]string{"inspect"}, ids...)...)), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 3*hosts+3 {
		t.Errorf("containers: got %d, want %d", len(list), 3*hosts+3)
	}
	for _, c := range list {
		service := c.Config.Labels["com.docker.compose.service"]
		if c.Config.User == "" || strings.HasPrefix(c.Config.User, "0") || strings.HasPrefix(c.Config.User, "root") {
			t.Errorf("%s runs as %q", service, c.Config.User)
		}
		if h := c.HostConfig; !h.ReadonlyRootfs || h.Privileged || !slices.Contains(h.CapDrop, "ALL") || !slices.Contains(h.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s: %+v", service, h)
		}
		for _, env := range c.Config.Env {
			if strings.Contains(env, shared.token) || strings.Contains(env, "PASSWORD=") {
				t.Errorf("%s has a secret in its environment", service)
			}
		}
		for port, bindings := range c.HostConfig.PortBindings {
			for _, b := range bindings {
				if b.HostIP != "127.0.0.1" || !strings.HasPrefix(service, "node") {
					t.Errorf("%s: %s is published at %s", service, port, b.HostIP)
				}
			}
		}
		if strings.HasPrefix(service, "node") || strings.HasPrefix(service, "db") || strings.HasPrefix(service, "etcd") {
			if c.State.Health == nil || c.State.Health.Status == "unhealthy" {
				t.Errorf("%s: health %+v", service, c.State.Health)
			}
		}
		if strings.HasPrefix(service, "node") && (len(c.HostConfig.Ulimits) != 1 || c.HostConfig.Ulimits[0].Name != "memlock") {
			t.Errorf("%s: limits %+v", service, c.HostConfig.Ulimits)
		}
	}
	for host := 1; host <= hosts; host++ {
		for _, service := range []string{"node", "db", "etcd"} {
			status := docker(t, "exec", shared.id(t, fmt.Sprintf("%s%d", service, host)), "grep", "CapEff", "/proc/1/status")
			if !strings.HasSuffix(status, "0000000000000000") {
				t.Errorf("%s%d: %s", service, host, status)
			}
		}
		limit := docker(t, "exec", shared.id(t, fmt.Sprintf("node%d", host)), "sh", "-c", "ulimit -l")
		if limit != "8192" {
			t.Errorf("node%d: locked memory: got %s KiB, want 8192", host, limit)
		}
	}
}
