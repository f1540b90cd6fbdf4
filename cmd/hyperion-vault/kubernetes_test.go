// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// podSpec is what this test reads of a pod's description.
type podSpec struct {
	EnableServiceLinks *bool `yaml:"enableServiceLinks"`
	SecurityContext    struct {
		RunAsNonRoot bool `yaml:"runAsNonRoot"`
		FSGroup      int  `yaml:"fsGroup"`
	} `yaml:"securityContext"`
	Containers []containerSpec
	Volumes    []struct {
		Name   string
		Secret struct {
			DefaultMode int `yaml:"defaultMode"`
		}
	}
}

type containerSpec struct {
	Name  string
	Args  []string
	Env   []struct{ Name, Value string }
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	LivenessProbe   probe `yaml:"livenessProbe"`
	ReadinessProbe  probe `yaml:"readinessProbe"`
	SecurityContext struct {
		RunAsUser                int   `yaml:"runAsUser"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
	} `yaml:"securityContext"`
	VolumeMounts []mountSpec `yaml:"volumeMounts"`
}

type mountSpec struct {
	Name      string
	MountPath string `yaml:"mountPath"`
}

type probe struct {
	HTTPGet struct{ Path, Port, Scheme string } `yaml:"httpGet"`
}

// statefulSet takes the manifest out of docs/KUBERNETES.md.
func statefulSet(t *testing.T) (pod podSpec, claims []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/KUBERNETES.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(text), "```yaml\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		var manifest struct {
			Kind string
			Spec struct {
				Template             struct{ Spec podSpec }
				VolumeClaimTemplates []struct{ Metadata struct{ Name string } } `yaml:"volumeClaimTemplates"`
			}
		}
		if strings.Contains(block, "kind: StatefulSet") {
			if err := yaml.Unmarshal([]byte(block), &manifest); err != nil {
				t.Fatal(err)
			}
			for _, claim := range manifest.Spec.VolumeClaimTemplates {
				claims = append(claims, claim.Metadata.Name)
			}
			return manifest.Spec.Template.Spec, claims
		}
	}
	t.Fatal("the document has no StatefulSet")
	return pod, nil
}

// TestKubernetes: the node in the manifest of docs/KUBERNETES.md would start with its
// settings, can be asked where the probes ask, and is the user of the image.
func TestKubernetes(t *testing.T) {
	pod, claims := statefulSet(t)
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks || !pod.SecurityContext.RunAsNonRoot {
		t.Errorf("the pod: %+v", pod)
	}
	at := slices.IndexFunc(pod.Containers, func(c containerSpec) bool { return c.Name == "hyperion-vault" })
	if at < 0 || len(pod.Containers) != 2 {
		t.Fatal("want the node and its server")
	}
	sidecar, server := pod.Containers[at], pod.Containers[1-at]

	cert, key := makePair(t)
	password := writeConfig(t, 0o600, "hunter2")
	env := map[string]string{"VAULT_AUDIT_DIR": t.TempDir()}
	for _, e := range sidecar.Env {
		env[e.Name] = e.Value
	}
	for name, path := range map[string]string{"VAULT_PG_PASSWORD_FILE": password, "VAULT_PG_SSLROOTCERT": cert, "VAULT_TLS_CERT": cert, "VAULT_TLS_KEY": key} {
		if !slices.ContainsFunc(sidecar.VolumeMounts, func(m mountSpec) bool { return filepath.Dir(env[name]) == m.MountPath }) {
			t.Errorf("%s: %s is in no volume", name, env[name])
		}
		env[name] = path
	}
	v, warnings, err := parseServe(t, nil, env, "")
	if err != nil || len(warnings) > 0 {
		t.Fatalf("settings: %v, %v", warnings, err)
	}
	config, err := v.check()
	if err != nil {
		t.Fatal(err)
	}
	known := settingList()
	for name := range env {
		if !slices.ContainsFunc(known, func(st setting) bool { return st.name == name }) {
			t.Errorf("there is no setting %s", name)
		}
	}
	if config.local.network != "unix" {
		t.Errorf("the server is at %+v, not on a socket", config.local)
	}

	ports := map[string]int{}
	for _, p := range sidecar.Ports {
		ports[p.Name] = p.ContainerPort
	}
	for name, address := range map[string]string{"sql": config.proxyListen[0].address, "rest": config.apiListen.address, "metrics": config.metricsListen.address} {
		if !strings.HasSuffix(address, ":"+strconv.Itoa(ports[name])) {
			t.Errorf("port %s: got %d, the node listens on %s", name, ports[name], address)
		}
	}
	paths := (&node{}).healthPaths()
	for want, p := range map[string]probe{"/healthz": sidecar.LivenessProbe, "/readyz": sidecar.ReadinessProbe} {
		if p.HTTPGet.Path != want || paths[want] == nil || p.HTTPGet.Port != "rest" || p.HTTPGet.Scheme != "HTTPS" {
			t.Errorf("probe: got %+v, want %s", p, want)
		}
	}
	checkVolumes(t, pod, claims, sidecar, server)
}

func checkVolumes(t *testing.T, pod podSpec, claims []string, node, server containerSpec) {
	t.Helper()
	volumes := slices.Clone(claims)
	for _, v := range pod.Volumes {
		volumes = append(volumes, v.Name)
		if mode := os.FileMode(v.Secret.DefaultMode); mode != 0 && !keptSecret(0, mode) {
			t.Errorf("%s: a node refuses files of mode %#o", v.Name, mode)
		}
	}
	sockets := 0
	for _, c := range []containerSpec{node, server} {
		for _, m := range c.VolumeMounts {
			if !slices.Contains(volumes, m.Name) {
				t.Errorf("%s: there is no volume %s", c.Name, m.Name)
			}
			if m.Name == "socket" && m.MountPath == "/run/postgresql" {
				sockets++
			}
		}
	}
	if sockets != 2 {
		t.Errorf("who has the socket: got %d, want both", sockets)
	}
	text, err := os.ReadFile("../../docker/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	user := regexp.MustCompile(`(?m)^USER (\d+)`).FindStringSubmatch(string(text))
	if user == nil || user[1] != strconv.Itoa(node.SecurityContext.RunAsUser) || pod.SecurityContext.FSGroup != node.SecurityContext.RunAsUser {
		t.Errorf("the user of the image is %v, the manifest's is %d", user, node.SecurityContext.RunAsUser)
	}
	if c := node.SecurityContext; !c.ReadOnlyRootFilesystem || c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation {
		t.Errorf("the node's rights: %+v", c)
	}
}
