// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestHealthDescribed: what tells of the node's state is as api/openapi.json says.
func TestHealthDescribed(t *testing.T) {
	text, err := os.ReadFile("../../api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var described struct {
		Paths      map[string]any
		Components struct {
			Parameters struct {
				Require struct {
					Schema struct{ Items struct{ Enum []string } }
				}
			}
			Schemas struct {
				Readiness struct{ Properties map[string]any }
			}
		}
	}
	if err := json.Unmarshal(text, &described); err != nil {
		t.Fatal(err)
	}
	paths := slices.Collect(maps.Keys(described.Paths))
	paths = slices.DeleteFunc(paths, func(path string) bool { return strings.HasPrefix(path, "/v1/") || path == "/openapi.json" })
	slices.Sort(paths)
	if got := slices.Sorted(maps.Keys((&node{}).healthPaths())); !slices.Equal(got, paths) {
		t.Errorf("served are %v, described are %v", got, paths)
	}
	if got := described.Components.Parameters.Require.Schema.Items.Enum; !slices.Equal(got, parts) {
		t.Errorf("described parts are %v, known are %v", got, parts)
	}
	var fields []string
	for f := range reflect.TypeFor[readiness]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields = append(fields, name)
	}
	slices.Sort(fields)
	if got := slices.Sorted(maps.Keys(described.Components.Schemas.Readiness.Properties)); !slices.Equal(got, fields) {
		t.Errorf("described are %v, written are %v", got, fields)
	}
}
