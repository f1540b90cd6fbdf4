# SPDX-License-Identifier: GPL-3.0-or-later
"""psycopg 3: both formats, parameters on the server, pipelines; and a cursor
that writes parameters into the text.
"""
import sys

import psycopg
from psycopg import errors, pq, rows

sys.path.insert(0, "..")
from tap import BROKEN, CANARY, NAMED, PREFIX, Suite, equal, fails, raises, refused, when_waiting  # noqa: E402

PUT = "SELECT vault.put_secret(%s, %s)"
READ = "SELECT vault.read_secret(%s) AS pw"
NAME = PREFIX + "/canary"
suite = Suite()


def connect(**kwargs):
    return psycopg.connect("", autocommit=True, **kwargs)


def one(cursor):
    (value,) = cursor.fetchone()
    return value


def each(cursor):
    """The one value of each result of the cursor."""
    yield one(cursor)
    while cursor.nextset():
        yield one(cursor)


conn = connect()


def put(name, value=CANARY):
    return one(conn.execute(PUT, (PREFIX + name, value)))


@suite.feature("put")
def put_values():
    equal(put("/canary"), 1)
    for version, value in enumerate(["0", CANARY + "\n\t", "x" * 400_000], 1):
        equal(put("/put", value), version)
        equal(one(conn.execute(READ, (PREFIX + "/put",))), value)
    for version, query in enumerate([PUT.replace("%s", "%b"), PUT.replace("%s", "%t")], 4):
        equal(one(conn.execute(query, (PREFIX + "/put", CANARY))), version)


def read(binary):
    cursor = conn.cursor(binary=binary)
    for value in ["0", CANARY, "x" * 400_000]:
        put("/read", value)
        cursor.execute(READ, (PREFIX + "/read",))
        equal((cursor.description[0].name, cursor.description[0].type_code), ("pw", 25))
        equal(cursor.pgresult.fformat(0), pq.Format(binary))
        equal(one(cursor), value)


@suite.feature("read text")
def read_text():
    read(False)


@suite.feature("read binary")
def read_binary():
    read(True)


@suite.feature("prepare")
def prepare():
    conn = connect()  # its own: the driver does not notice DEALLOCATE
    args = (PREFIX + "/prepare", CANARY)
    for version in range(1, 11):
        equal(one(conn.execute(PUT, args, prepare=True)), version)
        equal(one(conn.execute(READ, args[:1], prepare=True)), CANARY)
    literal = "SELECT vault.put_secret('%s', '%s')" % (args[0], CANARY.replace("'", "''").replace("%", "%%"))
    for version in range(11, 14):
        equal(one(conn.execute(literal, (), prepare=True)), version)
    # Prepared by the driver itself after five executions.
    for version in range(14, 24):
        equal(one(conn.execute(PUT, args)), version)
    names = one(conn.execute("SELECT count(*) FROM pg_prepared_statements"))
    if names < 3:
        raise AssertionError("%d prepared statements" % names)
    conn.execute("DEALLOCATE ALL")
    conn.prepare_threshold = None
    equal(one(conn.execute(PUT, args)), 24)
    conn.close()


@suite.feature("row by row")
def stream():
    streaming = connect()  # its own: libpq forgets to leave the mode when a pipeline follows
    for binary in (False, True):
        cursor = streaming.cursor(binary=binary, row_factory=rows.dict_row)
        got = list(cursor.stream("SELECT vault.read_secret(%s) AS pw, n FROM generate_series(1, 500) n", (NAME,)))
        equal(got, [{"pw": CANARY, "n": n} for n in range(1, 501)])
    streaming.close()


@suite.feature("executemany")
def executemany():
    cursor = conn.cursor()
    cursor.executemany(PUT, [(PREFIX + "/many", CANARY + str(i)) for i in range(50)], returning=True)
    equal(list(each(cursor)), list(range(1, 51)))
    equal(one(conn.execute(READ, (PREFIX + "/many",))), CANARY + "49")


