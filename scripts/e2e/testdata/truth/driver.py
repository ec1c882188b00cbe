"""Finds out what a release's code still does on the schema that a newer release's migrations leave.

argv: a file of rows (JSON, see truth in truth_test.go), a directory to work in, the program that is asked for its verdict.
stdout: a JSON list of what was found, in the rows' order.

Each row is two releases, whose code never meets: each stage runs in a process of its own, forked from one that has
loaded Django but none of their modules, so that no time is lost by loading it again. For each database: the old release migrates, fills its tables, and tries
everything that it will be asked to do later, which must all work; the new release migrates, and writes what its own
models allow; the old release does everything.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
import traceback
import uuid
import warnings
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

warnings.simplefilter("ignore")
sys.dont_write_bytecode = True  # two releases' modules have the same names

import django
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection, connections, models, transaction
from django.db.backends.base.operations import BaseDatabaseOperations

# What each stage would have to load again.
import django.core.management.commands.makemigrations
import django.core.management.commands.migrate
import django.db.backends.postgresql.base
import django.db.backends.sqlite3.base
import django.db.migrations.autodetector
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

WORKERS = 2
ENGINES = ("postgresql", "sqlite3")

HEAD = """from django.contrib.postgres import operations as postgres
from django.db import migrations, models
from django.db.models.functions import Lower
import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.utils.timezone
import shop.own


def nothing(apps, schema_editor):
    pass


class Migration(migrations.Migration):
    dependencies = [("shop", "%(after)s")]
%(more)s    operations = [
%(operations)s
    ]
"""

OWN = """from django.db import migrations, models


class Name(models.CharField):
    pass


class Mixin:
    pass


class Manager(models.Manager):
    use_in_migrations = True


class Operation(migrations.RunSQL):
    pass
"""


def main():
    rows = json.load(open(sys.argv[1]))
    queue = list(enumerate(rows))
    gc.disable()  # no process lives long, and a collection touches all the memory that they share
    running = {}
    while queue or running:
        while queue and len(running) < WORKERS:
            number, row = queue.pop(0)
            running[forked(lambda: Row(row, number).look(), result(number))] = number
        running.pop(os.wait()[0], None)
    json.dump([json.load(open(result(n))) for n in range(len(rows))], sys.stdout)


def result(number):
    return os.path.join(sys.argv[2], "%d.json" % number)


def forked(do, file):
    """Starts a process that writes what do returns to a file."""
    pid = os.fork()
    if pid:
        return pid
    try:
        try:
            found = do()
        except Broken as e:
            found = {"broken": str(e)}
        except BaseException:
            found = {"broken": traceback.format_exc(limit=-4)}
        with open(file, "w") as f:
            json.dump(found, f, default=str)
    finally:
        os._exit(0)


class Broken(Exception):
    """The row is none: it doesn't say what its author thinks."""


class Row:
    def __init__(self, row, number):
        self.row, self.number = row, number
        self.dir = os.path.join(sys.argv[2], "%d" % number)

    def look(self):
        found = {"django": django.get_version(), "truth": {}}
        try:
            self.write("old")
            self.before = self.stage("old", self.begin)
            shutil.copytree(self.path("old", "shop/migrations"), self.path("new", "shop/migrations"))
            self.write("new")
            found.update(self.verdict())
            self.stage("new", self.deploy)
            found["truth"] = self.stage("old", self.come_back)
        except Broken as e:
            found["broken"] = str(e)
        return found

    # --- the releases

    def write(self, release):
        self.file(release, "shop/__init__.py", "")
        self.file(release, "shop/own.py", OWN)
        self.file(release, "shop/models.py", self.models(release))
        if release == "new":
            more = "".join("    %s\n" % line for line in self.row.get("head", "").splitlines())
            if self.row.get("word"):
                more += "    # rollback-safe: %s\n" % self.row["word"]
            after = "0002_before" if self.row.get("before") else "0001_initial"
            self.migration("new", "0009_new", after, self.row["migration"], more)

    def make(self):
        """Has Django write the old release's migrations."""
        self.file("old", "shop/migrations/__init__.py", "")
        call_command("makemigrations", "shop", verbosity=0)
        if self.row.get("before"):
            self.migration("old", "0002_before", "0001_initial", self.row["before"])
        importlib.invalidate_caches()

    def models(self, release):
        """Customers, orders with the row's fields, and what else the row has."""
        r = self.row
        name = r.get("newName") if release == "new" else None
        text = "from django.db import models\nfrom django.db.models.functions import Lower\n"
        text += "import django.contrib.postgres.fields\nimport django.contrib.postgres.indexes\n"
        text += "import shop.own\n" + r.get(release + "Before", "")
        text += "\n\nclass %s(models.Model):\n    name = models.CharField(max_length=20)\n" % (
            r.get("newCustomer", "Customer") if release == "new" else "Customer"
        )
        if release == "new" and "newCustomerBody" in r:
            text += textwrap.indent(r["newCustomerBody"], "    ")
        text += "\n\nclass %s(models.Model):\n    number = models.CharField(max_length=20)\n" % (name or "Order")
        text += "    customer = models.ForeignKey(%s, models.CASCADE)\n" % (
            r.get("newCustomer", "Customer") if release == "new" else "Customer"
        )
        text += textwrap.indent(r.get(release, ""), "    ") + "\n\n\n" + r.get(release + "Classes", "") + "\n"
        return text

    def migration(self, release, name, after, operations, more=""):
        text = HEAD % {"after": after, "operations": textwrap.indent(operations, " " * 8), "more": more}
        self.file(release, "shop/migrations/%s.py" % name, text)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def file(self, release, name, text):
        os.makedirs(os.path.dirname(self.path(release, name)), exist_ok=True)
        with open(self.path(release, name), "w") as f:
            f.write(text)

    def verdict(self):
        run = subprocess.run(
            [sys.argv[3], "marker", self.path("new"), "--against", self.path("old"), "--check", "--output", "json"],
            capture_output=True,
            text=True,
        )
        try:
            said = json.loads(run.stdout)
        except ValueError:
            raise Broken("the marker is no JSON: %s%s" % (run.stdout, run.stderr))
        why = ["%s: %s" % (o["operation"], o["why"]) for o in said["blocking"] or said["safe"]]
        return {"exit": run.returncode, "verdict": said["marker"]["rollback"], "why": why}

    # --- stages

    def stage(self, release, do):
        """Runs a part in the code of one release, on each database."""
        name = do.__name__
        file = self.path(name + ".json")

        def inside():
            sys.path.insert(0, self.path(release))
            settings.configure(
                SECRET_KEY="x",
                INSTALLED_APPS=self.row.get("apps", []) + ["shop"],
                DATABASES=self.databases(),
                DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
                USE_TZ=True,
            )
            django.setup()
            found = {}
            for engine in self.row.get("engines") or ENGINES:
                use(engine)
                if do == self.begin and not found:
                    self.make()
                found[engine] = do(engine)
            return found

        os.waitpid(forked(inside, file), 0)
        with open(file) as f:
            found = json.load(f)
        if found.get("broken"):
            raise Broken("%s: %s" % (name, found["broken"]))
        return found

    def databases(self):
        return {
            "default": {},
            "sqlite3": {"ENGINE": "django.db.backends.sqlite3", "NAME": self.path("db.sqlite3")},
            "postgresql": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "shop",
                "USER": "shop",
                "PASSWORD": "shop-password",
                "HOST": "127.0.0.1",
                "OPTIONS": {"options": "-c search_path=row_%d" % self.number},
            },
        }

    def begin(self, engine):
        if engine == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("CREATE SCHEMA row_%d" % self.number)
        migrate()
        tables = set(connection.introspection.table_names())
        writer = Writer(100)
        for model in shop_models():
            if not model._meta.proxy:
                for i in range(rows_each()):
                    writer.create(model, **{f.name: placed(model, f, i) for f in references(model)})
        for model in shop_models():
            for f in own_relations(model):
                for i, obj in enumerate(model.objects.order_by("pk")):
                    getattr(obj, f.name).add(nth(f.related_model, i))
        # An operation that fails here says nothing there.
        control = Battery(self.row, keep=False)
        with contextlib.suppress(Rollback), transaction.atomic():
            control.everything(contents())
            raise Rollback
        if control.failed:
            raise Broken("the old code fails on its own schema: %s" % control.failed)
        return {
            "contents": contents(),
            "tables": sorted(tables),
            "columns": {m._meta.db_table: [f.column for f in m._meta.local_concrete_fields] for m in shop_models() if not m._meta.proxy},
        }

    def deploy(self, engine):
        before = self.before[engine]
        loader = MigrationLoader(None)
        changes = MigrationAutodetector(loader.project_state(), ProjectState.from_apps(django.apps.apps)).changes(loader.graph)
        if changes.get("shop"):
            raise Broken("the new models have what its migrations haven't: %s" % changes["shop"][0].operations)
        migrate()
        tables = set(connection.introspection.table_names())
        writer = Writer(1000)
        mine = [m for m in shop_models() if not m._meta.proxy and m._meta.db_table in tables]
        for model in mine:
            self.write_as_new(model, before, writer)
        for model in mine:
            for f in own_relations(model):
                if f.remote_field.through._meta.db_table not in before["tables"]:
                    for i, obj in enumerate(model.objects.order_by("pk")):
                        getattr(obj, f.name).add(nth(f.related_model, i - 1))
            for values in unusual(model, set(distinct(model))):
                # What a new index or constraint refuses is not what the new code writes.
                with contextlib.suppress(DatabaseError), transaction.atomic():
                    writer.create(model, **values)
        exec(self.row.get("writes", ""), names(writer))

    def write_as_new(self, model, before, writer):
        table = model._meta.db_table
        known = before["columns"].get(table)
        existing = list(model.objects.order_by("pk"))
        local = model._meta.local_concrete_fields
        fields = [f for f in writable(model) if f in local and known is not None and f.column not in known]
        for i, obj in enumerate(existing):
            # Each refers to the one before: one that refers to what it goes with keeps nothing from going.
            for f in fields:
                setattr(obj, f.name, nth(f.related_model, i - 1) if f.is_relation else writer.value(f, i))
            if fields:
                obj.save(update_fields=[f.name for f in fields])
        for _ in range(rows_each() if known is None else 2):
            writer.create(model)

    def come_back(self, engine):
        battery = Battery(self.row, keep=True)
        battery.everything(self.before[engine]["contents"])
        return {"failed": battery.failed}


class Rollback(Exception):
    pass


# --- models


def use(engine):
    """Makes a database the only one that code knows of."""
    connections.close_all()
    connections.databases["default"] = connections.databases[engine]
    with contextlib.suppress(AttributeError):
        del connections["default"]
    if django.apps.apps.is_installed("django.contrib.contenttypes"):
        django.apps.apps.get_model("contenttypes", "ContentType").objects.clear_cache()


def migrate():
    call_command("migrate", verbosity=0)


def shop_models():
    """The app's models, each after those it refers to."""
    todo, done = list(django.apps.apps.get_app_config("shop").get_models()), []

    def visit(model):
        if model not in todo:
            return
        todo.remove(model)
        for f in model._meta.concrete_fields:
            if f.is_relation:
                visit(f.related_model)
        done.append(model)

    while todo:
        visit(todo[0])
    return done


def rows_each():
    return 2 * len(shop_models()) + 2


def own_relations(model):
    return [f for f in model._meta.local_many_to_many if f.remote_field.through._meta.auto_created]


def generated(f):
    return getattr(f, "generated", False)


def automatic(f):
    return f.get_internal_type() in ("AutoField", "BigAutoField", "SmallAutoField") or f.name == "_order"


def writable(model):
    """The fields that code gives values to."""
    return [
        f
        for f in model._meta.concrete_fields
        if not generated(f) and not automatic(f) and not (f.is_relation and f.remote_field.parent_link)
    ]


def references(model):
    return [f for f in writable(model) if f.is_relation and not f.unique]


def placed(model, f, i):
    """What the i-th row refers to: the i-th one, so that it goes with that one alone."""
    return None if f.related_model is model and f.null else nth(f.related_model, i)


def nth(model, i):
    rows = list(model._base_manager.order_by("pk"))
    return rows[i % len(rows)] if rows else None


def contents():
    """All that the code sees."""
    return {
        m.__name__: {str(v["pk"]): repr(sorted((k, plain(e)) for k, e in v.items())) for v in m.objects.values(*columns(m), "pk")}
        for m in shop_models()
    }


def plain(value):
    return bytes(value) if isinstance(value, memoryview) else value


def columns(model):
    return [f.attname for f in model._meta.concrete_fields]


def unique_sets(model):
    meta, found = model._meta, []
    for f in meta.concrete_fields:
        if f.unique and not f.primary_key:
            found.append([f.name])
    found += [list(names) for names in meta.unique_together]
    for c in meta.constraints:
        if isinstance(c, models.UniqueConstraint) and c.fields and not c.condition:
            found.append(list(c.fields))
    return found


class Writer:
    """Makes values as code does: no two alike, and short."""

    def __init__(self, start):
        self.count = start

    def create(self, model, **values):
        return model.objects.create(**self.values(model, **values))

    def values(self, model, **values):
        self.count += 1
        for f in writable(model):
            if f.name not in values:
                values[f.name] = self.value(f, self.count)
        return {name: v for name, v in values.items() if v is not OMIT}

    def value(self, f, n):
        self.count += 1
        if f.is_relation:
            if f.unique:
                return self.create(f.related_model)
            return None if f.related_model is f.model and not f.model.objects.exists() else nth(f.related_model, n)
        return typical(f, self.count)


OMIT = object()


