# SPDX-License-Identifier: GPL-3.0-or-later
"""Django's ORM, which is over psycopg 2."""
import io
import os
import sys

sys.modules["psycopg"] = None  # which newer ones would take first

import django  # noqa: E402
from django.conf import settings  # noqa: E402

settings.configure(
    USE_TZ=True,
    DATABASES={name: {
        "ENGINE": "django.db.backends.postgresql", "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"],
        "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"], "PASSWORD": os.environ["PGPASSWORD"],
    } for name in ("default", "other")},
)
django.setup()

from django.db import connection, connections, models, transaction  # noqa: E402
from django.db.models import F, Func, Value  # noqa: E402
from django.db.models.expressions import RawSQL  # noqa: E402
from django.db.models.functions import Cast  # noqa: E402

sys.path.insert(0, "..")
from tap import BROKEN, CANARY, NAMED, PREFIX, Suite, equal, fails, raises, refused, when_waiting  # noqa: E402

NAME = PREFIX + "/canary"
suite = Suite()


class Owner(models.Model):
    name = models.TextField()

    class Meta:
        app_label = "django_suite"


class Account(models.Model):
    owner = models.ForeignKey(Owner, models.CASCADE, null=True)
    secret = models.TextField()
    version = models.IntegerField(null=True)

    class Meta:
        app_label = "django_suite"


class Put(Func):
    function = "vault.put_secret"
    output_field = models.IntegerField()

    def __init__(self, name, value):
        super().__init__(Value(name, models.TextField()), Value(value, models.TextField()))


class Read(Func):
    function = "vault.read_secret"
    output_field = models.TextField()


def one(query, args=None):
    with connection.cursor() as cursor:
        cursor.execute(query, args)
        return cursor.fetchone()[0]


def put(name, value=CANARY):
    return Owner.objects.annotate(v=Put(name, value)).values_list("v", flat=True).get(name="one")


def read(name=NAME):
    return Owner.objects.annotate(pw=Read(Value(name))).values_list("pw", flat=True).get(name="one")


@suite.feature("put")
def put_values():
    with connection.schema_editor() as editor:
        editor.create_model(Owner)
        editor.create_model(Account)
    Owner.objects.create(name="one")
    equal(put(NAME), 1)
    for version, value in enumerate(["0", CANARY + "\n\t", "x" * 400_000], 1):
        equal(put(PREFIX + "/put", value), version)
        equal(read(PREFIX + "/put"), value)
    equal(one("SELECT vault.put_secret(%s, %s)", (PREFIX + "/put", CANARY)), 4)
    cast = Func(Cast(Value(PREFIX + "/put"), models.TextField()), Cast(Value(CANARY), models.TextField()), function="vault.put_secret")
    equal(Owner.objects.annotate(v=Cast(cast, models.IntegerField())).get().v, 5)


@suite.feature("read text")
def read_text():
    for expression in (Read(Value(NAME)), Cast(Read(Value(NAME)), models.TextField()), RawSQL("vault.read_secret(%s)", (NAME,))):
        equal(Owner.objects.annotate(pw=expression).values_list("name", "pw").get(), ("one", CANARY))
    (owner,) = Owner.objects.raw("SELECT o.*, vault.read_secret(%s) AS pw FROM " + Owner._meta.db_table + " o", (NAME,))
    equal(owner.pw, CANARY)


@suite.feature("prepare")
def prepare():
    with connection.cursor() as cursor:
        cursor.execute("PREPARE p (text) AS SELECT vault.read_secret($1)")
        for _ in range(8):
            cursor.execute("EXECUTE p (%s)", (NAME,))
            equal(cursor.fetchone(), (CANARY,))
        cursor.execute("DEALLOCATE p")


@suite.feature("model")
def model():
    owner = Owner.objects.create(name="two")
    name = PREFIX + "/model"
    account = Account.objects.create(owner=owner, secret=name, version=Put(name, CANARY))
    account.refresh_from_db()
    equal(account.version, 1)
    account.version = Put(name, CANARY + " again")
    account.save()
    equal(Account.objects.filter(owner__name="two").update(version=Put(name, CANARY + " third")), 1)
    read_of = Account.objects.select_related("owner").annotate(pw=Read(F("secret")))
    account = read_of.get(owner=owner)
    equal((account.owner.name, account.version, account.pw), ("two", 3, CANARY + " third"))
    equal([a.pw for a in read_of.union(read_of.filter(pk=0), all=True)], [CANARY + " third"])


