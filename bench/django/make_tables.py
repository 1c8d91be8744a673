"""Makes the tables, and puts an SQLite file into the same mode as that of the others."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

if connection.vendor == "sqlite":
    connection.cursor().execute("PRAGMA journal_mode = WAL")
call_command("migrate", "auth", verbosity=0)
call_command("migrate", run_syncdb=True, verbosity=0)
