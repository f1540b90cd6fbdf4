# SPDX-License-Identifier: GPL-3.0-or-later
"""Django's ORM, with a connection for each request as is its default."""
import os
import sys

import django
from django.conf import settings

MODE = sys.argv[1]
settings.configure(
    USE_TZ=True,
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"],
        "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"], "PASSWORD": os.environ["PGPASSWORD"],
        "TIME_ZONE": "Asia/Tokyo" if MODE == "zone" else None,
        "OPTIONS": {"options": "-c default_transaction_read_only=on"} if MODE == "setting" else {},
    }},
)
django.setup()

from django.db import connection, models, transaction  # noqa: E402


class Account(models.Model):
    aid = models.IntegerField(primary_key=True)
    bid = models.IntegerField()
    abalance = models.IntegerField()

    class Meta:
        app_label = "reporting"
        db_table = "pgbench_accounts"


def request():
    assert Account.objects.filter(aid__lte=10).count() == 10
    assert Account.objects.get(pk=7).aid == 7


for _ in range(10):
    if MODE in ("atomic", "setting"):
        with transaction.atomic():
            request()
    else:
        request()
    connection.close()
print(django.get_version())
