# SPDX-License-Identifier: GPL-3.0-or-later
"""asyncpg: prepares everything and asks for binary format, but where a method
has no arguments.
"""
import asyncio
import os
import sys

import asyncpg

sys.path.insert(0, "..")
from tap import BROKEN, CANARY, NAMED, PREFIX, Suite, equal, fails, refused, when_waiting  # noqa: E402

PUT = "SELECT vault.put_secret($1, $2)"
READ = "SELECT vault.read_secret($1) AS pw"
NAME = PREFIX + "/canary"
suite = Suite()
loop = asyncio.new_event_loop()


def connect(**kwargs):
    return asyncpg.connect(**kwargs)


conn = loop.run_until_complete(connect())


def literal(text):
    return "'" + text.replace("'", "''") + "'"


@suite.feature("put")
async def put():
    equal(await conn.fetchval(PUT, NAME, CANARY), 1)
    name = PREFIX + "/put"
    for version, value in enumerate(["0", CANARY + "\n\t", "x" * 400_000], 1):
        equal(await conn.fetchval(PUT, name, value), version)
        equal(await conn.fetchval(READ, name), value)
    equal(await conn.execute(PUT, name, CANARY), "SELECT 1")


@suite.feature("read text")
async def read_text():
    other = await connect()
    await other.set_type_codec("text", schema="pg_catalog", encoder=str, decoder=lambda text: ["decoded", text], format="text")
    equal(await other.fetchval(READ, NAME), ["decoded", CANARY])
    await other.close()


@suite.feature("script")
async def script():
    """execute without arguments is a Query, of which only the end is seen."""
    name = literal(PREFIX + "/text")
    equal(await conn.execute("SELECT vault.put_secret(%s, %s); SELECT vault.read_secret(%s)" % (name, literal(CANARY), name)), "SELECT 1")
    equal(await conn.fetchval(READ, PREFIX + "/text"), CANARY)
    with fails("XX001"):
        await conn.execute("SELECT vault.read_secret(%s)" % literal(BROKEN))


@suite.feature("read binary")
async def read_binary():
    statement = await conn.prepare("SELECT 1::int8 AS n, vault.read_secret($1) AS pw, now()")
    equal([a.type.name for a in statement.get_attributes()], ["int8", "text", "timestamptz"])
    row = await statement.fetchrow(NAME)
    equal((row["n"], row["pw"]), (1, CANARY))
    rows = await conn.fetch("SELECT n, vault.read_secret($1) AS pw FROM generate_series(1, 500) n", NAME)
    equal([tuple(r) for r in rows], [(n, CANARY) for n in range(1, 501)])


@suite.feature("prepare")
async def prepare():
    name = PREFIX + "/prepare"
    statement, reader = await conn.prepare(PUT), await conn.prepare(READ)
    equal([p.name for p in statement.get_parameters()], ["text", "text"])
    fixed = await conn.prepare("SELECT vault.put_secret(%s, %s)" % (literal(name), literal(CANARY + " fixed")))
    equal(len(fixed.get_parameters()), 0)
    for i in range(8):
        equal(await statement.fetchval(name, CANARY + str(i)), 2 * i + 1)
        equal(await reader.fetchval(name), CANARY + str(i))
        equal(await fixed.fetchval(), 2 * i + 2)
        equal(await reader.fetchval(name), CANARY + " fixed")


@suite.feature("statement cache")
async def cache():
    """None at all, and one so small that statements are closed while others run."""
    for size in (0, 1):
        other = await connect(statement_cache_size=size)
        for i in range(5):
            equal(await other.fetchval(PUT, PREFIX + "/cache%d" % size, CANARY + str(i)), i + 1)
            equal(await other.fetchval(READ, PREFIX + "/cache%d" % size), CANARY + str(i))
        await other.reset()
        equal(await other.fetchval(READ, NAME), CANARY)
        await other.close()


