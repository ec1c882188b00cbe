package e2e

import (
	"fmt"
	"strings"
	"testing"

	"deploygate/scripts/testbed"
)

// migrating configures a site that migrates before a swap, with a shorter wait, and asks its database.
func (h *host) migrating(rollback string) {
	h.t.Helper()
	h.configure("deadline = \"4s\"\n" + migrates + "\n[rollback]\n" + rollback)
}

// orders is the model with other fields than its first ones.
func orders(fields string) testbed.Mod {
	return testbed.File("shop/models.py", "from django.db import models\n\n\nclass Order(models.Model):\n"+
		"    number = models.CharField(max_length=20)\n"+fields)
}

const (
	legacy = "    legacy = models.CharField(max_length=20, blank=True)\n"
	note   = "    note = models.TextField(null=True)\n"

	addNote    = `migrations.AddField("order", "note", models.TextField(null=True))`
	dropLegacy = `migrations.RemoveField("order", "legacy")`
)

// columns are those of the orders' table.
func (h *host) columns() string {
	h.t.Helper()
	names, err := h.SQL(h.t.Context(), testbed.PostgresDatabase, "SELECT column_name FROM information_schema.columns WHERE table_name = 'shop_order' ORDER BY 1")
	h.must(err)
	return strings.ReplaceAll(names, "\n", " ")
}

// What a failed release did to the schema decides whether there is a way back: read from its migrations, and where that
// is wanted from what the database really has.
func TestTheSchemaDecides(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.must(h.StartPostgres(h.t.Context()))
		app := []testbed.Mod{testbed.Postgres(), testbed.LogToConsole(), testbed.QueryOnHealth()}
		with := func(mods ...testbed.Mod) []testbed.Mod { return append(append([]testbed.Mod{}, app...), mods...) }
		h.migrating(`applied = "ask"`)
		h.add("v41", app...)
		h.released("v41")

		// A column that may be empty: the old code runs on.
		h.add("v42", with(orders(legacy+note), testbed.Migration("0002_note", addNote), testbed.Answer500())...)
		v := h.deploy("release", "v42")
		h.expect(v, "rolled_back", 3)
		h.live("v41")
		if v.WayBack.Verdict != "safe" || !strings.Contains(v.WayBack.Reason, "v41's code can live with: shop.0002_note") {
			h.t.Errorf("way back %+v", v.WayBack)
		}
		if got := h.columns(); got != "id legacy note number" {
			h.t.Errorf("columns %s", got)
		}

		// A column that goes, by a migration that never ran.
		drop := []testbed.Mod{orders(note), testbed.Migration("0002_note", addNote), testbed.Migration("0003_drop", dropLegacy), testbed.Answer500()}
		h.reconfigure(`"migrate", "--noinput"`, `"check"`)
		h.add("v43", with(drop...)...)
		v = h.deploy("release", "v43")
		h.expect(v, "rolled_back", 3)
		h.live("v41")
		if !strings.Contains(v.Stderr, "no way back from v43: to v41 it is blocked: v41's code can't run after v43's migrations: shop.0003_drop: RemoveField order.legacy") {
			h.t.Errorf("it was not announced: %s", v.Stderr)
		}
		h.refuses("schema", "there would be no way back from v43", "release", "v43", "--require-way-back")

		// The same, applied.
		h.reconfigure(`"check"`, `"migrate", "--noinput"`)
		h.add("v44", with(drop...)...)
		if r := h.run("marker", "v44", "--check"); r.Code != 1 || !strings.HasPrefix(r.Stdout, "blocked: from v44 back to v41: shop.0003_drop") {
			h.t.Errorf("exit %d, %s", r.Code, r.Stdout)
		}
		v = h.deploy("release", "v44")
		h.expect(v, "held", 4)
		h.linked("v44")
		h.answers(500)
		if v.WayBack.Verdict != "blocked" || !strings.Contains(v.WayBack.Reason, "shop.0003_drop: RemoveField order.legacy") {
			h.t.Errorf("way back %+v", v.WayBack)
		}
		back := "cd /srv/app/releases/v44 && /usr/bin/python3 manage.py migrate shop 0002_note"
		if advice := strings.Join(v.Failure.Advice, "\n"); !strings.Contains(advice, back) || !strings.Contains(advice, "the data is lost") {
			h.t.Errorf("the ways out are not named: %s", advice)
		}
		h.refuses("schema", "shop.0003_drop", "rollback", "v41")

		// Forced, the old code fails for real.
		v = h.deploy("rollback", "v41", "--override-marker", "to see what happens")
		if v.Code == 0 || v.Failure == nil || v.Failure.Cause != "migration_unapplied" || !strings.Contains(v.Failure.Summary, "shop_order.legacy does not exist") {
			h.t.Errorf("exit %d, failure %+v", v.Code, v.Failure)
		}

		// The way out that was named.
		h.must(h.Manage(h.t.Context(), h.site, "v44", "migrate", "shop", "0002_note").Err)
		v = h.deploy("rollback", "v41")
		if v.Code != 0 {
			h.t.Errorf("exit %d, failure %+v", v.Code, v.Failure)
		}
		h.live("v41")
	})
}

