# SPDX-License-Identifier: GPL-3.0-or-later
"""asyncpg's pool, which resets each connection that is given back."""
import asyncio
import os
import sys

import asyncpg

SQL = "SELECT sum(abalance), $1::int AS turn FROM pgbench_accounts WHERE aid BETWEEN 10 AND 20"


async def main(mode):
    async with asyncpg.create_pool(min_size=2, max_size=2, server_settings={"application_name": os.environ["PGAPPNAME"]}) as pool:
        for turn in range(20):
            async with pool.acquire() as connection:
                if mode == "alone":
                    row = await connection.fetchrow(SQL, turn)
                else:
                    async with connection.transaction(readonly=mode == "readonly"):
                        row = await connection.fetchrow(SQL, turn)
            assert row["turn"] == turn, row


asyncio.run(main(sys.argv[1]))
print(asyncpg.__version__)
