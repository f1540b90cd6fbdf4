// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
	"github.com/hyperiondb/hyperion-vault/proxy/vault/audit"
)

// TestCheckChangesNothing: who asks for a new identity with --check does not get it
// unsaid.
func TestCheckChangesNothing(t *testing.T) {
	if code, _, errs := command(t, "", "serve", "--check", "--new-identity"); code != exitConfig || !strings.Contains(errs, "name one") {
		t.Errorf("got %d: %s", code, errs)
	}
}

// TestCheckLeavesNothing: it says what a start would make, and makes neither directory
// nor socket.
func TestCheckLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	n, err := checkedNode(t, map[string]string{"VAULT_AUDIT_DIR": dir + "/audit", "VAULT_PROXY_LISTEN": dir, "VAULT_ID": "11111111-2222-4333-8444-555555555555"})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	l := &checklist{w: &out}
	n.checkListen(t.Context(), l)
	n.checkSpool(t.Context(), l)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left %v, %v", entries, err)
	}
	if got := out.String(); l.faults > 0 || !strings.Contains(got, "the first start makes the directory, the spool and its key") {
		t.Errorf("got %d faults:\n%s", l.faults, got)
	}
}

// TestOtherVault: no restart helps a node that is told to serve another vault than it has.
func TestOtherVault(t *testing.T) {
	dir := t.TempDir()
	if _, err := vault.PinVaultID(dir, "11111111-2222-4333-8444-555555555555"); err != nil {
		t.Fatal(err)
	}
	_, err := checkedNode(t, map[string]string{"VAULT_AUDIT_DIR": dir, "VAULT_ID": "11111111-2222-4333-8444-666666666666"})
	if _, ok := errors.AsType[*faultError](err); !ok || !strings.Contains(err.Error(), "VAULT_ID is 11111111-2222-4333-8444-666666666666") {
		t.Errorf("got %v, want a fault of the settings", err)
	}
}

// checkedNode is a node as --check makes it.
func checkedNode(t *testing.T, set map[string]string) (*node, error) {
	t.Helper()
	env := minimal()
	maps.Copy(env, set)
	v, _, err := parseServe(t, nil, env, "")
	if err != nil {
		return nil, err
	}
	c, err := v.check()
	if err != nil {
		return nil, err
	}
	n, err := newNode(t.Context(), c, nil, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Cleanup(n.vault.Close)
	}
	return n, err
}

// TestCheckAccess: a node that opens nothing for anybody is not simply well.
func TestCheckAccess(t *testing.T) {
	for want, set := range map[string]map[string]string{
		"by SQL or REST": {},
		"by SQL:":        {"VAULT_READ_AUTH": "token"},
		"by REST:":       {"VAULT_PROXY_ALLOWED_IPS": "loopback"},
		"":               {"VAULT_ALLOWED_IPS": "loopback"},
	} {
		t.Run(want, func(t *testing.T) {
			set["VAULT_AUDIT_DIR"] = t.TempDir()
			n, err := checkedNode(t, set)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			n.checkAccess(&checklist{w: &out})
			if got := out.String(); !strings.Contains(got, want) || want == "" && got != "" {
				t.Errorf("got %q, want %q in it", got, want)
			}
		})
	}
}

// TestSpoolGauges: alarms that hear Prometheus learn what /readyz says.
func TestSpoolGauges(t *testing.T) {
	for low, want := range map[bool]map[string]float64{
		false: {"last_record": 1, "low_space": 0, "ship_alarm": 0, "segments": 1, "shipped_record": 0},
		true:  {"last_record": 1, "low_space": 1, "ship_alarm": 0, "segments": 1, "shipped_record": 0},
	} {
		o := audit.Options{LowSpace: 1}
		if low {
			o.LowSpace = 1 << 62
		}
		spool, err := audit.Open(t.TempDir(), o)
		if err != nil {
			t.Fatal(err)
		}
		n := &node{spool: spool, vault: new(vault.Vault)}
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(n.spoolGauges()...)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
		for name, value := range want {
			if v, there := got["hyperion_vault_audit_"+name]; !there || v != value {
				t.Errorf("low %v, %s: got %v, want %v; there are %v", low, name, v, value, slices.Sorted(maps.Keys(got)))
			}
		}
		if text := n.auditFault(); (text != "") != low {
			t.Errorf("low %v: readyz says %q", low, text)
		}
		if err := spool.Close(); err != nil {
			t.Error(err)
		}
	}
}
