import json
import os
import re
import sys

sys.path.insert(0, os.getcwd())
if not os.environ.get("DJANGO_SETTINGS_MODULE"):
    # As manage.py would set it; it isn't run, since it may do more than that.
    for name in ("manage.py", "../manage.py"):
        if os.path.isfile(name):
            with open(name, encoding="utf-8", errors="replace") as file:
                named = re.search(r"DJANGO_SETTINGS_MODULE['\"]\s*,\s*['\"]([\w.]+)", file.read(65536))
            if named:
                os.environ["DJANGO_SETTINGS_MODULE"] = named.group(1)
                sys.path.insert(0, os.path.abspath(os.path.dirname(name) or "."))
                break

from django.db import connections

applied = set()
for alias in connections:
    connection = connections[alias]
    if connection.vendor == "sqlite" and not os.path.exists(str(connection.settings_dict["NAME"])):
        continue  # connecting would make it
    with connection.cursor() as cursor:
        if "django_migrations" in connection.introspection.table_names(cursor):
            cursor.execute("SELECT app, name FROM django_migrations")
            applied.update("%s.%s" % row for row in cursor.fetchall())
print("\ndeploygate applied " + json.dumps(sorted(applied)))