// A database that is down can't be asked: what the release says rules.
func TestADatabaseThatCannotBeAsked(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.must(h.StartPostgres(h.t.Context()))
		h.configure("deadline = \"3s\"\n[rollback]\napplied = \"ask\"")
		h.add("v1", testbed.Postgres())
		h.released("v1")
		h.add("v2", testbed.Postgres(), testbed.Migration("0002_drop", dropLegacy), testbed.Answer500())
		stopPostgres(h)
		v := h.deploy("release", "v2")
		h.expect(v, "held", 4)
		if !strings.Contains(fmt.Sprint(v.Warnings), "can't be asked") {
			h.t.Errorf("warnings %q", v.Warnings)
		}
	})
}

// A chain: releases that failed, that were never live, and that were pruned.
func TestTheWayBackAcrossSeveralReleases(t *testing.T) {
	onAHost(t, testbed.DefaultSite(), func(h *host) {
		h.migrating("")
		h.add("v41")
		h.released("v41")
		h.add("v42", testbed.Migration("0002_note", addNote), orders(legacy+note))
		h.released("v42")
		h.add("v43", testbed.Migration("0002_note", addNote), orders(legacy+note), testbed.ImportError())
		v := h.deploy("release", "v43") // failed, and brought nothing
		h.expect(v, "rolled_back", 3)
		h.add("v44", testbed.Migration("0002_note", addNote), testbed.Migration("0003_drop", dropLegacy), orders(note))
		h.add("v45", testbed.Migration("0002_note", addNote), testbed.Migration("0003_drop", dropLegacy), testbed.Migration("0004_merge"), orders(note))
		v = h.deploy("release", "v45") // v44 was never live, and its migration comes with v45
		h.expect(v, "released", 0)
		h.refuses("schema", "shop.0003_drop: RemoveField order.legacy", "rollback", "v41")
		h.refuses("schema", "shop.0003_drop: RemoveField order.legacy", "rollback", "v42")
		v = h.deploy("release", "v44") // it is older than v45, and its code knows the schema
		h.expect(v, "released", 0)
		h.live("v44")
		v = h.deploy("release", "v45")
		h.expect(v, "released", 0)
		if r := h.run("marker", "v45", "--against", "v44"); r.Code != 0 || !strings.HasPrefix(r.Stdout, "safe: ") {
			h.t.Errorf("exit %d, %s", r.Code, r.Stdout)
		}
		h.sh("rm -rf /srv/app/releases/v44 /srv/app/releases/v43")
		h.refuses("schema", "shop.0003_drop: RemoveField order.legacy", "rollback", "v42")
	})
}