def typical(f, n):
    kind = f.get_internal_type()
    if kind in ("CharField", "SlugField", "FileField", "FilePathField", "TextField", "CICharField", "CITextField"):
        return str(n)
    if kind in ("EmailField", "URLField"):
        return "http://a.b/%d" % n if kind == "URLField" else "%d@a.b" % n
    if "Integer" in kind:
        return n
    values = {
        "BinaryField": b"%d" % n,
        "BooleanField": n % 2 == 0,
        "NullBooleanField": n % 2 == 0,
        "DateField": date(2020, 1, 1) + timedelta(n),
        "DateTimeField": datetime(2020, 1, 1, 12, tzinfo=timezone.utc) + timedelta(n),
        "TimeField": time(n // 60 % 24, n % 60),
        "DurationField": timedelta(seconds=n),
        "DecimalField": Decimal(n),
        "FloatField": n / 2,
        "GenericIPAddressField": "10.0.%d.%d" % (n // 256 % 256, n % 256),
        "UUIDField": uuid.UUID(int=n),
        "JSONField": {"n": n},
        "ArrayField": [typical(f.base_field, n)] if kind == "ArrayField" else None,
        "HStoreField": {"n": str(n)},
    }
    return values[kind]


def noise(length):
    """A text that nothing compresses, of 4 bytes a character."""
    r = random.Random(length)
    return "".join(chr(r.randrange(0x10000, 0x2FFFF)) for _ in range(length))


def extremes(f):
    """Values that a field's column takes."""
    kind, ranges = f.get_internal_type(), BaseDatabaseOperations.integer_field_ranges
    if f.is_relation or f.choices:
        return []
    if kind in ("CharField", "FileField", "FilePathField"):
        return ["", "it's a \\ \"%s\""[: f.max_length], noise(f.max_length or 9000)]
    if kind == "SlugField":
        return ["", "x" * f.max_length]
    if kind == "TextField":
        return ["", "it's a \\ \"%s\"", noise(9000)]
    if kind in ranges:
        return list(ranges[kind])
    if kind == "DecimalField":
        top = Decimal(10) ** (f.max_digits - f.decimal_places) - Decimal(10) ** -f.decimal_places
        return [top, -top]
    if kind == "ArrayField":
        return [[], [e for e in extremes(f.base_field)]]
    values = {
        "BinaryField": [b"", random.Random(1).randbytes(30000) if sys.version_info >= (3, 9) else b"\0"],
        "BooleanField": [False, True],
        "DateField": [date.min, date.max],
        "JSONField": [[], {"long": noise(9000)}, noise(9000)],
        "FloatField": [-1.5e300, 1e-300, 0.1],
    }
    return values.get(kind, [])


def distinct(model):
    """The fields of which no two rows have the same value, or needn't have."""
    return {names[0] for names in unique_sets(model)} | {model._meta.pk.name}


def unusual(model, usual=()):
    """Rows that the model allows: without what needn't be there, at the limits, and twice the same."""
    fields = [f for f in writable(model) if f.name not in usual]
    needless = [f for f in fields if f.has_default() or f.null or f.blank]
    yield {f.name: OMIT for f in needless}
    for f in fields:
        if f.null:
            yield {f.name: None}
        for value in extremes(f):
            if not (f.null and value is None):
                yield {f.name: value}
    first = model.objects.order_by("pk").first()
    if first is not None:
        yield same(model, first)


def same(model, as_this):
    """What a row may share with another one."""
    return {f.name: getattr(as_this, f.name) for f in writable(model) if f.name not in distinct(model)}


def names(writer):
    found = {m.__name__: m for m in shop_models()}
    found.update(models=models, connection=connection, writer=writer, transaction=transaction, nth=nth, n=rows_each())
    return found


# --- what code does


class Battery:
    """Everything that code does with its models. failed has the first failure of each kind."""

    def __init__(self, row, keep):
        self.row, self.keep, self.failed, self.writer = row, keep, {}, Writer(5000)

    def do(self, kind, what, action):
        try:
            with transaction.atomic():
                action()
                if not self.keep:
                    connection.check_constraints()  # as the end of a transaction does
        except Exception as e:
            text = str(e).strip().splitlines()
            self.failed.setdefault(kind, "%s: %s: %s" % (what, type(e).__name__, text[0][:200] if text else ""))

    def everything(self, before):
        for model in shop_models():
            self.select(model, before[model.__name__])
        for kind, code in (self.row.get("does") or {}).items():
            self.do(kind, code, lambda: exec(code, names(self.writer)))
        for model in shop_models():
            self.insert(model)
        for model in shop_models():
            self.update(model, before[model.__name__])
        for i, model in enumerate(shop_models()):
            self.delete(model, before[model.__name__], i)

    def select(self, model, before):
        name = model.__name__
        self.do("SELECT", name, lambda: list(model.objects.all()))
        self.do("SELECT", name + ", related", lambda: list(model.objects.select_related()))
        for f in model._meta.concrete_fields:
            self.do("SELECT", "%s.%s" % (name, f.name), lambda: list(model.objects.order_by(f.attname).values_list(f.attname)))
        for f in model._meta.many_to_many:
            self.do("SELECT", "%s.%s" % (name, f.name), lambda: [list(getattr(o, f.name).all()) for o in model.objects.all()])
        for r in model._meta.related_objects:
            if not r.one_to_one and not (r.related_name or "").endswith("+"):
                self.do("SELECT", "%s.%s" % (name, r.name), lambda: [
                    list(getattr(o, r.get_accessor_name()).all()) for o in model.objects.all()
                ])
        self.do("SELECT", name + ", the same", lambda: self.the_same(model, before))
        if self.keep:
            self.do("SELECT", name + ", by value", lambda: self.by_value(model))

    def the_same(self, model, before):
        now = contents()[model.__name__]
        for pk, values in before.items():
            if now[pk] != values:
                raise AssertionError("%s is now %s" % (values, now[pk]))

    def by_value(self, model):
        """Finds each row by each value that it has, and one row alone by what is unique."""
        for values in model.objects.values(*columns(model), "pk"):
            for f in model._meta.concrete_fields:
                value = values[f.attname]
                if value is None or f.get_internal_type() in ("FloatField", "JSONField", "BinaryField"):
                    continue
                if not model.objects.filter(**{f.attname: value, "pk": values["pk"]}).exists():
                    raise AssertionError("no row has the %s %r that one has" % (f.name, value))
            for unique in unique_sets(model):
                by = {f: values[model._meta.get_field(f).attname] for f in unique}
                if None not in by.values():
                    model.objects.get(**by)

    def insert(self, model):
        name = model.__name__
        self.do("INSERT", name, lambda: self.writer.create(model))
        self.do("INSERT", name + ", again", lambda: model.objects.get_or_create(**self.writer.values(model)))
        if not model._meta.parents and not model._meta.order_with_respect_to:  # which Django doesn't do in bulk
            self.do("INSERT", name + ", in bulk", lambda: model.objects.bulk_create(
                [model(**self.writer.values(model)) for _ in range(2)]
            ))
        for values in unusual(model) if self.works(model) else []:
            self.do("INSERT", "%s %s" % (name, short(values)), lambda: self.writer.create(model, **values))
        if django.VERSION >= (4, 1) and not model._meta.parents and not model._meta.proxy:
            for unique in unique_sets(model):
                self.do("upsert", "%s by %s" % (name, unique), lambda: self.upsert(model, unique))

    def works(self, model):
        try:
            with transaction.atomic():
                model.objects.order_by("pk").first()
        except Exception:
            return False
        return True

    def upsert(self, model, unique):
        row = model.objects.order_by("pk").first()
        values = {f.name: getattr(row, f.name) for f in writable(model)}
        rest = [f.name for f in writable(model) if f.name not in unique and not f.primary_key]
        model.objects.bulk_create([model(**values)], update_conflicts=True, unique_fields=unique, update_fields=rest[:1])

    def update(self, model, before):
        name = model.__name__
        self.do("UPDATE", name, lambda: model.objects.order_by("pk").first().save())
        self.do("UPDATE", name + ", what the new code wrote", lambda: [o.save(force_update=True) for o in model.objects.all()])
        if not self.works(model):
            return
        for f in writable(model):
            if f.primary_key:
                continue
            self.do("UPDATE", "%s.%s" % (name, f.name), lambda: model.objects.update(**{f.attname: models.F(f.attname)}))
            for value in ([None] if f.null else []) + ([] if f.name in distinct(model) else extremes(f)):
                self.do("UPDATE", "%s %s" % (name, short({f.name: value})), lambda: self.set(model, **{f.name: value}))
        self.do("UPDATE", name + ", as another", lambda: self.set(model, **same(model, model.objects.order_by("pk").last())))
        for f in own_relations(model):
            self.do("UPDATE", "%s.%s" % (name, f.name), lambda: self.relate(model.objects.order_by("pk").first(), f))

    def set(self, model, **values):
        row = model.objects.order_by("pk").first()
        for f, value in values.items():
            setattr(row, f, value)
        row.save(update_fields=list(values))

    def relate(self, row, f):
        related = getattr(row, f.name)
        others = list(f.related_model.objects.order_by("pk")[:3])
        related.set(others)
        related.remove(others[0])
        related.clear()
        related.add(others[0])

    def delete(self, model, before, i):
        """Deletes rows that nobody else has deleted: a model's rows go with the rows that they refer to."""
        name, pks = model.__name__, [model._meta.pk.to_python(pk) for pk in before]
        # By their place: another model's rows have other keys.
        one, other = sorted(pks, key=str if isinstance(pks[0], (str, uuid.UUID)) else None)[2 * i : 2 * i + 2]
        self.do("DELETE", name, lambda: model.objects.get(pk=one).delete())
        self.do("DELETE", name + ", by query", lambda: gone(model.objects.filter(pk=other).delete(), name))
        self.do("DELETE", name + ", what the new code wrote", lambda: [
            o.delete() for o in model.objects.exclude(pk__in=pks).order_by("-pk")[:10]
        ])


def gone(deleted, name):
    if not deleted[0]:
        raise AssertionError("%s: there was nothing to delete" % name)


def short(values):
    return ", ".join("%s=%.40r" % (k, "nothing" if v is OMIT else v) for k, v in values.items())


main()
