# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLAlchemy's sessions, a block each, on the driver that the first argument
names; the second says how the engine is told that it only reads.
"""
import asyncio
import os
import sys
import time

import sqlalchemy
from sqlalchemy import Column, Integer, create_engine, func, select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, declarative_base
from sqlalchemy.util import greenlet_spawn

DRIVER, MODE = sys.argv[1:]
OPTIONS = {
    "default": {},
    "readonly": {"execution_options": {"postgresql_readonly": True}},
    "autocommit": {"isolation_level": "AUTOCOMMIT"},
    "setting": {"connect_args": {"options": "-c default_transaction_read_only=on"}},
}[MODE]


class Account(declarative_base()):
    __tablename__ = "pgbench_accounts"
    aid = Column(Integer, primary_key=True)
    bid = Column(Integer)
    abalance = Column(Integer)


def read(engine, turn):
    with Session(engine, future=True) as session:
        assert session.get(Account, turn).aid == turn
        assert session.scalar(select(func.count()).where(Account.aid <= turn)) == turn
        return session.scalar(select(func.pg_is_in_recovery()))


def work(engine):
    home = read(engine, 1)
    until = time.monotonic() + 60
    while MODE == "readonly" and not home:
        home = read(engine, 2)
        assert time.monotonic() < until, "the session never goes back"
    for turn in range(1, 21):
        read(engine, turn)
    engine.dispose()


if DRIVER == "psycopg2":
    work(create_engine("postgresql+psycopg2://", future=True, **OPTIONS))
else:
    named = {"server_settings": {"application_name": os.environ["PGAPPNAME"]}}
    asyncio.run(greenlet_spawn(work, create_async_engine("postgresql+asyncpg://", connect_args=named, **OPTIONS).sync_engine))
print(sqlalchemy.__version__)