@suite.feature("types made anew")
async def schema_changes():
    """A cached statement whose result changes its type is prepared again by the driver."""
    await conn.execute("CREATE TEMP TABLE changing (id int, t text)")
    query = "SELECT *, vault.read_secret($1) AS pw FROM changing"
    await conn.execute("INSERT INTO changing VALUES (1, 'a')")
    equal(tuple(await conn.fetchrow(query, NAME)), (1, "a", CANARY))
    await conn.execute("ALTER TABLE changing ALTER id TYPE text, DROP t")
    equal(tuple(await conn.fetchrow(query, NAME)), ("1", CANARY))


@suite.feature("executemany")
async def executemany():
    name = PREFIX + "/many"
    await conn.executemany(PUT, [(name, CANARY + str(i)) for i in range(50)])
    equal(await conn.fetchval(READ, name), CANARY + "49")
    with fails("22023"):  # all or nothing
        await conn.executemany(PUT, [(name, CANARY), ("bad name", CANARY)])
    equal(await conn.fetchval("SELECT max(version) FROM vault.list_versions($1)", name), 50)


@suite.feature("cursor")
async def cursor():
    query = "SELECT g, vault.read_secret($1) FROM generate_series(1, 50) g"
    async with conn.transaction():
        for prefetch in (1, 7, 50):
            equal([tuple(r) async for r in conn.cursor(query, NAME, prefetch=prefetch)], [(g, CANARY) for g in range(1, 51)])
        portal = await conn.cursor(query, NAME)
        await portal.forward(10)
        equal(tuple(await portal.fetchrow()), (11, CANARY))
        equal(await conn.fetchval(READ, NAME), CANARY)  # while the portal is open
        equal([r[0] for r in await portal.fetch(100)], list(range(12, 51)))


@suite.feature("copy in")
async def copy_in():
    await conn.execute("CREATE TEMP TABLE copied (id int, t text)")
    records = [(i, "row %d" % i) for i in range(20_000)]
    equal(await conn.copy_records_to_table("copied", records=records), "COPY 20000")

    async def lines():
        for i in range(100):
            yield b"%d\tline\n" % i

    equal(await conn.copy_to_table("copied", source=lines()), "COPY 100")

    async def bad():
        yield b"bad\tx\n"

    with fails("22P02"):
        await conn.copy_to_table("copied", source=bad())

    async def gone():
        yield b"1\tx\n"
        raise ZeroDivisionError

    try:
        await conn.copy_to_table("copied", source=gone())
    except ZeroDivisionError:
        pass
    equal(await conn.fetchval("SELECT count(*) FROM copied"), 20_100)


