// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package rewrite

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/hyperiondb/hyperion-vault/cmd/devcluster"
)

// TestTextual: a server has the functions of texts, and none of that name that takes
// any type.
func TestTextual(t *testing.T) {
	c, err := devcluster.Start(t.Context(), devcluster.Config{ServerSettings: map[string]string{"fsync": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Stop() }() // what it did was looked at
	conn, err := c.Primary().ConnectServer(t.Context(), c.Superuser, c.SuperuserPassword, c.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }() // the same
	if _, err := conn.Exec(t.Context(), "CREATE EXTENSION pgcrypto"); err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(textual))
	var missing, any []string
	if err := conn.QueryRow(t.Context(), `SELECT
		ARRAY(SELECT n FROM unnest($1::text[]) n WHERE NOT EXISTS (SELECT FROM pg_proc WHERE proname = n)),
		ARRAY(SELECT oid::regprocedure::text FROM pg_proc WHERE proname = ANY ($1) AND proargtypes::regtype[] &&
			'{"\"any\"",anyelement,anynonarray,anycompatible,anycompatiblenonarray}'::regtype[])`, names).Scan(&missing, &any); err != nil {
		t.Fatal(err)
	}
	if len(missing) > 0 || len(any) > 0 {
		t.Errorf("the server does not have %q; it takes any type in %q", missing, any)
	}
}
