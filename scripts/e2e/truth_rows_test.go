package e2e

// Shorthands for the rows.
const (
	xChar  = "x = models.CharField(max_length=20)\n"
	xNull  = "x = models.CharField(max_length=20, null=True)\n"
	extra  = "class Extra(models.Model):\n    word = models.CharField(max_length=20)\n"
	idKey  = `("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")), `
	wordOf = `("word", models.CharField(max_length=20))`
)

var postgresOnly = []string{"postgresql"}

// adds is an AddField of the field x to the orders.
func adds(operation, verdict, field string) truth {
	return truth{
		operation: "AddField: " + operation, verdict: verdict, New: "x = " + field + "\n",
		Migration: `migrations.AddField("order", "x", ` + field + `),`,
	}
}

// alters is an AlterField of the field x of the orders.
func alters(operation, verdict, from, to string) truth {
	return truth{
		operation: "AlterField: " + operation, verdict: verdict, Old: "x = " + from + "\n", New: "x = " + to + "\n",
		Migration: `migrations.AlterField("order", "x", ` + to + `),`,
	}
}

// creates is a CreateModel of an Extra with a field x.
func creates(operation, verdict, field string) truth {
	return truth{
		operation: "CreateModel: " + operation, verdict: verdict, NewMore: extra + "    x = " + field + "\n",
		Migration: `migrations.CreateModel("Extra", [` + idKey + wordOf + `, ("x", ` + field + `)]),`,
	}
}

// with changes a row.
func (r truth) with(change func(*truth)) truth {
	change(&r)
	return r
}

func (r truth) from(django string) truth       { r.since = django; return r }
func (r truth) upTo(django string) truth       { r.until = django; return r }
func (r truth) differing() truth               { r.differs = true; return r }
func (r truth) onPostgres() truth              { r.Engines = postgresOnly; return r }
func (r truth) stricterSince(why string) truth { r.stricter = why; return r }

// meta is an Order that has the field x and a Meta.
func meta(text string) string { return xChar + onlyMeta(text) }

func onlyMeta(text string) string { return "class Meta:\n    " + text + "\n" }

// on is a row of orders that have the field x, of which one's Meta is changed.
func on(operation, verdict, old, new, migration string) truth {
	row := truth{operation: operation, verdict: verdict, Old: xChar, New: xChar, Migration: migration}
	if old != "" {
		row.Old = meta(old)
	}
	if new != "" {
		row.New = meta(new)
	}
	return row
}

// indexes is an AddIndex on the field x of the orders.
func indexes(operation, verdict, field, index string) truth {
	field = "x = " + field + "\n"
	return truth{
		operation: "AddIndex: " + operation, verdict: verdict, Old: field, New: field + onlyMeta("indexes = ["+index+"]"),
		Migration: `migrations.AddIndex("order", ` + index + `),`,
	}
}

// does is what the old code does beside the usual, by SELECT, INSERT and so on.
func (r truth) does(kind, code string) truth { r.Does = map[string]string{kind: code}; return r }

const (
	tags    = `x = models.ManyToManyField("shop.Customer", related_name="+")` + "\n"
	through = `x = models.ManyToManyField("shop.Customer", through="shop.Line", related_name="+")` + "\n"
	line    = "class Line(models.Model):\n" +
		`    order = models.ForeignKey("shop.Order", models.CASCADE)` + "\n" +
		`    customer = models.ForeignKey("shop.Customer", models.CASCADE)` + "\n"
	createLine = `migrations.CreateModel("Line", [` + idKey +
		`("order", models.ForeignKey("shop.Order", models.CASCADE)), ("customer", models.ForeignKey("shop.Customer", models.CASCADE))]),` + "\n"
	createExtra = `migrations.CreateModel("Extra", [` + idKey + wordOf + `]),` + "\n"
	special     = "class Special(Order):\n    word = models.CharField(max_length=20)\n"
	proxy       = "class Special(Order):\n    class Meta:\n        proxy = True\n"
	ledger      = extra + "\n    class Meta:\n        managed = False\n        db_table = \"ledger\"\n"
	makeLedger  = `migrations.SeparateDatabaseAndState(database_operations=[migrations.CreateModel("Made", [` + idKey + wordOf + `], options={"db_table": "ledger"})]),`
	one         = `models.Index(fields=["x"], name="one")`
	check       = `models.CheckConstraint(check=~models.Q(x=""), name="one")`
	unique      = `models.UniqueConstraint(fields=["x"], name="one")`
	partial     = `models.UniqueConstraint(fields=["x"], condition=~models.Q(x=""), name="one")`
	char20      = "models.CharField(max_length=20)"
	array       = "django.contrib.postgres.fields.ArrayField(models.TextField())"
	reference   = `models.ForeignKey("shop.Customer", models.CASCADE, related_name="+")`
	marks       = "class Mark(models.Model):\n" +
		`    content_type = models.ForeignKey("contenttypes.ContentType", models.CASCADE)` + "\n    object_id = models.IntegerField()\n"
	isMarked = "from django.contrib.contenttypes.models import ContentType\n" +
		"assert Mark.objects.filter(content_type=ContentType.objects.get_for_model(Order)).exists()"
	isPermitted = "from django.contrib.auth.models import Permission, User\n" +
		"user = User.objects.create(username='a')\n" +
		"user.user_permissions.add(Permission.objects.get(codename='change_order'))\n" +
		"assert User.objects.get(username='a').has_perm('shop.change_order')"
	dangling = "Order.objects.create(number='1', customer=nth(Customer, 0), x_id=10**6)"
)