@suite.feature("bulk insert")
def bulk_insert():
    name = PREFIX + "/bulk"
    Account.objects.bulk_create([Account(secret=NAME, version=n) for n in range(1000)], batch_size=300)
    Account.objects.bulk_create([Account(secret=name, version=Put(name, CANARY + str(i))) for i in range(100)])
    equal(Account.objects.filter(secret=name).values("version").distinct().count(), 100)
    equal(read(name), CANARY + "99")


@suite.feature("cursor")
def cursor():
    """iterator() is a cursor on the server; outside a transaction one WITH HOLD, whose rows cannot be opened any more."""
    query = Account.objects.filter(secret=NAME).order_by("version").annotate(pw=Read(Value(NAME))).values_list("version", "pw")
    with transaction.atomic():
        equal(list(query.iterator(chunk_size=70)), [(n, CANARY) for n in range(1000)])
    plain = Account.objects.filter(secret=NAME).values_list("secret")
    equal(set(plain.iterator(chunk_size=70)), {(NAME,)})
    raises("42501", list, query.iterator(chunk_size=70))


@suite.feature("copy in")
def copy_in():
    rows = "".join("%d\trow %d\n" % (i, i) for i in range(20_000))
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE copied (id int, t text)")
        cursor.copy_expert("COPY copied FROM STDIN", io.StringIO(rows))
        raises("22P02", cursor.copy_expert, "COPY copied FROM STDIN", io.StringIO("bad\tx\n"))
    equal(one("SELECT count(*) FROM copied"), 20_000)


@suite.feature("copy out")
def copy_out():
    with connection.cursor() as cursor:
        out = io.StringIO()
        cursor.copy_expert("COPY copied TO STDOUT", out)
        equal(out.getvalue().count("\n"), 20_000)
        out = io.StringIO()
        cursor.copy_expert("COPY (SELECT vault.read_secret('%s')) TO STDOUT" % NAME, out)
        equal(out.getvalue()[:4], "hv1.")


@suite.feature("transaction")
def transactions():
    name = PREFIX + "/transaction"
    with transaction.atomic():
        equal(put(name), 1)
        equal(read(name), CANARY)
        transaction.set_rollback(True)
    raises("P0002", read, name)
    after = []
    with transaction.atomic():
        equal(put(name), 1)
        transaction.on_commit(lambda: after.append(read(name)))
    equal(after, [CANARY])


@suite.feature("savepoint")
def savepoint():
    name = PREFIX + "/savepoint"
    with transaction.atomic():
        equal(put(name), 1)
        for query, args, state in [("SELECT vault.read_secret(%s)", (BROKEN,), "XX001"), ("SELECT 1/0", None, "22012")] + refused("%s", "%s"):
            with fails(state):
                with transaction.atomic():
                    one(query, args)
            equal(read(name), CANARY)
    equal(read(name), CANARY)


@suite.feature("error")
def error():
    for query, args, state in [("SELECT vault.read_secret(%s)", (BROKEN,), "XX001")] + refused("%s", "%s"):
        raises(state, one, query, args)
        equal(one("SELECT 1"), 1)
    raises("P0002", read, "none")
    raises("22023", put, "bad name")


@suite.feature("cancel")
def cancel():
    own = connection.connection
    with connection.cursor() as cursor:
        cursor.execute(NAMED)
    thread = when_waiting("PgSleep", own.cancel)
    raises("57014", one, "SELECT pg_sleep(600)")
    thread.join()
    equal(read(), CANARY)


@suite.feature("notify")
def notify():
    with connection.cursor() as cursor, connections["other"].cursor() as other:
        cursor.execute("LISTEN django_channel")
        other.execute("SELECT pg_backend_pid(), pg_notify('django_channel', 'theirs')")
        pid = other.fetchone()[0]
        while not connection.connection.notifies:
            cursor.execute("SELECT 1")
        equal([(n.pid, n.payload) for n in connection.connection.notifies], [(pid, "theirs")])


@suite.feature("large object")
def large_object():
    with transaction.atomic():
        large = connection.connection.lobject(0, "wb")
        large.write(b"large" * 100_000)
        large.close()
        equal(connection.connection.lobject(large.oid, "rb").read(), b"large" * 100_000)
        connection.connection.lobject(large.oid).unlink()
        transaction.set_rollback(True)


@suite.feature("introspection")
def introspection():
    with connection.cursor() as cursor:
        names = [t.name for t in connection.introspection.get_table_list(cursor)]
        equal(Account._meta.db_table in names, True)
        columns = [c.name for c in connection.introspection.get_table_description(cursor, Account._meta.db_table)]
        equal(sorted(columns), ["id", "owner_id", "secret", "version"])
    with connection.schema_editor() as editor:
        editor.delete_model(Account)
        editor.delete_model(Owner)


suite.run()
