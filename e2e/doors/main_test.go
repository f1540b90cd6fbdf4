// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

// Package doors sends values by every door that a client has: a generated table
// of statements, spellings, transports, settings and databases. Each door must
// either seal the value, so that it reads back and the server never saw it, or
// refuse it, and say why. What must come of a door is derived from a few rules
// (oracle_test.go), not from what the node does.
package doors

import (
	"flag"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/e2e/cluster"
)

var (
	strength = flag.Int("strength", 2, "every choice of that many values of different dimensions is in the table")
	seed     = flag.Uint64("seed", 0, "of the table; 0: by the clock")
	only     = flag.String("only", "", "run the doors whose name contains this")
)

var shared *cluster.Cluster

func TestMain(m *testing.M) {
	settings := cluster.LogAll()
	maps.Copy(settings, map[string]string{
		"wal_compression": "off", // or the scanner would not see a value in a page image
		"fsync":           "off", // nothing here survives the test
		"autovacuum":      "off",
	})
	cluster.Main(m, cluster.Spec{Settings: settings, NodeEnv: map[string]string{"VAULT_LOG_LEVEL": "debug"}}, &shared)
}

// workers send doors at the same time, each with tables of its own.
const workers = 4

// prepare makes what doors need: databases, roles, tables.
func prepare(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	super := c.Connect(t, c.SuperDSN(0))
	cluster.Exec(t, super, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
	for _, user := range []string{"doors_off", "doors_latin"} {
		c.AddUser(t, user, "*", "*")
	}
	cluster.Exec(t, super, "ALTER ROLE doors_off SET standard_conforming_strings = off")
	cluster.Exec(t, super, "ALTER ROLE doors_latin SET client_encoding = 'latin1'")
	cluster.Exec(t, super, "GRANT pg_execute_server_program TO doors_off, doors_latin, "+c.User)
	owner := c.Connect(t, c.DirectDSN(0, c.User))
	for w := range workers {
		cluster.Exec(t, owner, strings.ReplaceAll(tables, "%w", fmt.Sprint(w)))
	}
	cluster.Exec(t, owner, "GRANT ALL ON ALL TABLES IN SCHEMA public TO doors_off, doors_latin")
	for _, name := range databases[2:] {
		cluster.Exec(t, super, "CREATE DATABASE "+name)
		other := c.Connect(t, strings.Replace(c.SuperDSN(0), "dbname="+c.Database, "dbname="+name, 1))
		cluster.Exec(t, other, strangers[name])
		cluster.Exec(t, other, "GRANT ALL ON SCHEMA vault TO PUBLIC; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA vault TO PUBLIC")
	}
}

// strangers are schemas vault that are not ours: one as supabase/vault's
// functions are called, and one that somebody made to catch values.
var strangers = map[string]string{
	"supabase_plain": supabase,
	"squatted": `CREATE SCHEMA vault; CREATE TABLE vault.caught (v text);
CREATE FUNCTION vault.put_secret(name text, value text, description text = NULL) RETURNS int LANGUAGE sql AS
$$ INSERT INTO vault.caught VALUES (value); SELECT 1 $$`,
}

// supabase has the tables and functions of supabase/vault by their names.
const supabase = `CREATE SCHEMA vault;
CREATE TABLE vault.secrets (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, description text NOT NULL DEFAULT '', secret text NOT NULL);
CREATE VIEW vault.decrypted_secrets AS SELECT id, name, description, secret, secret AS decrypted_secret FROM vault.secrets;
CREATE FUNCTION vault.create_secret(new_secret text, new_name text = NULL, new_description text = '') RETURNS uuid LANGUAGE sql AS
$$ INSERT INTO vault.secrets (secret, name, description) VALUES (new_secret, new_name, new_description) RETURNING id $$;
CREATE FUNCTION vault.update_secret(secret_id uuid, new_secret text = NULL) RETURNS void LANGUAGE sql AS
$$ UPDATE vault.secrets SET secret = new_secret WHERE id = secret_id $$`
