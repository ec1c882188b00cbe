package migrations_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"deploygate/rollback/migrations"
)

func ExampleJudge() {
	const head = "from django.db import migrations, models\nclass Migration(migrations.Migration):\n    operations = [\n"
	initial := head + `migrations.CreateModel("Order", [
		("id", models.BigAutoField(primary_key=True)), ("legacy", models.CharField(max_length=20))])]`
	v41 := example(map[string]string{"0001_initial.py": initial})
	v42 := example(map[string]string{
		"0001_initial.py": initial,
		"0002_drop.py": head + `migrations.AddField("order", "paid", models.DateTimeField(null=True)),
			migrations.RemoveField("order", "legacy")]`,
	})
	defer os.RemoveAll(v41)
	defer os.RemoveAll(v42)

	older, err := migrations.Read(context.Background(), v41)
	if err != nil {
		fmt.Println(err)
	}
	newer, err := migrations.Read(context.Background(), v42)
	if err != nil {
		fmt.Println(err)
	}
	j := migrations.Judge(newer, older, nil)
	fmt.Println("new:", j.New)
	for _, r := range j.Safe {
		fmt.Println("safe:", r)
	}
	for _, r := range j.Blocking {
		fmt.Println("blocked:", r)
		fmt.Println("reversible:", r.Reversible, r.Reverse)
	}
	// Output:
	// new: [shop.0002_drop]
	// safe: shop.0002_drop: AddField order.paid: the older code's INSERT leaves it NULL
	// blocked: shop.0002_drop: RemoveField order.legacy: the older code selects the column
	// reversible: true the column comes back without its values: the data is lost
}

// example makes a release of an app's migrations.
func example(files map[string]string) string {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	app := filepath.Join(dir, "shop", "migrations")
	if err := os.MkdirAll(app, 0o755); err != nil {
		panic(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(app, name), []byte(text), 0o644); err != nil {
			panic(err)
		}
	}
	return dir
}