@suite.feature("parameters in the text")
def client_cursor():
    cursor = psycopg.ClientCursor(conn)
    cursor.execute(PUT, (PREFIX + "/client", CANARY + " it's"))
    equal(one(cursor), 1)
    cursor.execute("SELECT 1; " + READ, (PREFIX + "/client",))
    equal(list(each(cursor)), [1, CANARY + " it's"])


@suite.feature("pipeline")
def pipeline():
    name = PREFIX + "/pipeline"
    with conn.pipeline() as p:
        cursors = []
        for i in range(20):
            cursors.append(conn.execute(PUT, (name, CANARY + str(i))))
            cursors.append(conn.execute(READ, (name,), binary=i % 2 == 1))
            if i % 5 == 4:
                p.sync()
        got = [one(c) for c in cursors]
    equal(got, [value for i in range(20) for value in (i + 1, CANARY + str(i))])

    with conn.pipeline() as p:
        before = conn.execute(PUT, (name, CANARY))
        p.sync()
        kept = [conn.execute(PUT, (name, CANARY + " undone")), conn.execute("SELECT 1/(%s::int - 1)", (1,))]
        behind = []

        def read_behind():
            behind.append(conn.execute(READ, (name,)))
            p.sync()

        raises("22012", read_behind)  # told as soon as it has come, by whatever is called then
        equal(one(before), 21)
        try:
            if not behind:
                p.sync()
            for cursor in behind:
                cursor.fetchone()
                raise AssertionError("a result behind the error")
        except (errors.PipelineAborted, psycopg.ProgrammingError):
            pass
        good = conn.execute(READ, (name,))
        p.sync()
        equal(one(good), CANARY)
        del kept
    with fails("0A000"):
        with conn.pipeline():
            conn.execute("SELECT vault.put_secret(%s, %s || 'x')", (name, CANARY))
            conn.execute("SELECT 1")
    equal(one(conn.execute(READ, (name,))), CANARY)


@suite.feature("cursor")
def cursor():
    for i in range(25):
        put("/cursor%d" % i, CANARY + str(i))
    query = "SELECT n, vault.read_secret(%s || n) AS pw FROM generate_series(0, 24) n ORDER BY n"
    args = (PREFIX + "/cursor",)
    for binary in (False, True):
        with conn.transaction():
            with conn.cursor("server side", binary=binary) as named:
                named.itersize = 10
                named.execute(query, args)
                equal(named.description[1].type_code, 25)
                equal(list(named), [(i, CANARY + str(i)) for i in range(25)])
            with conn.cursor("server side", binary=binary, scrollable=True) as named:
                named.execute(query, args)
                named.scroll(24, mode="absolute")
                equal(named.fetchone(), (24, CANARY + "24"))
    # It outlives its transaction; the right to open does not.
    with conn.cursor("held", withhold=True) as held:
        held.execute("SELECT 1 AS n")
        equal(held.fetchall(), [(1,)])


@suite.feature("copy in")
def copy_in():
    conn.execute("CREATE TEMP TABLE copied (n int, t text)")
    cursor = conn.cursor()
    with cursor.copy("COPY copied FROM STDIN") as copy:
        for n in range(20_000):
            copy.write_row((n, "x" * (n % 90)))
    with cursor.copy("COPY copied FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int4", "text"])
        copy.write_row((7, "y"))
    with fails("22P02"):
        with cursor.copy("COPY copied FROM STDIN") as copy:
            copy.write("bad\tx\n")
    # Newer ones raise the program's own error instead of the server's.
    try:
        with cursor.copy("COPY copied FROM STDIN") as copy:
            raise ZeroDivisionError
    except (ZeroDivisionError, psycopg.errors.QueryCanceled):
        pass
    else:
        raise AssertionError("an abandoned COPY went on")
    equal(one(conn.execute("SELECT count(*) FROM copied")), 20_001)


