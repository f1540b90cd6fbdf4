# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the features of a driver's suite and prints a line of TAP for each; and
what all suites in this language ask for.
"""
import contextlib
import os
import sys
import threading
import traceback

import psycopg2

PREFIX, CANARY, BROKEN = os.environ["PREFIX"], os.environ["CANARY"], os.environ["BROKEN"]


class Suite:
    """@suite.feature("put") marks a function; suite.run() calls them in order."""

    def __init__(self):
        self.features = []

    def feature(self, name):
        def mark(function):
            self.features.append((name, function))
            return function

        return mark

    def run(self, call=lambda function: function()):
        """call is for functions that are not called plainly, as coroutines are."""
        failed = False
        for name, function in self.features:
            try:
                call(function)
            except BaseException:
                failed = True
                print(traceback.format_exc())
                print("not ok - %s" % name, flush=True)
            else:
                print("ok - %s" % name, flush=True)
        sys.exit(failed)


def equal(got, want):
    if got != want:
        raise AssertionError("got %r, want %r" % (got, want))


@contextlib.contextmanager
def fails(state):
    """The block must raise a driver's error with this SQLSTATE, under any of
    the names drivers give it, that does not tell the value.
    """
    try:
        yield
    except Exception as e:
        cause = getattr(e, "orig", None) or e.__cause__ or e
        got = getattr(cause, "pgcode", None) or getattr(cause, "sqlstate", None)
        if got is None:
            raise
        equal(got, state)
        if CANARY in str(cause):
            raise AssertionError("the error tells the value")
    else:
        raise AssertionError("no error, want %s" % state)


def raises(state, function, *args, **kwargs):
    """The function must raise a driver's error with this SQLSTATE."""
    with fails(state):
        function(*args, **kwargs)


def refused(one, two):
    """Statements that must fail, each with its arguments and SQLSTATE. The
    driver writes its first and its second parameter as one and two.
    """
    put = "SELECT vault.put_secret(%s, %s)" % (one, two)
    name = PREFIX + "/refused"
    return [
        ("SELECT vault.read_secret(%s) AS pw" % one, ("none",), "P0002"),
        (put, ("bad name", CANARY), "22023"),
        (put, (name, None), "22004"),
        ("SELECT vault.put_secret(%s, upper(%s))" % (one, two), (name, CANARY), "0A000"),
        ("SELECT vault.putsecret(%s, %s)" % (one, two), (name, CANARY), "42883"),
        ("SELECT 1 +", (), "42601"),
    ]


# A session with this name is found wherever it runs.
NAMED = "SET application_name = '%s'" % PREFIX


def when_waiting(event, act, name=PREFIX):
    """Starts a thread that acts as soon as the session of this name waits for
    the event (pg_stat_activity's), and returns it.
    """

    def watch():
        watcher = psycopg2.connect(user=os.environ["SUPERUSER"], password=os.environ["SUPERPASSWORD"])
        watcher.autocommit = True
        with watcher.cursor() as cursor:
            waits = 0
            while waits == 0:
                cursor.execute("SELECT count(*) FROM activity WHERE application_name = %s AND wait_event_type || '/' || wait_event ~ %s", (name, event))
                (waits,) = cursor.fetchone()
        watcher.close()
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread
