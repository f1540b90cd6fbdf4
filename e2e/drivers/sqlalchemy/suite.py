# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLAlchemy, over the driver that the argument names: psycopg2 or asyncpg. Its
synchronous interface runs on asyncpg too, within a greenlet of the event loop.
"""
import asyncio
import io
import sys

from sqlalchemy import Column, ForeignKey, Integer, Text, cast, create_engine, func, insert, inspect, literal, select, text, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, column_property, declarative_base, joinedload, relationship
from sqlalchemy.util import await_only, greenlet_spawn

sys.path.insert(0, "..")
from tap import BROKEN, CANARY, NAMED, PREFIX, Suite, equal, fails, refused, when_waiting  # noqa: E402

DRIVER = sys.argv[1]
SYNC = DRIVER == "psycopg2"
NAME = PREFIX + "/canary"
vault = func.vault
Base = declarative_base()
suite = Suite()
loop = asyncio.new_event_loop()
engine = create_engine("postgresql+psycopg2://", future=True) if SYNC else create_async_engine("postgresql+asyncpg://").sync_engine


class Owner(Base):
    __tablename__ = "owner_" + DRIVER
    id = Column(Integer, primary_key=True)
    name = Column(Text, nullable=False)
    accounts = relationship("Account", back_populates="owner", order_by="Account.id")


class Account(Base):
    __tablename__ = "account_" + DRIVER
    id = Column(Integer, primary_key=True)
    owner_id = Column(ForeignKey(Owner.id))
    secret = Column(Text, nullable=False)
    version = Column(Integer)
    owner = relationship(Owner, back_populates="accounts")
    password = column_property(vault.read_secret(secret, type_=Text), deferred=True)


def put(session, name, value=CANARY):
    return session.scalar(select(vault.put_secret(name, value)))


def read(session, name=NAME):
    return session.scalar(select(vault.read_secret(name)))


def raw(connection):
    """The driver's own connection."""
    return connection.connection.connection if SYNC else connection.connection.connection._connection


@suite.feature("put")
def put_values():
    Base.metadata.create_all(engine)
    with Session(engine, future=True) as session:
        equal(put(session, NAME), 1)
        for version, value in enumerate(["0", CANARY + "\n\t", "x" * 400_000], 1):
            equal(put(session, PREFIX + "/put", value), version)
            equal(read(session, PREFIX + "/put"), value)
        # Under casts, in a statement of the client's own, and with a literal in the text.
        equal(session.scalar(select(vault.put_secret(cast(PREFIX + "/put", Text), cast(CANARY, Text)))), 4)
        equal(session.scalar(text("SELECT vault.put_secret(:name, :value)"), {"name": PREFIX + "/put", "value": CANARY}), 5)
        written = select(vault.put_secret(PREFIX + "/put", CANARY + ":percent")).compile(engine, compile_kwargs={"literal_binds": True})
        equal(session.connection().exec_driver_sql(str(written)).scalar(), 6)
        equal(read(session, PREFIX + "/put"), CANARY + ":percent")
        session.commit()


@suite.feature("read text" if SYNC else "read binary")
def read_values():
    with Session(engine, future=True) as session:
        for expression in (vault.read_secret(NAME), vault.read_secret(literal(NAME, Text)), cast(vault.read_secret(NAME), Text)):
            row = session.execute(select(literal(1).label("n"), expression.label("pw"), func.now())).one()
            equal((row.n, row.pw), (1, CANARY))


@suite.feature("prepare")
def prepare():
    with Session(engine, future=True) as session:
        if SYNC:
            session.execute(text("PREPARE p (text) AS SELECT vault.read_secret($1)"))
            for _ in range(8):
                equal(session.scalar(text("EXECUTE p (:name)"), {"name": NAME}), CANARY)
            session.execute(text("DEALLOCATE p"))
        else:
            for version in range(1, 9):
                equal(put(session, PREFIX + "/prepare"), version)
            if session.scalar(text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%put_secret($1%'")) == 0:
                raise AssertionError("nothing was prepared")


@suite.feature("model")
def model():
    with Session(engine, future=True) as session:
        owner = Owner(name="first")
        for i in range(3):
            name = PREFIX + "/model%d" % i
            owner.accounts.append(Account(secret=name, version=vault.put_secret(name, CANARY + str(i))))
        session.add(owner)
        session.commit()
        equal([a.version for a in owner.accounts], [1, 1, 1])
        owner.accounts[0].version = vault.put_secret(PREFIX + "/model0", CANARY + " again")
        session.commit()
        equal((owner.accounts[0].version, owner.accounts[0].password), (2, CANARY + " again"))
    with Session(engine, future=True) as session:
        query = select(Owner).options(joinedload(Owner.accounts).undefer(Account.password))
        (owner,) = session.execute(query).unique().scalars()
        equal([a.password for a in owner.accounts], [CANARY + " again", CANARY + "1", CANARY + "2"])
        rows = session.execute(select(Account.id, vault.read_secret(Account.secret)).join(Owner).where(Owner.name == "first").order_by(Account.id))
        equal([r[1] for r in rows], [CANARY + " again", CANARY + "1", CANARY + "2"])


@suite.feature("bulk insert")
def bulk_insert():
    name = PREFIX + "/bulk"
    with Session(engine, future=True) as session:
        session.bulk_insert_mappings(Account, [{"secret": NAME, "version": n} for n in range(1000)])
        session.execute(insert(Account).values([{"secret": name, "version": vault.put_secret(name, CANARY + str(i))} for i in range(100)]))
        session.execute(text("INSERT INTO %s (secret, version) VALUES (:name, vault.put_secret(:name2, :value))" % Account.__tablename__),
                        [{"name": name, "name2": name, "value": CANARY + str(i)} for i in range(100, 120)])
        equal(session.scalar(select(func.count(Account.version.distinct())).where(Account.secret == name)), 120)
        equal(read(session, name), CANARY + "119")
        session.commit()


@suite.feature("cursor")
def cursor():
    with Session(engine, future=True) as session:
        query = select(Account.version, vault.read_secret(NAME)).where(Account.secret == NAME).order_by(Account.version)
        equal(list(map(tuple, session.execute(query.execution_options(yield_per=70)))), [(n, CANARY) for n in range(1000)])
        streamed = session.connection().execution_options(stream_results=True, max_row_buffer=7).execute(query)
        equal([len(p) for p in streamed.partitions(300)], [300, 300, 300, 100])


@suite.feature("copy in")
def copy_in():
    rows = "".join("%d\trow %d\n" % (i, i) for i in range(20_000))
    with engine.begin() as conn:
        conn.execute(text("CREATE TEMP TABLE copied (id int, t text) ON COMMIT DROP"))
        if SYNC:
            with raw(conn).cursor() as own:
                own.copy_expert("COPY copied FROM STDIN", io.StringIO(rows))
        else:
            await_only(raw(conn).copy_to_table("copied", source=io.BytesIO(rows.encode())))
        equal(conn.scalar(text("SELECT count(*) FROM copied")), 20_000)


@suite.feature("copy out")
def copy_out():
    def copied(conn, query):
        out = io.BytesIO()
        if SYNC:
            with raw(conn).cursor() as own:
                own.copy_expert("COPY (%s) TO STDOUT" % query, out)
        else:
            await_only(raw(conn).copy_from_query(query, output=out))
        return out.getvalue()

    with engine.connect() as conn:
        conn.execute(text("SELECT 1"))
        equal(copied(conn, "SELECT g FROM generate_series(1, 20000) g"), b"".join(b"%d\n" % i for i in range(1, 20_001)))
        equal(copied(conn, "SELECT vault.read_secret('%s')" % NAME)[:4], b"hv1.")


@suite.feature("transaction")
def transaction():
    name = PREFIX + "/transaction"
    with Session(engine, future=True) as session:
        equal(put(session, name), 1)
        equal(read(session, name), CANARY)
        session.rollback()
        with fails("P0002"):
            read(session, name)
        session.rollback()
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        equal(put(session, name), 1)
        session.commit()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        equal(put(conn, name), 2)
        equal(read(conn, name), CANARY)


@suite.feature("savepoint")
def savepoint():
    name = PREFIX + "/savepoint"
    with Session(engine, future=True) as session, session.begin():
        equal(put(session, name), 1)
        for query, state in [(vault.read_secret(BROKEN), "XX001"), (vault.put_secret("bad name", CANARY), "22023"), (text("1/0"), "22012")]:
            with fails(state):
                with session.begin_nested():
                    session.execute(select(query))
            equal(read(session, name), CANARY)
    with Session(engine, future=True) as session:
        equal(read(session, name), CANARY)


@suite.feature("error")
def error():
    with Session(engine, future=True) as session:
        for query, args, state in refused(":one", ":two"):
            with fails(state):
                session.execute(text(query), dict(zip(("one", "two"), args)))
            session.rollback()
            equal(session.scalar(select(1)), 1)


@suite.feature("cancel")
def cancel():
    with Session(engine, future=True) as session:
        session.execute(text(NAMED))
        asleep = select(func.pg_sleep(600))
        if SYNC:
            thread = when_waiting("PgSleep", raw(session.connection()).cancel)
            with fails("57014"):
                session.execute(asleep)
        else:  # the driver sends the request when its task is cancelled
            task = loop.create_task(greenlet_spawn(session.execute, asleep))
            thread = when_waiting("PgSleep", lambda: loop.call_soon_threadsafe(task.cancel))
            try:
                await_only(task)
            except asyncio.CancelledError:
                pass
        thread.join()
        session.rollback()
        equal(read(session), CANARY)


@suite.feature("notify")
def notify():
    channel = DRIVER + "_alchemy"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn, engine.connect() as other:
        pid = other.scalar(select(func.pg_backend_pid()))
        if SYNC:
            conn.execute(text("LISTEN " + channel))
        else:
            heard = asyncio.Queue()
            await_only(raw(conn).add_listener(channel, lambda _, pid, channel, payload: heard.put_nowait((pid, payload))))
        other.execute(select(func.pg_notify(channel, "theirs")))
        other.commit()
        if SYNC:
            while not raw(conn).notifies:
                conn.execute(text("SELECT 1"))
            equal([(n.pid, n.payload) for n in raw(conn).notifies], [(pid, "theirs")])
        else:
            equal(await_only(heard.get()), (pid, "theirs"))


@suite.feature("large object")
def large_object():
    """By functions in SQL; the drivers' own suites have the rest."""
    data = b"large \x00\xff" * 50_000
    with Session(engine, future=True) as session:
        oid = session.scalar(select(func.lo_from_bytea(0, data)))
        equal(bytes(session.scalar(select(func.lo_get(oid)))), data)
        equal(session.scalar(select(func.lo_unlink(oid))), 1)
        session.commit()


@suite.feature("reflection")
def reflection():
    about = inspect(engine)
    equal([c["name"] for c in about.get_columns(Account.__tablename__)], ["id", "owner_id", "secret", "version"])
    equal(about.get_foreign_keys(Account.__tablename__)[0]["referred_table"], Owner.__tablename__)
    if "effective_access" not in about.get_view_names(schema="vault"):
        raise AssertionError("the views of schema vault")
    with Session(engine, future=True) as session:
        session.execute(update(Account).values(version=None).execution_options(synchronize_session=False))
        session.commit()
    Base.metadata.drop_all(engine)


def in_greenlet(function):
    return function() if SYNC else loop.run_until_complete(greenlet_spawn(function))


suite.run(in_greenlet)
