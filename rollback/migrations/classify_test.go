package migrations

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"deploygate/release/python"
	"deploygate/scripts/assert"
)

// base is what both releases of the cases below have.
const base = `
from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models
import mptt.fields

class Migration(migrations.Migration):
    initial = True
    dependencies = [migrations.swappable_dependency(settings.AUTH_USER_MODEL)]
    operations = [
        migrations.CreateModel(name="Customer", fields=[("id", models.AutoField(primary_key=True))]),
        migrations.CreateModel(name="Tag", fields=[("id", models.BigAutoField(primary_key=True))]),
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.CharField("number", max_length=20)),
                ("mail", models.EmailField(max_length=254)),
                ("slug", models.SlugField()),
                ("sku", models.CharField(max_length=20, unique=True)),
                ("legacy", models.CharField(blank=True, max_length=20)),
                ("note", models.TextField(null=True)),
                ("total", models.IntegerField()),
                ("count", models.PositiveIntegerField(default=1)),
                ("price", models.DecimalField(max_digits=8, decimal_places=2)),
                ("state", models.CharField(max_length=10, db_default="new")),
                ("active", models.NullBooleanField()),
                ("sizes", ArrayField(models.IntegerField(), size=3)),
                ("day", models.DateField(null=True)),
                ("data", models.JSONField(null=True)),
                ("long", models.CharField(max_length=600)),
                ("other", models.CharField(max_length=600)),
                ("tree", mptt.fields.TreeForeignKey(null=True, to="shop.Tag", on_delete=models.CASCADE)),
                ("customer", models.ForeignKey("shop.Customer", models.CASCADE, related_name="orders")),
                ("agent", models.OneToOneField("shop.Customer", models.CASCADE, null=True)),
                ("loose", models.ForeignKey(to="shop.Tag", on_delete=models.DO_NOTHING, db_constraint=False)),
                ("tags", models.ManyToManyField(to="shop.Tag")),
                ("lines", models.ManyToManyField(to="shop.Tag", through="shop.Line")),
            ],
            options={
                "unique_together": {("number", "customer")},
                "constraints": [
                    models.CheckConstraint(check=models.Q(total__gte=0), name="positive"),
                    models.UniqueConstraint(fields=["mail"], name="one_mail"),
                ],
            },
        ),
        migrations.CreateModel(name="Kept", fields=[("id", models.AutoField(primary_key=True)),
            ("name", models.CharField(max_length=9, db_column="name"))], options={"db_table": "kept"}),
        migrations.CreateModel(name="Tagged", fields=[("id", models.AutoField(primary_key=True)),
            ("tags", models.ManyToManyField(to="shop.Tag"))], options={"db_table": "tagged"}),
        migrations.CreateModel(name="View", fields=[("id", models.AutoField(primary_key=True))],
            options={"managed": False, "db_table": "a_view"}),
        migrations.CreateModel(name="MyOrder", fields=[], options={"proxy": True}, bases=("shop.order",)),
        migrations.CreateModel(name="Ordered", fields=[("id", models.AutoField(primary_key=True))],
            options={"order_with_respect_to": "id"}),
    ]
`

// head is what a case's file starts with.
const head = `
from django.conf import settings
from django.contrib.postgres import operations as pg
from django.contrib.postgres.fields import ArrayField, JSONField
from django.contrib.postgres.indexes import BrinIndex, GinIndex, HashIndex
from django.db import migrations, models
from django.db.models.functions import Cast, Lower
import django_countries.fields
import shop.fields

def forwards(apps, schema_editor):
    pass

LENGTH = 30

class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
%s
    ]
`

// cases are operations, and what the last of them is: "safe", or why it blocks.
var cases = []struct{ operations, want string }{
	// models
	{`migrations.CreateModel("New", [("id", models.AutoField(primary_key=True))])`, "safe"},
	{`migrations.CreateModel(name="New", fields=[("id", models.AutoField(primary_key=True))], bases=(models.Model,))`, "safe"},
	{`migrations.CreateModel(name="New", fields=[("order", models.ForeignKey("shop.Order", models.CASCADE))])`, "fails to DELETE"},
	{`migrations.CreateModel(name="New", fields=[("order", models.ForeignKey("Order", models.CASCADE))])`, "fails to DELETE"},
	{`migrations.CreateModel(name="New", fields=[("order", models.ForeignKey("shop.Order", models.CASCADE, db_constraint=False))])`, "safe"},
	{`migrations.CreateModel(name="New", fields=[("order", models.ForeignKey("shop.Order", models.CASCADE, db_constraint=settings.X))])`, "fails to DELETE"},
	{`migrations.CreateModel(name="New", fields=[("up", models.ForeignKey("self", models.CASCADE))])`, "safe"},
	{`migrations.CreateModel(name="New", fields=[("user", models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE))])`, "AUTH_USER_MODEL"},
	{`migrations.CreateModel(name="New", fields=[("one", models.OneToOneField(to="auth.user", on_delete=models.CASCADE))])`, "auth.user"},
	{`migrations.CreateModel(name="New", fields=[("tags", models.ManyToManyField(to="shop.Tag"))])`, "fails to DELETE"},
	{`migrations.CreateModel(name="New", fields=[("tags", models.ManyToManyField(to="shop.Tag", db_constraint=False))])`, "safe"},
	{`migrations.CreateModel(name="New", fields=[("tags", models.ManyToManyField(to="shop.Tag", through="shop.X"))])`, "safe"},
	{`migrations.CreateModel(name="New", fields=[("tags", models.ManyToManyField(to="self"))])`, "safe"},
	{`migrations.CreateModel(name="New", fields=[("x", shop.fields.MyField())])`, "shop.fields.MyField"},
	{`migrations.CreateModel(name="New", fields=[("x", django_countries.fields.CountryField(max_length=2))])`, "safe"},
	{`migrations.CreateModel(name="New", fields=[("x", LocalField())])`, "LocalField"},
	{`migrations.CreateModel(name="New", fields=[("x", models.ForeignKey(**options))])`, "not all constants"},
	{`migrations.CreateModel(name="New", fields=[], bases=("shop.order",))`, "shop.order"},
	{`migrations.CreateModel(name="New", fields=[], bases=("shop.order",), options={"proxy": True})`, "safe"},
	{`migrations.CreateModel(name="New", fields=[], bases=(shop.models.Base, models.Model))`, "shop.models.Base"},
	{`migrations.CreateModel(name="New", fields=[("o", models.ForeignKey("shop.order", models.CASCADE))], options={"managed": False})`, "safe"},
	{`migrations.CreateModel(name="New", fields=[("o", models.ForeignKey("shop.order", models.CASCADE))], options={"managed": settings.X})`, "fails to DELETE"},
	{`migrations.CreateModel(name="New", fields=fields())`, "not all constants"},
	{`migrations.CreateModel(name="New", fields=[], options=OPTIONS)`, "not all constants"},
	{`migrations.CreateModel(name="Order", fields=[])`, "the older code has this model too"},
	{`migrations.CreateModel(name="New", fields=[], options={"db_table": "shop_order"})`, "the older code has the table shop_order too"},
	{`migrations.CreateModel(name="New", fields=[], options={"db_table": "shop_order_tags"})`, "shop.order.tags"},
	{`migrations.CreateModel(name="New", fields=[], options={"db_table": "a_view"})`, "the older code has the table a_view too"},
	{`migrations.DeleteModel("Order")`, "table is gone"},
	{`migrations.DeleteModel("View")`, "safe"},
	{`migrations.DeleteModel("MyOrder")`, "safe"},
	{`migrations.DeleteModel("Unheard")`, "table is gone"},
	{`migrations.RenameModel("Order", "Purchase")`, "another name"},
	{`migrations.RenameModel("Kept", "Renamed")`, "safe"},
	{`migrations.RenameModel("Tagged", "Renamed")`, "a column of the model's name"},
	{`migrations.RenameModel("Unheard", "Renamed")`, "not known"},
	{`migrations.AlterModelTable("Order", "orders")`, "another name"},
	{`migrations.AlterModelTable("Order", "shop_order")`, "safe"},
	{`migrations.AlterModelTable("Order", None)`, "safe"},
	{`migrations.AlterModelTable("Order", settings.TABLE)`, "not all constants"},
	{`migrations.AlterModelTable("Order", "shop_order"),
      migrations.RenameModel("Order", "Purchase")`, "a column of the model's name"},
	{`migrations.AlterModelTable("View", "another")`, "safe"},
	{`migrations.AlterModelTableComment("Order", "x")`, "safe"},
	{`migrations.AlterModelOptions("order", options={"ordering": ["id"]})`, "safe"},
	{`migrations.AlterModelManagers("order", managers=[("objects", shop.models.M())])`, "safe"},
	{`migrations.AlterOrderWithRespectTo("order", "customer")`, "_order"},
	{`migrations.AlterOrderWithRespectTo("order", None)`, "safe"},
	{`migrations.AlterOrderWithRespectTo("ordered", None)`, "selects the column _order"},
	{`migrations.AlterOrderWithRespectTo("ordered", settings.X)`, "not all constants"},

	// constraints and indexes
	{`migrations.AlterUniqueTogether("order", {("number", "customer"), ("sku", "slug")})`, "duplicates"},
	{`migrations.AlterUniqueTogether(name="order", unique_together=set([("customer", "number")]))`, "safe"},
	{`migrations.AlterUniqueTogether(name="order", unique_together=("number", "customer"))`, "safe"},
	{`migrations.AlterUniqueTogether("order", set())`, "no longer unique"},
	{`migrations.AlterUniqueTogether("order", None)`, "no longer unique"},
	{`migrations.AlterUniqueTogether("tag", set())`, "safe"},
	{`migrations.AlterUniqueTogether("order", PAIRS)`, "not known"},
	{`migrations.AlterIndexTogether("order", {("number", "sku")})`, "safe"},
	{`migrations.AlterIndexTogether("order", {("number", "note")})`, "2,704 bytes"},
	{`migrations.AddIndex("order", models.Index(fields=["number", "-total"], name="i"))`, "safe"},
	{`migrations.AddIndex("order", models.Index(Lower("number"), name="i"))`, "safe"},
	{`migrations.AddIndex("order", models.Index(models.OrderBy(models.F("number"), descending=True), name="i"))`, "safe"},
	{`migrations.AddIndex("order", models.Index(models.OrderBy(models.F("note"), descending=True), name="i"))`, "2,704 bytes"},
	{`migrations.AddIndex("order", models.Index(Cast("number", models.IntegerField()), name="i"))`, "may fail"},
	{`migrations.AddIndex("order", models.Index(fields=["note"], name="i"))`, "2,704 bytes"},
	{`migrations.AddIndex("order", models.Index(fields=FIELDS, name="i"))`, "not all constants"},
	{`migrations.AddIndex("order", models.Index(fields=["day", "price", "long"], name="i"))`, "safe"},
	{`migrations.AddIndex("order", models.Index(fields=["long", "other"], name="i"))`, "2,704 bytes"},
	{`migrations.AddIndex("order", models.Index(fields=["number"], include=["note"], name="i"))`, "2,704 bytes"},
	{`migrations.AddIndex("order", models.Index(fields=["data"], name="i"))`, "2,704 bytes"},
	{`migrations.AddIndex("order", models.Index(fields=["sizes"], name="i"))`, "2,704 bytes"},
	{`migrations.AddIndex("order", BrinIndex(fields=["note"], name="i"))`, "2,704 bytes"},
	{`migrations.AddIndex("order", BrinIndex(fields=["total"], name="i"))`, "safe"},
	{`migrations.AddIndex("order", HashIndex(fields=["note"], name="i"))`, "safe"},
	{`migrations.AddIndex("order", GinIndex(fields=["note"], name="i"))`, "2,704 bytes"},
	{`migrations.AddIndex("order", GinIndex(fields=["note"], name="i", opclasses=["gin_trgm_ops"]))`, "safe"},
	{`migrations.AddIndex("order", GinIndex(fields=["data"], name="i"))`, "safe"},
	{`migrations.AddIndex("order", GinIndex(fields=["sizes"], name="i"))`, "2,704 bytes"},
	{`migrations.AlterIndexTogether("order", {("long", "other")})`, "2,704 bytes"},
	{`migrations.AlterField("order", "data", models.JSONField(null=True, db_index=True))`, "2,704 bytes"},
	{`migrations.AlterField("order", "day", models.DateField(null=True, db_index=True))`, "safe"},
	{`migrations.AddIndex("order", shop.indexes.Own(fields=["note"], name="i"))`, "shop.indexes.Own"},
	{`migrations.RemoveIndex("order", "i")`, "safe"},
	{`migrations.RenameIndex("order", new_name="i", old_fields=("number",))`, "safe"},
	{`migrations.AddConstraint("order", models.CheckConstraint(check=models.Q(total__gt=1), name="c"))`, "refuses"},
	{`migrations.AddConstraint("order", models.UniqueConstraint(fields=["slug"], name="c"))`, "refuses"},
	{`migrations.AddConstraint("view", models.UniqueConstraint(fields=["slug"], name="c"))`, "safe"},
	{`migrations.RemoveConstraint("order", "positive")`, "safe"},
	{`migrations.RemoveConstraint("order", "one_mail")`, "no longer unique"},
	{`migrations.RemoveConstraint("order", "unheard")`, "not known"},
	{`migrations.AlterConstraint("order", "positive", models.CheckConstraint(check=models.Q(total__gte=0), name="positive"))`, "safe"},
	{`pg.AddIndexConcurrently("order", models.Index(fields=["number"], name="i"))`, "safe"},
	{`pg.RemoveIndexConcurrently("order", "i")`, "safe"},
	{`pg.AddConstraintNotValid("order", models.CheckConstraint(check=models.Q(total__gt=1), name="c"))`, "refuses"},
	{`pg.ValidateConstraint("order", "c")`, "safe"},
	{`pg.TrigramExtension()`, "safe"},
	{`pg.CreateExtension("postgis")`, "safe"},
	{`pg.CreateCollation("de", "de-x", provider="icu", deterministic=False)`, "safe"},
	{`pg.RemoveCollation("de", "de-x")`, "collation"},

	// fields that are added
	{`migrations.AddField("order", "x", models.CharField(max_length=3, null=True))`, "safe"},
	{`migrations.AddField(model_name="order", name="x", field=models.IntegerField(db_default=3))`, "safe"},
	{`migrations.AddField("order", "x", models.CharField(max_length=3, default=""))`, "NOT NULL"},
	{`migrations.AddField("order", "x", models.CharField(max_length=3, blank=True), preserve_default=False)`, "NOT NULL"},
	{`migrations.AddField("order", "x", models.IntegerField(db_default=None))`, "NOT NULL"},
	{`migrations.AddField("order", "x", models.CharField(max_length=3, null=settings.X))`, "not a constant"},
	{`migrations.AddField("order", "x", models.CharField(max_length=3, null=True, unique=True))`, "safe"},
	{`migrations.AddField("order", "x", models.CharField(max_length=3, db_default="x", unique=True))`, "same db_default"},
	{`migrations.AddField("order", "x", models.IntegerField(null=True, primary_key=True))`, "primary key"},
	{`migrations.AddField("order", "x", models.NullBooleanField())`, "safe"},
	{`migrations.AddField("order", "x", ArrayField(models.TextField(), null=True))`, "safe"},
	{`migrations.AddField("order", "x", shop.fields.MyField(null=True))`, "shop.fields.MyField"},
	{`migrations.AddField("order", "x", django_countries.fields.CountryField(max_length=2, null=True))`, "safe"},
	{`migrations.AddField("order", "x", django_countries.fields.CountryField(max_length=2))`, "NOT NULL"},
	{`migrations.AddField("order", "x", models.CharField(null=True, **more))`, "not all constants"},
	{`migrations.AddField("order", "x", field)`, "not all constants"},
	{`migrations.AddField("order", "x", models.ForeignKey("shop.Customer", models.CASCADE, null=True))`, "fails to DELETE"},
	{`migrations.AddField("order", "x", models.ForeignKey("self", models.CASCADE, null=True))`, "fails to DELETE"},
	{`migrations.AddField("order", "x", models.ForeignKey("shop.Customer", models.CASCADE, null=True, db_constraint=False))`, "safe"},
	{`migrations.AddField("order", "x", models.ForeignKey("shop.Customer", models.CASCADE, db_constraint=False))`, "NOT NULL"},
	{`migrations.AddField("order", "x", models.ManyToManyField(to="shop.Customer"))`, "fails to DELETE"},
	{`migrations.AddField("order", "x", models.ManyToManyField(to="shop.Customer", db_constraint=False))`, "safe"},
	{`migrations.AddField("order", "x", models.ManyToManyField(to="shop.Customer", through="shop.Line"))`, "safe"},
	{`migrations.AddField("order", "x", models.GeneratedField(expression=Lower("note"), output_field=models.TextField(), db_persist=True))`, "may be NULL"},
	{`migrations.AddField("order", "x", models.GeneratedField(expression=Lower("number"), output_field=models.TextField(), db_persist=True))`, "safe"},
	{`migrations.AddField("order", "x", models.GeneratedField(expression=Lower("note"), output_field=models.TextField(null=True), null=True, db_persist=True))`, "safe"},
	{`migrations.AddField("order", "x", models.GeneratedField(expression=models.F("total") / models.F("count"), output_field=models.FloatField(), db_persist=True))`, "may fail"},
	{`migrations.AddField("order", "x", models.GeneratedField(expression=Lower("number"), output_field=models.TextField(), unique=True, db_persist=True))`, "not unique"},
	{`migrations.AddField("view", "x", models.IntegerField())`, "safe"},
	{`migrations.AddField("order", "number", models.IntegerField(null=True))`, "has this column too"},
	{`migrations.AddField("order", "x", models.IntegerField(null=True, db_column="total"))`, "has this column too"},

	// fields that change
	{`migrations.RemoveField("order", "legacy")`, "selects the column"},
	{`migrations.RemoveField("order", "tags")`, "table of the relation is gone"},
	{`migrations.RemoveField("order", "lines")`, "safe"},
	{`migrations.RemoveField("view", "id")`, "safe"},
	{`migrations.RenameField("order", "legacy", "old")`, "names it in every statement"},
	{`migrations.RenameField("kept", "name", "title")`, "safe"},
	{`migrations.RenameField("order", "tags", "labels")`, "another name"},
	{`migrations.RenameField("order", "lines", "rows")`, "safe"},
	{`migrations.AlterField("order", "legacy", models.CharField(max_length=20, db_column="legacy")),
      migrations.RenameField("order", "legacy", "old")`, "safe"},
	{`migrations.AlterField("order", "number", models.CharField(max_length=20, verbose_name="no", choices=[("a", "A")], default="a", blank=True))`, "safe"},
	{`migrations.AlterField("order", "number", models.CharField("no", max_length=21))`, "safe"},
	{`migrations.AlterField("order", "number", models.CharField(max_length=19))`, "shrinks to 19"},
	{`migrations.AlterField("order", "number", models.CharField())`, "safe"},
	{`migrations.AlterField("order", "number", models.CharField(max_length=LENGTH))`, "not a constant"},
	{`migrations.AlterField("order", "number", models.CharField(max_length=shop.LENGTH))`, "not a constant"},
	{`migrations.AlterField("order", "number", models.TextField())`, "safe"},
	{`migrations.AlterField("order", "number", models.EmailField(max_length=254))`, "safe"},
	{`migrations.AlterField("order", "number", models.IntegerField())`, "from CharField to IntegerField"},
	{`migrations.AlterField("order", "number", models.CharField(max_length=20, null=True))`, "safe"},
	{`migrations.AlterField("order", "number", models.CharField(max_length=20, unique=True))`, "becomes unique"},
	{`migrations.AlterField("order", "number", models.CharField(max_length=20, db_index=True))`, "safe"},
	{`migrations.AlterField("order", "number", models.CharField(max_length=20, db_column="no"))`, "names it in every statement"},
	{`migrations.AlterField("order", "number", models.CharField(max_length=20, db_column="number"))`, "safe"},
	{`migrations.AlterField("order", "number", models.CharField(max_length=20, db_collation="x"))`, "db_collation changes"},
	{`migrations.AlterField("order", "number", models.CharField(max_length=20, db_default=""))`, "safe"},
	{`migrations.AlterField("order", "number", models.CharField(max_length=20, primary_key=True))`, "primary key"},
	{`migrations.AlterField("order", "number", models.CharField(max_length=20, frobnicate=True))`, "frobnicate"},
	{`migrations.AlterField("order", "number", shop.fields.MyField(max_length=20))`, "not known"},
	{`migrations.AlterField("order", "unheard", models.CharField(max_length=20))`, "not known"},
	{`migrations.AlterField("order", "mail", models.CharField(max_length=254))`, "safe"},
	{`migrations.AlterField("order", "slug", models.SlugField(max_length=49))`, "shrinks to 49"},
	{`migrations.AlterField("order", "slug", models.SlugField(max_length=50, db_index=False))`, "safe"},
	{`migrations.AlterField("order", "sku", models.CharField(max_length=20))`, "no longer unique"},
	{`migrations.AlterField("order", "note", models.TextField())`, "NOT NULL"},
	{`migrations.AlterField("order", "note", models.TextField(null=True, db_index=True))`, "2,704 bytes"},
	{`migrations.AlterField("order", "note", models.CharField(max_length=99, null=True))`, "from TextField to CharField"},
	{`migrations.AlterField("order", "total", models.BigIntegerField())`, "safe"},
	{`migrations.AlterField("order", "total", models.SmallIntegerField())`, "smaller numbers"},
	{`migrations.AlterField("order", "total", models.PositiveIntegerField())`, "no negative numbers"},
	{`migrations.AlterField("order", "count", models.IntegerField())`, "safe"},
	{`migrations.AlterField("order", "price", models.DecimalField(max_digits=10, decimal_places=2))`, "more digits from SQLite"},
	{`migrations.AlterField("order", "price", models.DecimalField(max_digits=7, decimal_places=2))`, "larger numbers"},
	{`migrations.AlterField("order", "price", models.DecimalField(max_digits=10, decimal_places=3))`, "decimal_places changes"},
	{`migrations.AlterField("order", "state", models.CharField(max_length=10))`, "relies on"},
	{`migrations.AlterField("order", "state", models.CharField(max_length=10, db_default="old"))`, "relies on"},
	{`migrations.AlterField("order", "active", models.BooleanField(null=True))`, "safe"},
	{`migrations.AlterField("order", "active", models.BooleanField(default=False))`, "NOT NULL"},
	{`migrations.AlterField("order", "sizes", ArrayField(models.IntegerField(), size=3, blank=True))`, "safe"},
	{`migrations.AlterField("order", "sizes", ArrayField(models.BigIntegerField(), size=3))`, "base_field changes"},
	{`migrations.AlterField("order", "id", models.BigAutoField(primary_key=True))`, "safe"},
	{`migrations.AlterField("order", "id", models.UUIDField(primary_key=True))`, "from AutoField to UUIDField"},
	{`migrations.AlterField("order", "customer", models.ForeignKey(on_delete=models.SET(forwards), to="shop.customer"))`, "safe"},
	{`migrations.AlterField("order", "customer", models.ForeignKey("Customer", models.DB_CASCADE))`, "may be the database's"},
	{`migrations.AlterField("order", "customer", models.ForeignKey("shop.Tag", models.CASCADE))`, "another table"},
	{`migrations.AlterField("order", "customer", models.ForeignKey("shop.Customer", models.CASCADE, db_constraint=False))`, "safe"},
	{`migrations.AlterField("order", "customer", models.OneToOneField("shop.Customer", models.CASCADE))`, "from ForeignKey to OneToOneField"},
	{`migrations.AlterField("order", "agent", models.OneToOneField("shop.Customer", models.PROTECT, null=True))`, "safe"},
	{`migrations.AlterField("order", "loose", models.ForeignKey("shop.Tag", models.DO_NOTHING))`, "starts to enforce"},
	{`migrations.AlterField("order", "tags", models.ManyToManyField(to="shop.Tag", blank=True, related_name="+"))`, "safe"},
	{`migrations.AlterField("order", "tags", models.ManyToManyField(to="shop.Tag", db_table="x"))`, "another table"},
	{`migrations.AlterField("order", "tree", mptt.fields.TreeForeignKey(null=True, to="shop.Tag", on_delete=models.CASCADE))`, "not known"},

	// code
	{`migrations.RunPython(forwards)`, "what its code does"},
	{`migrations.RunPython(migrations.RunPython.noop, forwards)`, "safe"},
	{`migrations.RunSQL("UPDATE x SET y = 1", migrations.RunSQL.noop)`, "what its SQL does"},
	{`migrations.RunSQL(migrations.RunSQL.noop)`, "safe"},
	{`migrations.RunSQL("")`, "safe"},
	{`shop.operations.Own("order")`, "not one of Django's own"},
	{`Own("order")`, "not one of Django's own"},
	{`migrations.AddFields("order")`, "not one of Django's own"},
	{`shop.migrations.AddIndex("order", models.Index(fields=["number"]))`, "not one of Django's own"},
	{`migrations.AddIndex(*args)`, "not all constants"},
	{`migrations.AddIndex("order", models.Index(fields=["number"]), surprise=True)`, "not all constants"},
	{`operation`, "not one of Django's own"},
	{`migrations.SeparateDatabaseAndState([], [migrations.RemoveField("order", "legacy")])`, "safe"},
	{`migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel("Order")])`, "safe"},
	{`migrations.SeparateDatabaseAndState([migrations.RemoveField("order", "legacy")])`, "RemoveField order.legacy: "},
	{`migrations.SeparateDatabaseAndState(database_operations=[migrations.RunSQL("x")], state_operations=[])`, "what its SQL does"},
	{`migrations.SeparateDatabaseAndState(database_operations=made())`, "not all constants"},
	{`migrations.SeparateDatabaseAndState([migrations.SeparateDatabaseAndState([migrations.RunPython(forwards)])])`, "what its code does"},

	// several, of which the last counts
	{`migrations.CreateModel("New", [("id", models.AutoField(primary_key=True))]),
      migrations.AddField("new", "x", models.IntegerField(unique=True))`, "safe"},
	{`migrations.CreateModel("New", [("id", models.AutoField(primary_key=True))]),
      migrations.AddField("new", "x", models.ForeignKey("shop.order", models.CASCADE))`, "fails to DELETE"},
	{`migrations.CreateModel("New", [("id", models.AutoField(primary_key=True))]),
      migrations.AddField("order", "x", models.ForeignKey("shop.new", models.CASCADE, null=True))`, "safe"},
	{`migrations.CreateModel("New", [("id", models.AutoField(primary_key=True))]),
      migrations.AddField("order", "x", models.ManyToManyField("shop.new"))`, "fails to DELETE"},
	{`migrations.CreateModel("New", [("id", models.AutoField(primary_key=True))]),
      migrations.AddField("new", "x", models.ForeignKey("shop.new", models.CASCADE)),
      migrations.RenameModel("New", "Newer"),
      migrations.AlterModelTable("newer", "newest"),
      migrations.AlterUniqueTogether("newer", {("x", "id")}),
      migrations.RemoveField("newer", "x"),
      migrations.DeleteModel("newer")`, "safe"},
	{`migrations.SeparateDatabaseAndState(state_operations=[
          migrations.CreateModel("Moved", [("id", models.AutoField(primary_key=True))], options={"db_table": "shop_order"})]),
      migrations.RemoveField("moved", "id")`, "selects the column"},
	{`migrations.SeparateDatabaseAndState(state_operations=[
          migrations.CreateModel("Moved", [("id", models.AutoField(primary_key=True))])]),
      migrations.AddField("moved", "x", models.IntegerField())`, "NOT NULL"},
	{`migrations.SeparateDatabaseAndState(
          [migrations.CreateModel("New", [("id", models.AutoField(primary_key=True))])],
          [migrations.CreateModel("New", [("id", models.AutoField(primary_key=True))])]),
      migrations.AddField("new", "x", models.IntegerField())`, "safe"},
	{`migrations.CreateModel("New", [("id", models.AutoField(primary_key=True))], options={"managed": False}),
      migrations.AlterModelOptions("new", {"managed": True}),
      migrations.AddField("new", "x", models.IntegerField())`, "NOT NULL"},
	{`migrations.AlterModelOptions("view", {}),
      migrations.AddField("view", "x", models.IntegerField())`, "NOT NULL"},
	{`migrations.AddField("order", "x", models.IntegerField(null=True)),
      migrations.AlterField("order", "x", models.IntegerField(default=1))`, "NOT NULL"},
	{`migrations.AddField("order", "x", models.IntegerField(null=True)),
      migrations.AlterField("order", "x", models.CharField(null=True, max_length=3))`, "safe"},
	{`migrations.AddField("order", "x", models.IntegerField(null=True)),
      migrations.RenameField("order", "x", "y"),
      migrations.RemoveField("order", "y")`, "safe"},
	{`migrations.AddField("order", "x", models.IntegerField(null=True)),
      migrations.RemoveField("order", "x"),
      migrations.RemoveField("order", "x")`, "selects the column"},
	{`migrations.SeparateDatabaseAndState(state_operations=[migrations.AddField("order", "x", models.IntegerField(null=True))]),
      migrations.RemoveField("order", "x")`, "selects the column"},
	{`migrations.SeparateDatabaseAndState(state_operations=[
          migrations.AlterField("order", "number", models.CharField(max_length=5))]),
      migrations.AlterField("order", "number", models.CharField(max_length=10))`, "shrinks to 10"},
	{`migrations.AlterField("order", "number", models.CharField(max_length=30)),
      migrations.AlterField("order", "number", models.CharField(max_length=25))`, "shrinks to 25"},
	{`shop.operations.Own(),
      migrations.AlterField("order", "number", models.CharField(max_length=30))`, "not known"},
	{`migrations.AddField("order", "x", models.TextField(null=True)),
      migrations.AddIndex("order", models.Index(fields=["x"], name="i"))`, "safe"},
}

