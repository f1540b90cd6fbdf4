# SPDX-License-Identifier: GPL-3.0-or-later
"""psycopg 2: text format and Query messages only."""
import io
import select
import sys

import psycopg2
from psycopg2 import extensions, extras

sys.path.insert(0, "..")
from tap import BROKEN, CANARY, NAMED, PREFIX, Suite, equal, raises, refused, when_waiting  # noqa: E402

PUT = "SELECT vault.put_secret(%s, %s)"
READ = "SELECT vault.read_secret(%s) AS pw"
suite = Suite()


def connect(autocommit=True, **kwargs):
    conn = psycopg2.connect("", **kwargs)
    conn.autocommit = autocommit
    return conn


def one(conn, query, args=None):
    with conn.cursor() as cursor:
        cursor.execute(query, args)
        return cursor.fetchone()[0]


def run(conn, query, args=None):
    with conn.cursor() as cursor:
        cursor.execute(query, args)


conn = connect()


@suite.feature("put")
def put():
    equal(one(conn, PUT, (PREFIX + "/canary", CANARY)), 1)
    for version, value in enumerate(["0", CANARY + "\n\t", "x" * 400_000], 1):
        equal(one(conn, PUT, (PREFIX + "/put", value)), version)
        equal(one(conn, READ, (PREFIX + "/put",)), value)


@suite.feature("read text")
def read_text():
    with conn.cursor() as cursor:
        cursor.execute("SELECT 1 AS n, vault.read_secret(%s) AS pw, now()", (PREFIX + "/canary",))
        equal([(c.name, c.type_code) for c in cursor.description][1], ("pw", 25))
        equal(cursor.fetchone()[:2], (1, CANARY))


@suite.feature("prepare")
def prepare():
    run(conn, "PREPARE p (text) AS SELECT vault.read_secret($1)")
    for _ in range(8):
        equal(one(conn, "EXECUTE p (%s)", (PREFIX + "/canary",)), CANARY)
    run(conn, "DEALLOCATE p")


@suite.feature("batch")
def batch():
    names = ["%s/batch%d" % (PREFIX, i) for i in range(300)]
    with conn.cursor() as cursor:
        extras.execute_batch(cursor, PUT, [(name, CANARY + name) for name in names], page_size=50)
        cursor.executemany(PUT, [(name, CANARY) for name in names[:3]])
        extras.execute_values(cursor, "SELECT %s", [(name, CANARY * 2) for name in names[3:6]], template="vault.put_secret(%s, %s)")
        equal(cursor.fetchone(), (2, 2, 2))
    for name, value in [(names[0], CANARY), (names[5], CANARY * 2), (names[299], CANARY + names[299])]:
        equal(one(conn, READ, (name,)), value)
    with conn.cursor() as cursor:
        raises("22023", extras.execute_batch, cursor, PUT, [(names[6], "x"), ("bad name", CANARY), (names[7], "x")])
    equal(one(conn, READ, (names[6],)), CANARY + names[6])


@suite.feature("cursor")
def cursor():
    with connect(autocommit=False) as block:
        with block.cursor("named") as named:
            named.itersize = 7
            named.execute("SELECT g, vault.read_secret(%s) FROM generate_series(1, 50) g", (PREFIX + "/canary",))
            equal([row for row in named], [(g, CANARY) for g in range(1, 51)])
    block.close()


@suite.feature("copy in")
def copy_in():
    run(conn, "CREATE TEMP TABLE copied (id int, t text)")
    rows = "".join("%d\trow %d\n" % (i, i) for i in range(20_000))
    with conn.cursor() as cursor:
        cursor.copy_expert("COPY copied FROM STDIN", io.StringIO(rows))
        equal(cursor.rowcount, 20_000)
        raises("22P02", cursor.copy_expert, "COPY copied FROM STDIN", io.StringIO("bad\tx\n"))
    equal(one(conn, "SELECT count(*) FROM copied"), 20_000)


@suite.feature("copy out")
def copy_out():
    with conn.cursor() as cursor:
        out = io.StringIO()
        cursor.copy_expert("COPY (SELECT g FROM generate_series(1, 20000) g) TO STDOUT", out)
        equal(out.getvalue(), "".join("%d\n" % i for i in range(1, 20_001)))
        out = io.StringIO()
        cursor.copy_expert("COPY (SELECT vault.read_secret('%s')) TO STDOUT" % (PREFIX + "/canary"), out)
        equal(out.getvalue()[:4], "hv1.")


@suite.feature("transaction")
def transaction():
    block = connect(autocommit=False)
    equal(one(block, PUT, (PREFIX + "/transaction", CANARY)), 1)
    equal(one(block, READ, (PREFIX + "/transaction",)), CANARY)
    block.rollback()
    raises("P0002", one, block, READ, (PREFIX + "/transaction",))
    block.rollback()
    equal(one(block, PUT, (PREFIX + "/transaction", CANARY)), 1)
    block.commit()
    equal(one(conn, READ, (PREFIX + "/transaction",)), CANARY)
    block.close()


@suite.feature("savepoint")
def savepoint():
    block = connect(autocommit=False)
    equal(one(block, PUT, (PREFIX + "/savepoint", CANARY)), 1)
    for query, args, state in [(READ, (BROKEN,), "XX001"), (PUT, ("bad name", CANARY), "22023"), ("SELECT 1/0", None, "22012")]:
        run(block, "SAVEPOINT s")
        raises(state, one, block, query, args)
        equal(block.info.transaction_status, extensions.TRANSACTION_STATUS_INERROR)
        run(block, "ROLLBACK TO s")
        equal(one(block, READ, (PREFIX + "/savepoint",)), CANARY)
    block.commit()
    block.close()


@suite.feature("error")
def error():
    for query, args, state in refused("%s", "%s"):
        raises(state, one, conn, query, args)
        equal(one(conn, "SELECT 1"), 1)


@suite.feature("cancel")
def cancel():
    run(conn, NAMED)
    thread = when_waiting("PgSleep", conn.cancel)
    raises("57014", one, conn, "SELECT pg_sleep(600)")
    thread.join()
    equal(one(conn, READ, (PREFIX + "/canary",)), CANARY)


@suite.feature("notify")
def notify():
    run(conn, "LISTEN psycopg2_channel")
    run(conn, "NOTIFY psycopg2_channel, 'mine'")
    equal([(n.payload, n.pid) for n in conn.notifies], [("mine", conn.info.backend_pid)])
    del conn.notifies[:]
    other = connect()
    pid = one(other, "SELECT pg_backend_pid() FROM pg_notify('psycopg2_channel', 'theirs')")
    while not conn.notifies:
        select.select([conn], [], [])
        conn.poll()
    equal([(n.payload, n.pid) for n in conn.notifies], [("theirs", pid)])
    other.close()


@suite.feature("large object")
def large_object():
    block = connect(autocommit=False)
    large = block.lobject(0, "wb")
    large.write(b"large" * 100_000)
    large.close()
    equal(block.lobject(large.oid, "rb").read(), b"large" * 100_000)
    block.lobject(large.oid).unlink()
    block.commit()
    block.close()


suite.run()