// What several rows say of themselves.
const (
	ownCode    = "what code of the app's own does is not known"
	mayDepend  = "old code may depend on it, though none of Django's does"
	noDangling = "old code may keep references to nothing"
)

// truths are the operations and their variants, as the table lists them.
var truths = []truth{
	// models
	{operation: "CreateModel", verdict: "safe", NewMore: extra, Migration: createExtra},
	creates("foreign key to an old model", "blocked", `models.ForeignKey("shop.Customer", models.CASCADE)`),
	creates("foreign key to an old model, SET_NULL", "blocked", `models.ForeignKey("shop.Customer", models.SET_NULL, null=True)`),
	creates("foreign key to an old model, db_constraint=False", "safe", `models.ForeignKey("shop.Customer", models.CASCADE, db_constraint=False)`),
	creates("foreign key to itself", "safe", `models.ForeignKey("shop.extra", models.CASCADE, null=True)`),
	creates("one-to-one to an old model", "blocked", `models.OneToOneField("shop.Customer", models.CASCADE)`),
	creates("many-to-many to an old model", "blocked", `models.ManyToManyField("shop.Customer")`),
	creates("many-to-many to an old model, db_constraint=False", "safe", `models.ManyToManyField("shop.Customer", db_constraint=False)`),
	creates("field of the app's own class", "blocked", `shop.own.Name(max_length=20)`).stricterSince(ownCode),
	{
		operation: "CreateModel: base of the app's own", verdict: "blocked", stricter: ownCode,
		NewMore:   "class Extra(shop.own.Mixin, models.Model):\n    word = models.CharField(max_length=20)\n",
		Migration: `migrations.CreateModel("Extra", [` + idKey + wordOf + `], bases=(shop.own.Mixin, models.Model)),`,
	},
	{
		operation: "CreateModel: proxy of an old model", verdict: "safe", NewMore: proxy,
		Migration: `migrations.CreateModel("Special", [], options={"proxy": True, "indexes": [], "constraints": []}, bases=("shop.order",)),`,
	},
	{
		operation: "CreateModel: unmanaged", verdict: "safe", NewMore: ledger,
		Migration: `migrations.CreateModel("Extra", [` + idKey + wordOf + `], options={"managed": False, "db_table": "ledger"}),`,
	},
	{
		operation: "CreateModel: inherits from an old model (multi-table)", verdict: "blocked", NewMore: special,
		Migration: `migrations.CreateModel("Special", [("order_ptr", models.OneToOneField(auto_created=True, on_delete=models.CASCADE, parent_link=True, primary_key=True, serialize=False, to="shop.order")), ` + wordOf + `], bases=("shop.order",)),`,
	},
	{operation: "DeleteModel", verdict: "blocked", OldMore: extra, Migration: `migrations.DeleteModel("Extra"),`},
	{operation: "DeleteModel: proxy", verdict: "safe", OldMore: proxy, Migration: `migrations.DeleteModel("Special"),`},
	{operation: "DeleteModel: unmanaged", verdict: "safe", OldMore: ledger, Before: makeLedger, Migration: `migrations.DeleteModel("Extra"),`},
	{operation: "DeleteModel: inherits from an old model (multi-table)", verdict: "blocked", OldMore: special, Migration: `migrations.DeleteModel("Special"),`},
	{operation: "RenameModel", verdict: "blocked", Name: "Purchase", Migration: `migrations.RenameModel("Order", "Purchase"),`},
	{
		operation: "RenameModel: db_table kept", verdict: "safe", Name: "Purchase",
		Old: onlyMeta(`db_table = "orders"`), New: onlyMeta(`db_table = "orders"`),
		Migration: `migrations.RenameModel("Order", "Purchase"),`,
	},
	{
		operation: "RenameModel: db_table set to what it was", verdict: "safe", Name: "Purchase", New: onlyMeta(`db_table = "shop_order"`),
		Migration: `migrations.AlterModelTable("Order", "shop_order"), migrations.RenameModel("Order", "Purchase"),`,
	},
	{
		operation: "RenameModel: db_table kept, other models refer to it", verdict: "safe", Customer: "Client", Body: onlyMeta(`db_table = "shop_customer"`),
		Migration: `migrations.AlterModelTable("Customer", "shop_customer"), migrations.RenameModel("Customer", "Client"),`,
	},
	{
		operation: "RenameModel: db_table kept, with a many-to-many", verdict: "blocked", Name: "Purchase",
		Old: tags + onlyMeta(`db_table = "orders"`), New: tags + onlyMeta(`db_table = "orders"`),
		Migration: `migrations.RenameModel("Order", "Purchase"),`,
	},
	truth{
		operation: "RenameModel: db_table kept, rows refer to its content type", verdict: "blocked", Name: "Purchase",
		Old: onlyMeta(`db_table = "orders"`), New: onlyMeta(`db_table = "orders"`), OldMore: marks, NewMore: marks,
		Apps: []string{"django.contrib.contenttypes"}, Migration: `migrations.RenameModel("Order", "Purchase"),`,
	}.does("SELECT", isMarked),
	truth{
		operation: "RenameModel: db_table kept, with permissions", verdict: "safe", Name: "Purchase",
		Old: onlyMeta(`db_table = "orders"`), New: onlyMeta(`db_table = "orders"`),
		Apps: []string{"django.contrib.contenttypes", "django.contrib.auth"}, Migration: `migrations.RenameModel("Order", "Purchase"),`,
	}.does("SELECT", isPermitted),
	{operation: "AlterModelTable", verdict: "blocked", New: onlyMeta(`db_table = "orders"`), Migration: `migrations.AlterModelTable("order", "orders"),`},
	{
		operation: "AlterModelTable: to what it was", verdict: "safe", Old: tags, New: tags + onlyMeta(`db_table = "shop_order"`),
		Migration: `migrations.AlterModelTable("order", "shop_order"),`,
	},
	truth{
		operation: "AlterModelTableComment", verdict: "safe", New: onlyMeta(`db_table_comment = "x"`),
		Migration: `migrations.AlterModelTableComment("order", "x"),`,
	}.from("4.2"),
	{operation: "AlterModelOptions", verdict: "safe", New: onlyMeta(`ordering = ["number"]`), Migration: `migrations.AlterModelOptions("order", {"ordering": ["number"]}),`},
	{operation: "AlterModelOptions: managed=False", verdict: "safe", New: onlyMeta(`managed = False`), Migration: `migrations.AlterModelOptions("order", {"managed": False}),`},
	{operation: "AlterModelManagers", verdict: "safe", New: "objects = shop.own.Manager()\n", Migration: `migrations.AlterModelManagers("order", [("objects", shop.own.Manager())]),`},
	on("AlterUniqueTogether: more", "blocked", "", `unique_together = {("number", "x")}`, `migrations.AlterUniqueTogether("order", {("number", "x")}),`),
	on("AlterUniqueTogether: fewer", "blocked", `unique_together = {("number", "x")}`, "", `migrations.AlterUniqueTogether("order", set()),`).differing(),
	on("AlterUniqueTogether: in another order", "safe", `unique_together = {("number", "x")}`, `unique_together = {("x", "number")}`,
		`migrations.AlterUniqueTogether("order", {("x", "number")}),`),
	on("AlterIndexTogether", "safe", "", `index_together = {("number", "x")}`, `migrations.AlterIndexTogether("order", {("number", "x")}),`).upTo("5.0"),
	{
		operation: "AlterOrderWithRespectTo: added", verdict: "blocked", New: onlyMeta(`order_with_respect_to = "customer"`),
		Migration: `migrations.AlterOrderWithRespectTo("order", "customer"),`,
	},
	{
		operation: "AlterOrderWithRespectTo: removed", verdict: "blocked", Old: onlyMeta(`order_with_respect_to = "customer"`),
		Migration: `migrations.AlterOrderWithRespectTo("order", None),`,
	},

	// indexes and constraints
	indexes("on a CharField", "safe", char20, one),
	indexes("on two CharFields, max_length=600", "blocked", "models.CharField(max_length=600)", `models.Index(fields=["x", "y"], name="one")`).
		with(func(r *truth) { r.Old, r.New = r.Old+"y"+r.Old[1:], "y"+r.Old[1:]+r.New }),
	indexes("on an expression", "safe", char20, `models.Index(Lower("x"), name="one")`).from("3.2"),
	indexes("partial", "safe", char20, `models.Index(fields=["x"], condition=~models.Q(x=""), name="one")`),
	indexes("on a TextField", "blocked", "models.TextField()", one),
	indexes("on a JSONField", "blocked", "models.JSONField()", one),
	indexes("on a BinaryField", "blocked", "models.BinaryField()", one),
	indexes("on an ArrayField of texts", "blocked", array, one).onPostgres(),
	indexes("that includes a TextField", "blocked", "models.TextField()", `models.Index(fields=["number"], include=["x"], name="one")`),
	indexes("hash, on a TextField", "safe", "models.TextField()", `django.contrib.postgres.indexes.HashIndex(fields=["x"], name="one")`).onPostgres(),
	indexes("BRIN, on a TextField", "blocked", "models.TextField()", `django.contrib.postgres.indexes.BrinIndex(fields=["x"], name="one")`).onPostgres(),
	indexes("BRIN, on an IntegerField", "safe", "models.IntegerField()", `django.contrib.postgres.indexes.BrinIndex(fields=["x"], name="one")`).onPostgres(),
	indexes("SP-GiST, on a TextField", "safe", "models.TextField()", `django.contrib.postgres.indexes.SpGistIndex(fields=["x"], name="one")`).onPostgres(),
	indexes("GIN, on a JSONField", "safe", "models.JSONField()", `django.contrib.postgres.indexes.GinIndex(fields=["x"], name="one")`).onPostgres(),
	indexes("GIN, on an ArrayField of texts", "blocked", array, `django.contrib.postgres.indexes.GinIndex(fields=["x"], name="one")`).onPostgres(),
	indexes("GIN with btree_gin, on a TextField", "blocked", "models.TextField()", `django.contrib.postgres.indexes.GinIndex(fields=["x"], name="one")`).
		with(func(r *truth) { r.Migration = "postgres.BtreeGinExtension(), " + r.Migration }).onPostgres(),
	indexes("GIN with pg_trgm, on a TextField", "safe", "models.TextField()",
		`django.contrib.postgres.indexes.GinIndex(fields=["x"], name="one", opclasses=["gin_trgm_ops"])`).
		with(func(r *truth) { r.Migration = "postgres.TrigramExtension(), " + r.Migration }).onPostgres(),
	on("AddIndexConcurrently", "safe", "", "indexes = ["+one+"]", `postgres.AddIndexConcurrently("order", `+one+`),`).
		with(func(r *truth) { r.Head = "atomic = False" }).onPostgres(),
	on("RemoveIndex", "safe", "indexes = ["+one+"]", "", `migrations.RemoveIndex("order", "one"),`),
	on("RemoveIndexConcurrently", "safe", "indexes = ["+one+"]", "", `postgres.RemoveIndexConcurrently("order", "one"),`).
		with(func(r *truth) { r.Head = "atomic = False" }).onPostgres(),
	on("RenameIndex", "safe", "indexes = ["+one+"]", `indexes = [models.Index(fields=["x"], name="two")]`,
		`migrations.RenameIndex("order", new_name="two", old_name="one"),`).from("4.1"),
	on("AddConstraint: check", "blocked", "", "constraints = ["+check+"]", `migrations.AddConstraint("order", `+check+`),`),
	on("AddConstraint: unique", "blocked", "", "constraints = ["+unique+"]", `migrations.AddConstraint("order", `+unique+`),`),
	on("AddConstraint: unique under a condition", "blocked", "", "constraints = ["+partial+"]", `migrations.AddConstraint("order", `+partial+`),`),
	on("AddConstraintNotValid", "blocked", "", "constraints = ["+check+"]", `postgres.AddConstraintNotValid("order", `+check+`),`).from("4.0").onPostgres(),
	on("ValidateConstraint", "safe", `constraints = [models.CheckConstraint(check=~models.Q(x="no"), name="one")]`,
		`constraints = [models.CheckConstraint(check=~models.Q(x="no"), name="one")]`, `postgres.ValidateConstraint("order", "one"),`).
		with(func(r *truth) {
			r.Before = `migrations.RunSQL("ALTER TABLE shop_order DROP CONSTRAINT one; ALTER TABLE shop_order ADD CONSTRAINT one CHECK (x <> 'no') NOT VALID"),`
		}).from("4.0").onPostgres(),
	on("RemoveConstraint: check", "safe", `constraints = [models.CheckConstraint(check=~models.Q(x="no"), name="one")]`, "",
		`migrations.RemoveConstraint("order", "one"),`).with(func(r *truth) { r.Writes = `writer.create(Order, x="no")` }),
	on("RemoveConstraint: unique", "blocked", "constraints = ["+unique+"]", "", `migrations.RemoveConstraint("order", "one"),`).differing(),

	// fields that are added
	adds("null", "safe", `models.CharField(max_length=20, null=True)`),
	adds("NOT NULL with default", "blocked", `models.CharField(max_length=20, default="x")`),
	adds("NOT NULL with default, on SQL that keeps the default, with the author's word", "safe", `models.CharField(max_length=20, default="x")`).
		with(func(r *truth) {
			r.Word = "the database fills it in"
			r.Migration += ` migrations.RunSQL("ALTER TABLE shop_order ALTER COLUMN x SET DEFAULT 'x'", migrations.RunSQL.noop),`
		}).onPostgres(),
	adds("NOT NULL with db_default", "safe", `models.CharField(max_length=20, db_default="x")`).from("5.0"),
	adds("NOT NULL, auto_now_add", "blocked", `models.DateTimeField(auto_now_add=True)`).with(func(r *truth) {
		r.Migration = `migrations.AddField("order", "x", models.DateTimeField(auto_now_add=True, default=django.utils.timezone.now), preserve_default=False),`
	}),
	adds("unique, null", "safe", `models.CharField(max_length=20, null=True, unique=True)`),
	adds("NullBooleanField", "safe", `models.NullBooleanField()`).upTo("3.2"),
	adds("ArrayField, null", "safe", `django.contrib.postgres.fields.ArrayField(models.TextField(), null=True)`).onPostgres(),
	adds("JSONField, null", "safe", `models.JSONField(null=True)`),
	adds("field of the app's own class, null", "blocked", `shop.own.Name(max_length=20, null=True)`).stricterSince(ownCode),
	adds("foreign key to an old model, null", "blocked", `models.ForeignKey("shop.Customer", models.SET_NULL, null=True, related_name="+")`),
	adds("foreign key to an old model, null, db_constraint=False", "safe", `models.ForeignKey("shop.Customer", models.SET_NULL, null=True, db_constraint=False, related_name="+")`),
	adds("foreign key to an old model, NOT NULL", "blocked", `models.ForeignKey("shop.Customer", models.CASCADE, default=1, db_constraint=False, related_name="+")`),
	adds("foreign key to itself, null", "blocked", `models.ForeignKey("shop.Order", models.SET_NULL, null=True, related_name="+")`),
	adds("foreign key to a new model, null", "safe", `models.ForeignKey("shop.Extra", models.CASCADE, null=True, related_name="+")`).
		with(func(r *truth) { r.NewMore, r.Migration = extra, createExtra+r.Migration }),
	adds("one-to-one to an old model, null", "blocked", `models.OneToOneField("shop.Customer", models.CASCADE, null=True, related_name="+")`),
	adds("one-to-one to a new model, null", "safe", `models.OneToOneField("shop.Extra", models.CASCADE, null=True, related_name="+")`).
		with(func(r *truth) { r.NewMore, r.Migration = extra, createExtra+r.Migration }),
	adds("many-to-many to an old model", "blocked", `models.ManyToManyField("shop.Customer", related_name="+")`),
	adds("many-to-many to an old model, db_constraint=False", "safe", `models.ManyToManyField("shop.Customer", db_constraint=False, related_name="+")`),
	adds("many-to-many to a new model", "blocked", `models.ManyToManyField("shop.Extra")`).
		with(func(r *truth) { r.NewMore, r.Migration = extra, createExtra+r.Migration }),
	adds("many-to-many by a new model", "blocked", `models.ManyToManyField("shop.Customer", through="shop.Line", related_name="+")`).
		with(func(r *truth) { r.NewMore, r.Migration = line, createLine+r.Migration }),
	adds("many-to-many by an old model", "safe", `models.ManyToManyField("shop.Customer", through="shop.Line", related_name="+")`).
		with(func(r *truth) { r.OldMore, r.NewMore = line, line }),
	adds("null, on the parent of another model (multi-table)", "safe", `models.CharField(max_length=20, null=True)`).
		with(func(r *truth) { r.OldMore, r.NewMore = special, special }),
	adds("GeneratedField", "safe", `models.GeneratedField(expression=Lower("number"), output_field=models.TextField(), db_persist=True)`).from("5.0"),

	// fields that go
	{operation: "RemoveField", verdict: "blocked", Old: xChar, Migration: `migrations.RemoveField("order", "x"),`},
	{operation: "RemoveField: null", verdict: "blocked", Old: xNull, Migration: `migrations.RemoveField("order", "x"),`},
	{operation: "RemoveField: foreign key", verdict: "blocked", Old: "x = " + reference + "\n", Migration: `migrations.RemoveField("order", "x"),`},
	{operation: "RemoveField: many-to-many", verdict: "blocked", Old: tags, Migration: `migrations.RemoveField("order", "x"),`},
	{operation: "RemoveField: many-to-many by a model that stays", verdict: "safe", Old: through, OldMore: line, NewMore: line, Migration: `migrations.RemoveField("order", "x"),`},
	{operation: "RenameField", verdict: "blocked", Old: xChar, New: "y" + xChar[1:], Migration: `migrations.RenameField("order", "x", "y"),`},
	{
		operation: "RenameField: db_column kept", verdict: "safe", Old: xChar, New: "y = models.CharField(max_length=20, db_column=\"x\")\n",
		Migration: `migrations.AlterField("order", "x", models.CharField(max_length=20, db_column="x")), migrations.RenameField("order", "x", "y"),`,
	},
	{
		operation: "RenameField: foreign key, db_column kept", verdict: "safe",
		Old: "x = " + reference + "\n", New: `y = models.ForeignKey("shop.Customer", models.CASCADE, related_name="+", db_column="x_id")` + "\n",
		Migration: `migrations.AlterField("order", "x", models.ForeignKey("shop.Customer", models.CASCADE, related_name="+", db_column="x_id")), migrations.RenameField("order", "x", "y"),`,
	},
	{operation: "RenameField: many-to-many", verdict: "blocked", Old: tags, New: "y" + tags[1:], Migration: `migrations.RenameField("order", "x", "y"),`},
	{
		operation: "RenameField: many-to-many, db_table kept", verdict: "safe",
		Old: `x = models.ManyToManyField("shop.Customer", related_name="+", db_table="tags")` + "\n",
		New: `y = models.ManyToManyField("shop.Customer", related_name="+", db_table="tags")` + "\n", Migration: `migrations.RenameField("order", "x", "y"),`,
	},

	// fields that change
	alters("verbose_name, choices, help_text", "safe", `models.CharField(max_length=20, choices=[("1", "one")])`,
		`models.CharField("X", max_length=20, choices=[("1", "one"), ("2", "two")], help_text="x")`),
	alters("default", "safe", `models.CharField(max_length=20, default="a")`, `models.CharField(max_length=20, default="b", blank=True)`),
	alters("max_length grows", "safe", char20, `models.CharField(max_length=40)`),
	alters("max_length shrinks", "blocked", char20, `models.CharField(max_length=10)`),
	alters("max_length removed", "safe", char20, `models.CharField()`).from("4.2").onPostgres(),
	alters("CharField to TextField", "safe", char20, `models.TextField()`),
	alters("CharField to TextField, unique", "safe", `models.CharField(max_length=20, unique=True)`, `models.TextField(unique=True)`),
	alters("CharField to EmailField", "safe", char20, `models.EmailField()`),
	alters("CharField to SlugField", "safe", char20, `models.SlugField(max_length=20)`),
	alters("CharField to IntegerField", "blocked", char20, `models.IntegerField()`),
	alters("TextField to CharField", "blocked", `models.TextField()`, char20),
	alters("NOT NULL to NULL", "safe", char20, `models.CharField(max_length=20, null=True)`),
	alters("NULL to NOT NULL", "blocked", `models.CharField(max_length=20, null=True)`, char20),
	alters("unique added", "blocked", char20, `models.CharField(max_length=20, unique=True)`),
	alters("unique removed", "blocked", `models.CharField(max_length=20, unique=True)`, char20).differing(),
	alters("db_index added", "safe", char20, `models.CharField(max_length=20, db_index=True)`),
	alters("db_index added, max_length=700", "blocked", `models.CharField(max_length=700)`, `models.CharField(max_length=700, db_index=True)`),
	alters("db_index added, TextField", "blocked", `models.TextField()`, `models.TextField(db_index=True)`),
	alters("db_index added, JSONField", "blocked", `models.JSONField()`, `models.JSONField(db_index=True)`),
	alters("db_index removed", "safe", `models.CharField(max_length=20, db_index=True)`, char20),
	alters("db_column changed", "blocked", char20, `models.CharField(max_length=20, db_column="y")`),
	alters("db_column set to what it was", "safe", char20, `models.CharField(max_length=20, db_column="x")`),
	alters("db_collation", "blocked", char20, `models.CharField(max_length=20, db_collation="C")`).from("3.2").onPostgres().stricterSince(mayDepend),
	alters("IntegerField to BigIntegerField", "safe", `models.IntegerField()`, `models.BigIntegerField()`),
	alters("IntegerField to SmallIntegerField", "blocked", `models.IntegerField()`, `models.SmallIntegerField()`),
	alters("IntegerField to PositiveIntegerField", "blocked", `models.IntegerField()`, `models.PositiveIntegerField()`),
	alters("PositiveIntegerField to IntegerField", "safe", `models.PositiveIntegerField()`, `models.IntegerField()`),
	alters("IntegerField to CharField", "blocked", `models.IntegerField()`, char20),
	alters("DecimalField, more digits", "blocked", `models.DecimalField(max_digits=8, decimal_places=2)`, `models.DecimalField(max_digits=10, decimal_places=2)`),
	alters("DecimalField, fewer digits", "blocked", `models.DecimalField(max_digits=8, decimal_places=2)`, `models.DecimalField(max_digits=6, decimal_places=2)`),
	alters("DecimalField, other decimal_places", "blocked", `models.DecimalField(max_digits=8, decimal_places=2)`, `models.DecimalField(max_digits=8, decimal_places=4)`),
	alters("DateField to DateTimeField", "blocked", `models.DateField()`, `models.DateTimeField()`).differing(),
	alters("auto_now_add", "safe", `models.DateTimeField()`, `models.DateTimeField(auto_now_add=True)`),
	alters("NullBooleanField to BooleanField(null=True)", "safe", `models.NullBooleanField()`, `models.BooleanField(null=True)`).upTo("3.2"),
	alters("ArrayField, other options", "safe", array, `django.contrib.postgres.fields.ArrayField(models.TextField(), blank=True)`).onPostgres(),
	alters("ArrayField, other elements", "blocked", `django.contrib.postgres.fields.ArrayField(models.IntegerField())`,
		`django.contrib.postgres.fields.ArrayField(models.BigIntegerField())`).onPostgres(),
	alters("foreign key, on_delete", "safe", reference, `models.ForeignKey("shop.Customer", models.PROTECT, related_name="+")`),
	alters("foreign key, NOT NULL to NULL", "safe", reference, `models.ForeignKey("shop.Customer", models.SET_NULL, null=True, related_name="+")`),
	alters("foreign key, to another model", "blocked", reference, `models.ForeignKey("shop.Extra", models.CASCADE, related_name="+")`).
		with(func(r *truth) { r.OldMore, r.NewMore = extra, extra }),
	alters("foreign key, db_constraint=False", "safe", reference, `models.ForeignKey("shop.Customer", models.CASCADE, related_name="+", db_constraint=False)`),
	alters("foreign key, db_constraint=True", "blocked", `models.ForeignKey("shop.Customer", models.CASCADE, related_name="+", db_constraint=False)`, reference).
		does("INSERT", dangling),
	alters("foreign key to one-to-one", "blocked", reference, `models.OneToOneField("shop.Customer", models.CASCADE, related_name="+")`),
	alters("one-to-one to foreign key", "blocked", `models.OneToOneField("shop.Customer", models.CASCADE, related_name="+")`, reference).differing(),
	alters("many-to-many, options", "safe", `models.ManyToManyField("shop.Customer", related_name="+")`, `models.ManyToManyField("shop.Customer", blank=True, related_name="tagged")`),
	alters("many-to-many, db_table", "blocked", `models.ManyToManyField("shop.Customer", related_name="+")`, `models.ManyToManyField("shop.Customer", related_name="+", db_table="tags")`),
	alters("of an unmanaged model", "safe", "", "").with(func(r *truth) {
		r.Old, r.New, r.OldMore, r.NewMore, r.Before = "", "", ledger, ledger+"\n", makeLedger
		r.NewMore = "class Extra(models.Model):\n    word = models.CharField(max_length=5)\n\n    class Meta:\n        managed = False\n        db_table = \"ledger\"\n"
		r.Migration = `migrations.AlterField("extra", "word", models.CharField(max_length=5)),`
	}),
	keys("AutoField to BigAutoField", "safe", "models.AutoField(primary_key=True)", "models.BigAutoField(primary_key=True, serialize=False)"),
	keys("AutoField to BigAutoField, with keys that don't fit the old one", "safe", "models.AutoField(primary_key=True)", "models.BigAutoField(primary_key=True, serialize=False)").
		with(func(r *truth) { r.Writes = "writer.create(Order, id=2**40)" }),
	keys("CharField as the primary key, max_length grows", "safe", "models.CharField(max_length=20, primary_key=True)", "models.CharField(max_length=40, primary_key=True, serialize=False)"),
	keys("BigAutoField to AutoField", "blocked", "models.BigAutoField(primary_key=True)", "models.AutoField(primary_key=True, serialize=False)").stricterSince("keys grow beyond it in time"),
	keys("AutoField to IntegerField", "blocked", "models.AutoField(primary_key=True)", "models.IntegerField(primary_key=True, serialize=False)"),

	// code
	{operation: "RunPython", verdict: "blocked", stricter: ownCode, Migration: `migrations.RunPython(nothing, nothing),`},
	{operation: "RunPython: with the author's word", verdict: "safe", Word: "it changes nothing", Migration: `migrations.RunPython(nothing, nothing),`},
	{operation: "RunPython: noop", verdict: "safe", Migration: `migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop),`},
	{operation: "RunSQL", verdict: "blocked", stricter: ownCode, Migration: `migrations.RunSQL("UPDATE shop_customer SET name = name"),`},
	{operation: "RunSQL: with the author's word", verdict: "safe", Word: "it changes nothing", Migration: `migrations.RunSQL("UPDATE shop_customer SET name = name"),`},
	{operation: "RunSQL: noop", verdict: "safe", Migration: `migrations.RunSQL(migrations.RunSQL.noop, migrations.RunSQL.noop),`},
	{operation: "An operation of the app's own", verdict: "blocked", stricter: ownCode, Migration: `shop.own.Operation("UPDATE shop_customer SET name = name"),`},
	{
		operation: "SeparateDatabaseAndState: RemoveField in state only", verdict: "safe", Old: xNull,
		Migration: `migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField("order", "x")]),`,
	},
	{
		operation: "SeparateDatabaseAndState: DeleteModel in state only", verdict: "safe", OldMore: extra,
		Migration: `migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel("Extra")]),`,
	},
	{
		operation: "SeparateDatabaseAndState: a model gets another name in state only", verdict: "safe", OldMore: extra,
		NewMore:   "class Other(models.Model):\n    word = models.CharField(max_length=20)\n\n    class Meta:\n        db_table = \"shop_extra\"\n",
		Migration: `migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel("Extra"), migrations.CreateModel("Other", [` + idKey + wordOf + `], options={"db_table": "shop_extra"})]),`,
	},
	{
		operation: "SeparateDatabaseAndState: AddIndex in the database only", verdict: "safe", Old: xChar, New: xChar,
		Migration: `migrations.SeparateDatabaseAndState([migrations.AddIndex("order", ` + one + `)]),`,
	},
	{
		operation: "SeparateDatabaseAndState: RemoveField in both", verdict: "blocked", Old: xChar,
		Migration: `migrations.SeparateDatabaseAndState([migrations.RemoveField("order", "x")], [migrations.RemoveField("order", "x")]),`,
	},

	// PostgreSQL's own
	{operation: "UnaccentExtension", verdict: "safe", Engines: postgresOnly, Migration: `postgres.UnaccentExtension(),`},
	truth{operation: "CreateCollation", verdict: "safe", Engines: postgresOnly, Migration: `postgres.CreateCollation("sorted", "und", provider="icu"),`}.from("3.2"),
	truth{
		operation: "RemoveCollation", verdict: "blocked", stricter: mayDepend, Engines: postgresOnly,
		Before: `postgres.CreateCollation("sorted", "und", provider="icu"),`, Migration: `postgres.RemoveCollation("sorted", "und", provider="icu"),`,
	}.from("3.2"),
}

// keys is an AlterField of the orders' primary key, to which others refer.
func keys(operation, verdict, from, to string) truth {
	return truth{
		operation: "AlterField: " + operation, verdict: verdict,
		Old: "id = " + from + "\n" + tags, New: "id = " + to + "\n" + tags, OldMore: line, NewMore: line,
		Migration: `migrations.AlterField("order", "id", ` + to + `),`,
	}
}