@suite.feature("copy out")
def copy_out():
    cursor = conn.cursor()
    with cursor.copy("COPY copied TO STDOUT") as copy:
        equal(sum(1 for _ in copy.rows()), 20_001)
    with cursor.copy("COPY copied TO STDOUT (FORMAT binary)") as copy:
        copy.set_types(["int4", "text"])
        equal(list(copy.rows())[-1], (7, "y"))
    with cursor.copy("COPY (SELECT vault.read_secret('%s')) TO STDOUT" % NAME) as copy:
        equal(b"".join(map(bytes, copy))[:4], b"hv1.")


@suite.feature("transaction")
def transaction():
    name = PREFIX + "/transaction"
    with conn.transaction(force_rollback=True):
        equal(put("/transaction"), 1)
        equal(one(conn.execute(READ, (name,))), CANARY)
    raises("P0002", conn.execute, READ, (name,))
    with conn.transaction():
        equal(put("/transaction"), 1)
    equal(one(conn.execute(READ, (name,))), CANARY)


@suite.feature("savepoint")
def savepoint():
    name = PREFIX + "/savepoint"
    with conn.transaction():
        equal(put("/savepoint"), 1)
        for binary in (False, True):
            for query, args, state in [(READ, (BROKEN,), "XX001"), ("SELECT 1/0", (), "22012")] + refused("%s", "%s"):
                with fails(state):
                    with conn.transaction():
                        conn.cursor(binary=binary).execute(query, args)
                equal(one(conn.execute(READ, (name,))), CANARY)
    equal(put("/savepoint"), 2)


@suite.feature("error")
def error():
    for query, args, state in [(READ, (BROKEN,), "XX001")] + refused("%s", "%s"):
        for cursor in (conn.cursor(), conn.cursor(binary=True), psycopg.ClientCursor(conn)):
            raises(state, cursor.execute, query, args)
            equal(one(conn.execute("SELECT 1")), 1)


@suite.feature("cancel")
def cancel():
    conn.execute(NAMED)
    thread = when_waiting("PgSleep", conn.cancel)
    raises("57014", conn.execute, "SELECT pg_sleep(600)")
    thread.join()
    # While the node has the name's lock taken for it.
    put("/cancel")
    holder = connect()
    with holder.transaction(force_rollback=True):
        holder.execute(PUT, (PREFIX + "/cancel", CANARY))
        thread = when_waiting("Lock/", conn.cancel)
        raises("57014", put, "/cancel")
        thread.join()
    equal(put("/cancel"), 2)
    holder.close()


@suite.feature("notify")
def notify():
    mine = []
    conn.add_notify_handler(mine.append)
    conn.execute("LISTEN psycopg_channel")
    conn.execute("NOTIFY psycopg_channel, 'mine'")
    equal([(n.payload, n.pid) for n in mine], [("mine", conn.info.backend_pid)])
    other = connect()
    pid = one(other.execute("SELECT pg_backend_pid() FROM pg_notify('psycopg_channel', 'theirs')"))
    got = next(n for n in conn.notifies() if n.payload != "mine")  # 3.2 gives what the handler had once more
    equal((got.payload, got.pid), ("theirs", pid))
    other.close()


@suite.feature("large object")
def large_object():
    """psycopg 3 has no interface of its own: the functions in SQL."""
    data = b"large \x00\xff" * 50_000
    for binary in (False, True):
        with conn.transaction():
            cursor = conn.cursor(binary=binary)
            oid = one(cursor.execute("SELECT lo_from_bytea(0, %b)", (data,)))
            descriptor = one(cursor.execute("SELECT lo_open(%s, 393216)", (oid,)))
            equal(one(cursor.execute("SELECT lowrite(%s, %b)", (descriptor, b"LARGE"))), 5)
            equal(one(cursor.execute("SELECT lo_lseek(%s, 0, 0)", (descriptor,))), 0)
            equal(one(cursor.execute("SELECT loread(%s, %s)", (descriptor, len(data)))), b"LARGE" + data[5:])
            equal(one(cursor.execute("SELECT lo_unlink(%s)", (oid,))), 1)


suite.run()