@suite.feature("copy out")
async def copy_out():
    async def copied(query, *args, **kwargs):
        chunks = []

        async def keep(chunk):
            chunks.append(bytes(chunk))

        tag = await conn.copy_from_query(query, *args, output=keep, **kwargs)
        return tag, b"".join(chunks)

    equal(await copied("SELECT g FROM generate_series(1, 20000) g"), ("COPY 20000", b"".join(b"%d\n" % i for i in range(1, 20_001))))
    equal(await copied("SELECT 7", format="binary"), ("COPY 1", b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\1\0\0\0\4\0\0\0\7\xff\xff"))
    tag, data = await copied("SELECT vault.read_secret($1)", NAME)
    equal((tag, data[:4]), ("COPY 1", b"hv1."))


@suite.feature("transaction")
async def transaction():
    name = PREFIX + "/transaction"
    block = conn.transaction(isolation="repeatable_read")
    await block.start()
    equal(await conn.fetchval(PUT, name, CANARY), 1)
    equal(await conn.fetchval(READ, name), CANARY)
    await block.rollback()
    with fails("P0002"):
        await conn.fetchval(READ, name)
    async with conn.transaction():
        equal(await conn.fetchval(PUT, name, CANARY), 1)
    async with conn.transaction(readonly=True):
        equal(await conn.fetchval(READ, name), CANARY)
        with fails("25006"):
            async with conn.transaction():
                await conn.fetchval(PUT, name, CANARY)
    equal(await conn.fetchval(READ, name), CANARY)


@suite.feature("savepoint")
async def savepoint():
    name = PREFIX + "/savepoint"
    async with conn.transaction():
        equal(await conn.fetchval(PUT, name, CANARY), 1)
        for query, args, state in [(READ, (BROKEN,), "XX001"), ("SELECT 1/0", (), "22012")] + refused("$1", "$2"):
            with fails(state):
                async with conn.transaction():
                    await conn.fetchval(query, *args)
            equal(await conn.fetchval(READ, name), CANARY)
    equal(await conn.fetchval(READ, name), CANARY)


@suite.feature("error")
async def error():
    for query, args, state in [(READ, (BROKEN,), "XX001")] + refused("$1", "$2"):
        with fails(state):
            await conn.fetchval(query, *args)
        equal(await conn.fetchval("SELECT 1"), 1)


@suite.feature("cancel")
async def cancel():
    """The driver cancels by itself: at a timeout, and when its task ends."""
    await conn.execute(NAMED)
    task = asyncio.ensure_future(conn.fetchval("SELECT pg_sleep(600)"))
    thread = when_waiting("PgSleep", lambda: loop.call_soon_threadsafe(task.cancel))
    try:
        await task
    except asyncio.CancelledError:
        pass
    thread.join()
    equal(await conn.fetchval(READ, NAME), CANARY)
    try:
        await conn.fetchval("SELECT pg_sleep(600)", timeout=0.01)
    except asyncio.TimeoutError:
        pass
    equal(await conn.fetchval(READ, NAME), CANARY)


@suite.feature("terminate")
async def terminate():
    """The socket is closed under a query. The server hears of it through the node."""
    name = PREFIX + "/end"
    other = await connect(server_settings={"client_connection_check_interval": "50", "application_name": name})
    task = asyncio.ensure_future(other.fetchval("SELECT pg_sleep(600)"))
    thread = when_waiting("PgSleep", lambda: loop.call_soon_threadsafe(other.terminate), name)
    try:
        await task
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        pass
    thread.join()
    watcher = await connect(user=os.environ["SUPERUSER"], password=os.environ["SUPERPASSWORD"])
    while await watcher.fetchval("SELECT count(*) FROM activity WHERE application_name = $1", name):
        pass
    await watcher.close()


@suite.feature("notify")
async def notify():
    heard = asyncio.Queue()
    await conn.add_listener("asyncpg_channel", lambda _, pid, channel, payload: heard.put_nowait((pid, channel, payload)))
    await conn.execute("NOTIFY asyncpg_channel, 'mine'")
    equal(await heard.get(), (conn.get_server_pid(), "asyncpg_channel", "mine"))
    other = await connect()
    pid = await other.fetchval("SELECT pg_backend_pid() FROM pg_notify('asyncpg_channel', $1)", "theirs")
    equal(await heard.get(), (pid, "asyncpg_channel", "theirs"))
    await other.close()


@suite.feature("notice")
async def notice():
    said = []
    conn.add_log_listener(lambda _, message: said.append(message.message))
    await conn.execute("DO $$ BEGIN RAISE NOTICE 'one'; END $$")
    await conn.fetch("SELECT format('%s', vault.read_secret($1))", NAME)
    equal((len(said), said[0]), (2, "one"))


@suite.feature("large object")
async def large_object():
    """asyncpg has no interface of its own: the functions in SQL."""
    data = b"large \x00\xff" * 50_000
    async with conn.transaction():
        oid = await conn.fetchval("SELECT lo_from_bytea(0, $1)", data)
        descriptor = await conn.fetchval("SELECT lo_open($1, 393216)", oid)
        equal(await conn.fetchval("SELECT lowrite($1, $2)", descriptor, b"LARGE"), 5)
        equal(await conn.fetchval("SELECT lo_lseek($1, 0, 0)", descriptor), 0)
        equal(await conn.fetchval("SELECT loread($1, $2)", descriptor, len(data)), b"LARGE" + data[5:])
        equal(await conn.fetchval("SELECT lo_unlink($1)", oid), 1)


suite.run(lambda function: loop.run_until_complete(function()))