func TestVerdicts(t *testing.T) {
	needPython(t)
	older := read(t, map[string]string{"shop/migrations/0001_initial.py": base})
	newer := map[string]string{"shop/migrations/0001_initial.py": base}
	for i, c := range cases {
		// An app of its own for each would need models of its own: a release for all would not do.
		newer[fmt.Sprintf("shop/migrations/case%d.py", i)] = fmt.Sprintf(head, c.operations)
	}
	all := read(t, newer)
	for i, c := range cases {
		n := Name{"shop", fmt.Sprintf("case%d", i)}
		j := Judge(all, older, func(other Name) bool { return other != n })
		reasons := map[string]string{}
		for _, r := range j.Safe {
			reasons[fmt.Sprint(r.Line, " ", r.Operation)] = "safe"
		}
		for _, r := range j.Blocking {
			reasons[fmt.Sprint(r.Line, " ", r.Operation)] = r.Why
		}
		m := all.Migrations[n]
		if m.Problem != "" {
			t.Errorf("%s\n\thas the problem %q", c.operations, m.Problem)
			continue
		}
		last := m.Operations[len(m.Operations)-1]
		got := reasons[fmt.Sprint(last.Line, " ", last)]
		if c.want == "safe" && (got != "safe" || len(j.Blocking) > 0) || !strings.Contains(got, c.want) {
			t.Errorf("%s\n\tgot  %q %v\n\twant %q", c.operations, got, j.Blocking, c.want)
		}
	}
}

func needPython(t *testing.T) {
	t.Helper()
	if python.Find() == "" {
		t.Skip("no python3")
	}
}

// read makes a release of files and reads it.
func read(t *testing.T, files map[string]string) *Set {
	t.Helper()
	s, err := Read(t.Context(), tree(t, files))
	assert.OK(t, err)
	return s
}

// tree writes files below a new directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t *testing.T, file, text string) {
	t.Helper()
	assert.OK(t, os.MkdirAll(filepath.Dir(file), 0o755))
	assert.OK(t, os.WriteFile(file, []byte(text), 0o644))
}
