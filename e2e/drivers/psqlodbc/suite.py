# SPDX-License-Identifier: GPL-3.0-or-later
"""psqlODBC under pyodbc: its own prepares, savepoints and cursors, text format."""
import contextlib
import os
import sys
import threading

import pyodbc

sys.path.insert(0, "..")
from tap import Suite, equal  # noqa: E402

PREFIX, CANARY = os.environ["PREFIX"], os.environ["CANARY"]
PUT = "SELECT vault.put_secret(?, ?)"
READ = "SELECT vault.read_secret(?) AS pw"
suite = Suite()
pyodbc.pooling = False


def connect(user=os.environ["PGUSER"], password=os.environ["PGPASSWORD"], autocommit=True, **options):
    options = dict(
        Driver="PostgreSQL Unicode", Servername=os.environ["PGHOST"], Port=os.environ["PGPORT"],
        Database=os.environ["PGDATABASE"], UserName=user, Password=password, SSLmode="disable",
        BoolsAsChar="0", MaxLongVarcharSize="1000000", MaxVarcharSize="1000000", **options)
    return pyodbc.connect(";".join("%s=%s" % item for item in options.items()), autocommit=autocommit)


def one(conn, query, *args):
    with contextlib.closing(conn.cursor()) as cursor:  # a cursor's own "with" commits
        return cursor.execute(query, *args).fetchone()[0]


def raises(state, function, *args):
    try:
        function(*args)
    except pyodbc.Error as e:
        equal(e.args[0], state)
        return e
    raise AssertionError("no error, want %s" % state)


# As it is, and with the values written into the text.
ways = {"prepared": connect(UseServerSidePrepare="1"), "literal": connect(UseServerSidePrepare="0")}
# With a cursor behind each SELECT.
fetching = connect(UseDeclareFetch="1", Fetch="7")
conn = ways["prepared"]


@suite.feature("put")
def put():
    equal(one(conn, PUT, PREFIX + "/canary", CANARY), 1)
    for way, c in ways.items():
        for version, value in enumerate(["0", CANARY + "\n\t", "x" * 400_000], 1):
            equal(one(c, PUT, "%s/put/%s" % (PREFIX, way), value), version)
            equal(one(c, READ, "%s/put/%s" % (PREFIX, way)), value)
    equal(one(conn, "SELECT vault.put_secret('%s', '%s')" % (PREFIX + "/put/prepared", CANARY.replace("'", "''"))), 4)


@suite.feature("read text")
def read_text():
    for c in ways.values():
        with c.cursor() as cursor:
            cursor.execute("SELECT 1 AS n, vault.read_secret(?) AS pw, now()", PREFIX + "/canary")
            equal(cursor.description[1][:2], ("pw", str))
            equal(tuple(cursor.fetchone())[:2], (1, CANARY))


@suite.feature("prepare")
def prepare():
    for way, c in ways.items():
        with c.cursor() as read, c.cursor() as put:
            for n in range(1, 9):
                equal(read.execute(READ, PREFIX + "/canary").fetchone()[0], CANARY)
                equal(put.execute(PUT, "%s/prepared/%s" % (PREFIX, way), "%s %d" % (CANARY, n)).fetchone()[0], n)
        equal(one(c, READ, "%s/prepared/%s" % (PREFIX, way)), CANARY + " 8")


@suite.feature("cursor")
def cursor():
    for c in [*ways.values(), fetching]:
        with c.cursor() as rows:
            rows.execute("SELECT g, vault.read_secret(?) FROM generate_series(1, 50) g", PREFIX + "/canary")
            equal([tuple(rows.fetchone()) for _ in range(10)], [(g, CANARY) for g in range(1, 11)])
            equal([tuple(row) for row in rows.fetchall()], [(g, CANARY) for g in range(11, 51)])


@suite.feature("UseDeclareFetch reads, and a put is refused there as in any cursor")
def declare_fetch():
    said = raises("0A000", one, fetching, PUT, PREFIX + "/fetching", CANARY)
    equal("DECLARE CURSOR" in str(said) and CANARY not in str(said), True)
    equal(one(fetching, READ, PREFIX + "/canary"), CANARY)


