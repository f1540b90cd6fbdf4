# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the features of a driver's suite and prints a line of TAP for each."""
import sys
import traceback


class Suite:
    """@suite.feature("put") marks a function; suite.run() runs them in order."""

    def __init__(self):
        self.features = []

    def feature(self, name):
        def mark(function):
            self.features.append((name, function))
            return function

        return mark

    def run(self):
        failed = False
        for name, function in self.features:
            try:
                function()
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


def raises(state, function, *args, **kwargs):
    """The function must raise a driver's error with this SQLSTATE, under any of the names drivers give it."""
    try:
        function(*args, **kwargs)
    except Exception as e:
        cause = getattr(e, "orig", None) or e.__cause__ or e
        got = getattr(cause, "pgcode", None) or getattr(cause, "sqlstate", None)
        if got is None:
            raise
        equal(got, state)
        return e
    raise AssertionError("no error, want %s" % state)
