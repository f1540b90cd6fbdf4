// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package drivers

// python is the system's own: its drivers are packages of the system.
const python = "/usr/bin/python3"

// suites are all programs, a row each.
var suites = []suite{
	{
		client: "psycopg 2", dir: "psycopg2", command: []string{python, "suite.py"},
		version: []string{python, "-c", "import psycopg2; print(psycopg2.__version__.split()[0])"},
		lacks: map[string]string{
			"read binary": "it asks for text only",
			"pipeline":    "it sends one Query at a time",
		},
	},
}