@suite.feature("transaction")
def transaction():
    for way in ways:
        block = connect(autocommit=False, UseServerSidePrepare="0" if way == "literal" else "1")
        name = "%s/transaction/%s" % (PREFIX, way)
        equal(one(block, PUT, name, CANARY), 1)
        equal(one(block, READ, name), CANARY)
        block.rollback()
        raises("P0002", one, block, READ, name)
        block.rollback()
        equal(one(block, PUT, name, CANARY), 1)
        block.commit()
        equal(one(conn, READ, name), CANARY)
        block.close()


@suite.feature("savepoint")
def savepoint():
    # Protocol "7.4-2" makes a savepoint before each statement, by itself.
    block = connect(autocommit=False, Protocol="7.4-2")
    equal(one(block, PUT, PREFIX + "/savepoint", CANARY), 1)
    for query, args, state in [(READ, (os.environ["BROKEN"],), "XX001"), (PUT, ("bad name", CANARY), "22023"), ("SELECT 1/0", (), "22012")]:
        raises(state, one, block, query, *args)
        equal(one(block, READ, PREFIX + "/savepoint"), CANARY)
    block.commit()
    block.close()


@suite.feature("error")
def error():
    for c in ways.values():
        for query, args, state in [
            (READ, ("none",), "P0002"),
            (PUT, ("bad name", CANARY), "22023"),
            (PUT, (PREFIX + "/error", None), "22004"),
            ("SELECT vault.put_secret(?, upper(?))", (PREFIX + "/error", CANARY), "0A000"),
            ("SELECT vault.putsecret(?, ?)", (PREFIX + "/error", CANARY), "42883"),
            ("SELECT 1 +", (), "42601"),
        ]:
            said = raises(state, one, c, query, *args)
            if CANARY in str(said):
                raise AssertionError("the error tells the value")
            equal(one(c, "SELECT 1"), 1)


@suite.feature("cancel")
def cancel():
    sleeping = conn.cursor()
    sleeping.execute("SET application_name = '%s'" % PREFIX)

    def when_it_runs():
        watcher = connect(os.environ["SUPERUSER"], os.environ["SUPERPASSWORD"])
        while one(watcher, "SELECT count(*) FROM activity WHERE application_name = ? AND wait_event = 'PgSleep'", PREFIX) == 0:
            pass
        sleeping.cancel()
        watcher.close()

    thread = threading.Thread(target=when_it_runs)
    thread.start()
    raises("57014", sleeping.execute, "SELECT pg_sleep(600)")
    thread.join()
    equal(one(conn, READ, PREFIX + "/canary"), CANARY)


@suite.feature("large object")
def large_object():
    block = connect(autocommit=False, ByteaAsLongVarBinary="0")
    content = os.urandom(100_000)
    with contextlib.closing(block.cursor()) as cursor:
        cursor.execute("CREATE TEMP TABLE objects (n int, o lo)")
        cursor.setinputsizes([None, (pyodbc.SQL_LONGVARBINARY, 0, 0)])
        cursor.execute("INSERT INTO objects VALUES (?, ?)", 1, content)
        equal(one(block, "SELECT length(lo_get(o)) FROM objects"), len(content))
        equal(one(block, "SELECT o FROM objects"), content)
        equal(one(block, READ, PREFIX + "/canary"), CANARY)
    block.rollback()
    block.close()


@suite.feature("many rows of values in one call")
def many():
    with conn.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE many (name text, t text)")
        cursor.executemany("INSERT INTO many VALUES (?, ?)", [(PREFIX + "/canary", str(n)) for n in range(500)])
        cursor.execute("SELECT DISTINCT count(*) OVER (), name FROM many")
        equal(tuple(cursor.fetchone()), (500, PREFIX + "/canary"))
        cursor.executemany("SELECT vault.put_secret(?, ?)", [(PREFIX + "/many", "%s %d" % (CANARY, n)) for n in range(20)])
    equal(one(conn, READ, PREFIX + "/many"), CANARY + " 19")


suite.run()
