// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"maps"
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
	if code, _, errs := command(t, "", "serve", "--check", "--new-identity"); code != exitUsage || !strings.Contains(errs, "name one") {
		t.Errorf("got %d: %s", code, errs)
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
