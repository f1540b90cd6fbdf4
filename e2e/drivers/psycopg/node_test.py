# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives a node with psycopg 3; libpq's environment says where it is. BROKEN is
the name of a secret that cannot be opened.
"""
import os
import threading
import unittest

import psycopg
from psycopg import errors, rows

PUT = "SELECT vault.put_secret(%s, %s)"
READ = "SELECT vault.read_secret(%s) AS pw"
CANARY = "psycopg canary"


def connect(**kwargs):
    return psycopg.connect("", autocommit=True, **kwargs)


def one(cursor):
    (value,) = cursor.fetchone()
    return value


class Node(unittest.TestCase):
    def setUp(self):
        self.conn = connect()
        self.addCleanup(self.conn.close)
        self.name = self.id().rpartition(".")[2] + "/a"

    def put(self, value=CANARY, name=None):
        return one(self.conn.execute(PUT, (name or self.name, value)))

    def test_text_and_binary(self):
        values = [CANARY, CANARY + " ünï ' \\ %", "x" * 400_000]
        for version, value in enumerate(values, 1):
            self.assertEqual(self.put(value), version)
            for binary in (False, True):
                cursor = self.conn.cursor(binary=binary)
                cursor.execute(READ, (self.name,))
                self.assertEqual(cursor.description[0].name, "pw")
                self.assertEqual(cursor.description[0].type_code, 25)
                self.assertEqual(one(cursor), value)
        # A parameter in binary format.
        cursor = self.conn.execute("SELECT vault.put_secret(%b, %b)", (self.name, CANARY))
        self.assertEqual(one(cursor), 4)
        self.assertEqual(one(self.conn.execute("SELECT vault.put_secret(%t, %t)", (self.name, CANARY))), 5)

    def test_client_cursor(self):
        cursor = psycopg.ClientCursor(self.conn)
        cursor.execute(PUT, (self.name, CANARY + " it's"))
        self.assertEqual(one(cursor), 1)
        cursor.execute("SELECT 1; " + READ, (self.name,))
        self.assertTrue(cursor.nextset())
        self.assertEqual(one(cursor), CANARY + " it's")

    def test_prepared(self):
        for version in range(1, 11):
            cursor = self.conn.execute(PUT, (self.name, CANARY), prepare=True)
            self.assertEqual(one(cursor), version)
            self.assertEqual(one(self.conn.execute(READ, (self.name,), prepare=True)), CANARY)
        literal = "SELECT vault.put_secret('" + self.name + "', '" + CANARY + "')"
        for version in range(11, 14):
            self.assertEqual(one(self.conn.execute(literal, prepare=True)), version)
        # Prepared by the driver itself after five executions.
        for version in range(14, 24):
            self.assertEqual(self.put(), version)
        self.assertGreaterEqual(one(self.conn.execute("SELECT count(*) FROM pg_prepared_statements")), 3)
        self.conn.execute("DEALLOCATE ALL")
        self.conn.prepare_threshold = None
        self.assertEqual(self.put(), 24)

    def test_executemany(self):
        cursor = self.conn.cursor()
        cursor.executemany(PUT, [(self.name, CANARY + str(i)) for i in range(50)], returning=True)
        versions = []
        while True:
            versions.append(one(cursor))
            if not cursor.nextset():
                break
        self.assertEqual(versions, list(range(1, 51)))
        self.assertEqual(one(self.conn.execute(READ, (self.name,))), CANARY + "49")

    def test_pipeline(self):
        with self.conn.pipeline() as pipeline:
            cursors = []
            for i in range(20):
                cursors.append(self.conn.execute(PUT, (self.name, CANARY + str(i))))
                cursors.append(self.conn.execute(READ, (self.name,), binary=i % 2 == 1))
                if i % 5 == 4:
                    pipeline.sync()
            got = [one(c) for c in cursors]
        want = []
        for i in range(20):
            want += [i + 1, CANARY + str(i)]
        self.assertEqual(got, want)

    def test_pipeline_error(self):
        with self.conn.pipeline() as pipeline:
            before = self.conn.execute(PUT, (self.name, CANARY))
            pipeline.sync()
            undone = self.conn.execute(PUT, (self.name, CANARY + " undone"))
            bad = self.conn.execute("SELECT 1/(%s::int - 1)", (1,))
            behind = self.conn.execute(READ, (self.name,))
            with self.assertRaises(errors.DivisionByZero):
                pipeline.sync()
            self.assertEqual(one(before), 1)
            with self.assertRaises((errors.PipelineAborted, psycopg.ProgrammingError)):
                behind.fetchone()
            good = self.conn.execute(READ, (self.name,))
            pipeline.sync()
            self.assertEqual(one(good), CANARY)
            del undone, bad
        with self.assertRaises(errors.FeatureNotSupported):
            with self.conn.pipeline():
                self.conn.execute("SELECT vault.put_secret(%s, %s || 'x')", (self.name, CANARY))
                self.conn.execute("SELECT 1")
        self.assertEqual(one(self.conn.execute(READ, (self.name,))), CANARY)

    def test_server_cursor(self):
        for i in range(25):
            self.put(CANARY + str(i), self.name + str(i))
        query = "SELECT n, vault.read_secret(%s || n) AS pw FROM generate_series(0, 24) n ORDER BY n"
        for binary in (False, True):
            with self.conn.transaction():
                with self.conn.cursor("server side", binary=binary) as cursor:
                    cursor.itersize = 10
                    cursor.execute(query, (self.name,))
                    self.assertEqual(cursor.description[1].type_code, 25)
                    self.assertEqual(list(cursor), [(i, CANARY + str(i)) for i in range(25)])
                with self.conn.cursor("server side", scrollable=True) as cursor:
                    cursor.execute(query, (self.name,))
                    cursor.scroll(24, mode="absolute")
                    self.assertEqual(cursor.fetchone(), (24, CANARY + "24"))
        # It outlives its transaction; the right to open does not.
        with self.conn.cursor("held", withhold=True) as cursor:
            cursor.execute("SELECT 1 AS n")
            self.assertEqual(cursor.fetchall(), [(1,)])

    def test_stream(self):
        self.put()
        cursor = self.conn.cursor(row_factory=rows.dict_row)
        got = list(cursor.stream(READ.replace("AS pw", "AS pw, n FROM generate_series(1, 500) n"), (self.name,)))
        self.assertEqual(got, [{"pw": CANARY, "n": n} for n in range(1, 501)])

    def test_copy(self):
        self.put()
        self.conn.execute("CREATE TABLE psycopg_copied (n int, t text)")
        cursor = self.conn.cursor()
        with cursor.copy("COPY psycopg_copied FROM STDIN") as copy:
            for n in range(5000):
                copy.write_row((n, "x" * (n % 90)))
        with cursor.copy("COPY psycopg_copied FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((7, "y"))
        with self.assertRaises(errors.InvalidTextRepresentation):
            with cursor.copy("COPY psycopg_copied FROM STDIN") as copy:
                copy.write("bad\tx\n")
        with self.assertRaises(errors.QueryCanceled):
            with cursor.copy("COPY psycopg_copied FROM STDIN") as copy:
                raise ZeroDivisionError
        self.assertEqual(one(self.conn.execute("SELECT count(*) FROM psycopg_copied")), 5001)
        with cursor.copy("COPY psycopg_copied TO STDOUT") as copy:
            self.assertEqual(sum(1 for _ in copy.rows()), 5001)
        with cursor.copy("COPY (SELECT vault.read_secret('%s')) TO STDOUT" % self.name) as copy:
            self.assertTrue(bytes(copy.read()).startswith(b"hv1."))

    def test_errors(self):
        cases = [
            (READ, ("none",), errors.NoDataFound),
            (PUT, ("bad name", CANARY), errors.InvalidParameterValue),
            (PUT, (self.name, None), errors.NullValueNotAllowed),
            ("SELECT vault.put_secret(%s, upper(%s))", (self.name, CANARY), errors.FeatureNotSupported),
            ("SELECT vault.putsecret(%s, %s)", (self.name, CANARY), errors.UndefinedFunction),
        ]
        for query, args, error in cases:
            with self.assertRaises(error):
                self.conn.execute(query, args)
            with self.conn.transaction():
                with self.assertRaises(error):
                    with self.conn.transaction():
                        self.conn.execute(query, args)
                self.assertEqual(one(self.conn.execute("SELECT 1")), 1)
        self.assertEqual(self.put(), 1)

    def test_broken_in_savepoint(self):
        with self.conn.transaction():
            self.assertEqual(self.put(), 1)
            for binary in (False, True):
                with self.assertRaises(errors.DataCorrupted):
                    with self.conn.transaction():
                        self.conn.cursor(binary=binary).execute(READ, (os.environ["BROKEN"],))
            self.assertEqual(one(self.conn.execute(READ, (self.name,))), CANARY)
        self.assertEqual(self.put(), 2)

    def test_cancel(self):
        holder = connect()
        self.addCleanup(holder.close)
        self.put()
        with holder.transaction(force_rollback=True):
            holder.execute(PUT, (self.name, CANARY))
            pid = self.conn.info.backend_pid

            def cancel():
                waits = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
                with psycopg.connect("user=%s password=%s" % (os.environ["SUPERUSER"], os.environ["SUPERPASSWORD"])) as watcher:
                    watcher.autocommit = True
                    while one(watcher.execute(waits, (pid,))) == 0:
                        pass
                self.conn.cancel()

            thread = threading.Thread(target=cancel)
            thread.start()
            with self.assertRaises(errors.QueryCanceled):
                self.put()
            thread.join()
        self.assertEqual(self.put(), 2)

    def test_notify(self):
        mine = []
        self.conn.add_notify_handler(mine.append)
        self.conn.execute("LISTEN psycopg_channel")
        self.conn.execute("NOTIFY psycopg_channel, 'mine'")
        self.assertEqual([(n.payload, n.pid) for n in mine], [("mine", self.conn.info.backend_pid)])
        other = connect()
        self.addCleanup(other.close)
        other.execute("NOTIFY psycopg_channel, 'theirs'")
        notify = next(self.conn.notifies())
        self.assertEqual((notify.payload, notify.pid), ("theirs", other.info.backend_pid))


if __name__ == "__main__":
    unittest.main()
