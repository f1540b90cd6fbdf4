// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package drivers

// scripts are the drivers of other scripting languages, and of ODBC.
var scripts = []suite{
	{
		client: "node-postgres", dir: "nodepg", command: []string{"node", "suite.js"},
		version: []string{"node", "-p", "require('pg/package.json').version"},
		env:     []string{"NODE_PATH=/usr/share/nodejs:/usr/local/share/nodejs"},
		lacks: map[string]string{
			"read binary":  "8.8 counts one result format in its Bind and sends none: the server itself refuses it (08P01)",
			"pipeline":     "it waits for each statement's end",
			"copy in":      "pg-copy-streams is not packaged",
			"copy out":     "pg-copy-streams is not packaged",
			"large object": "it has no calls for them",
		},
	},
	{
		client: "ruby-pg", dir: "rubypg", command: []string{"ruby", "suite.rb"},
		version: []string{"ruby", "-rpg", "-e", "puts PG::VERSION"},
	},
	{
		client: "DBD::Pg", dir: "dbdpg", command: []string{"perl", "suite.pl"},
		version: []string{"perl", "-MDBD::Pg", "-e", "print $DBD::Pg::VERSION"},
		lacks: map[string]string{
			"read binary": "it asks for text only",
			"pipeline":    "it runs one statement at a time",
		},
	},
	{
		client: "PHP pgsql", dir: "phppgsql", command: []string{"php", "suite.php"},
		version: []string{"php", "-r", "echo phpversion('pgsql');"},
		lacks: map[string]string{
			"read binary": "it asks for text only",
			"pipeline":    "not before PHP 8.4",
		},
	},
	{
		client: "PHP PDO", dir: "phppdo", command: []string{"php", "suite.php"},
		version: []string{"php", "-r", "echo phpversion('pdo_pgsql');"},
		lacks: map[string]string{
			"read binary": "it asks for text only",
			"pipeline":    "it runs one statement at a time",
			"cancel":      "it has no call for it",
		},
	},
	{
		client: "psqlODBC", dir: "psqlodbc", command: []string{python, "suite.py"},
		version: []string{"dpkg-query", "-W", "-f", "${Version}", "odbc-postgresql"},
		lacks: map[string]string{
			"read binary": "it asks for text only",
			"pipeline":    "ODBC has none",
			"copy in":     "ODBC has none",
			"copy out":    "ODBC has none",
			"notify":      "ODBC has none",
		},
	},
}
