// SPDX-License-Identifier: GPL-3.0-or-later

//go:build e2e

package drivers

import "slices"

// python is the system's own: its drivers are packages of the system.
const python = "/usr/bin/python3"

// suites are all programs, a row each.
var suites = slices.Concat(pythons, pgjdbc, scripts, []suite{
	{
		client: "lib/pq", dir: "pq",
		build:   []string{"sh", "-c", `mkdir "$OUT" && go test -c -o "$OUT/suite" . && go list -m -f '{{slice .Version 1}}' github.com/lib/pq >"$OUT/version"`},
		command: []string{"sh", "-c", `exec "$OUT/suite"`},
		version: []string{"sh", "-c", `cat "$OUT/version"`},
		lacks: map[string]string{
			"read binary": "it asks for text as text; the columns beside it are binary",
			"pipeline":    "it waits for each answer",
			"copy out":    "it has none",
		},
	},
})

var pythons = []suite{
	{
		client: "psycopg 2", dir: "psycopg2", command: []string{python, "suite.py"},
		version: []string{python, "-c", "import psycopg2; print(psycopg2.__version__.split()[0])"},
		lacks: map[string]string{
			"read binary": "it asks for text only",
			"pipeline":    "it sends one Query at a time",
		},
	},
	{
		client: "psycopg 3", dir: "psycopg", command: []string{python, "suite.py"},
		version: []string{python, "-c", "import psycopg; print(psycopg.__version__)"},
	},
	{
		client: "asyncpg", dir: "asyncpg", command: []string{python, "suite.py"},
		version: []string{python, "-c", "import asyncpg; print(asyncpg.__version__)"},
		lacks:   map[string]string{"pipeline": "it waits for each answer, but in executemany"},
	},
	{
		client: "SQLAlchemy on psycopg 2", dir: "sqlalchemy", command: []string{python, "suite.py", "psycopg2"},
		version: []string{python, "-c", "import sqlalchemy; print(sqlalchemy.__version__)"},
		lacks: map[string]string{
			"read binary": "its driver asks for text only",
			"pipeline":    "it waits for each answer",
		},
	},
	{
		client: "SQLAlchemy on asyncpg", dir: "sqlalchemy", command: []string{python, "suite.py", "asyncpg"},
		version: []string{python, "-c", "import sqlalchemy; print(sqlalchemy.__version__)"},
		lacks: map[string]string{
			"read text": "its driver asks for binary only",
			"pipeline":  "it waits for each answer",
		},
	},
	{
		client: "Django", dir: "django", command: []string{python, "suite.py"},
		version: []string{python, "-c", "import django; print(django.get_version())"},
		lacks: map[string]string{
			"read binary": "its driver, psycopg 2, asks for text only",
			"pipeline":    "it waits for each answer",
		},
	},
}

// pgjdbc has a row for each of its query modes.
var pgjdbc = []suite{
	inMode("extended", nil),
	inMode("extendedForPrepared", nil),
	inMode("extendedCacheEverything", nil),
	inMode("simple", map[string]string{
		"read binary": "it asks for text only in this mode",
		"pipeline":    "it sends one Query at a time in this mode",
	}),
}

func inMode(mode string, lacks map[string]string) suite {
	const driver = "/usr/share/java/postgresql.jar"
	return suite{
		client: "pgjdbc " + mode, dir: "pgjdbc",
		build:   []string{"sh", "-c", `javac -Xlint:all -Werror -d "$OUT" -cp ` + driver + ` *.java`},
		command: []string{"sh", "-c", `exec java -Xshare:auto -XX:TieredStopAtLevel=1 -cp "$OUT:` + driver + `" Suite ` + mode},
		version: []string{"dpkg-query", "-W", "-f", "${source:Upstream-Version}", "libpostgresql-jdbc-java"},
		lacks:   lacks,
	}
}
