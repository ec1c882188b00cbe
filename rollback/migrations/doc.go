// Package migrations reads what a release's Django migrations do, and judges whether an older release's code may run on
// the schema that they leave.
//
// Read finds the migration files of a release and has a small Python program parse their text; a Reader does so for
// releases that are compared, and parses nothing where their files alone tell that nothing is new. Judge replays them as
// Django's ProjectState does, and asks of each operation that the older release does not have: do the older code's
// SELECT, INSERT, UPDATE and DELETE, through its models, still do on the new schema what they did? The rules are the
// stricter of what Django makes of an operation on PostgreSQL and on SQLite. What isn't known to be safe blocks: a field,
// an operation or an index of a class that isn't Django's own, code, SQL, an argument that isn't a constant, a file that
// isn't plainly a migration. The author's word passes all but the last.
//
// Guaranteed: nothing of the release is imported, executed or followed by a link; the texts are bounded, and are parsed
// by another process, which runs as nobody if we are root, with limits of its own; a file that it can't parse, or that
// ends it, is that migration's Problem and no other's; the same releases give the same answers.
//
// Not guaranteed, since the files don't tell:
//   - that the older code can digest what the newer one wrote: a NULL in a column that was NOT NULL, a new choice, a
//     number beyond the old type, rows without what the newer code relies on;
//   - that the database has what the migrations say: triggers, views, rules, what was changed by hand, --fake;
//   - raw SQL in the older code: INSERT without column names fails on any new column, and so may anything on a new table;
//   - MIGRATION_MODULES, database routers and swapped models: migrations count where Django looks by default, for
//     every database, with every model as it is written;
//   - apps outside of the release, which are not seen (Judgement.NotSeen names those that new migrations depend on):
//     a new version of a package there may bring migrations of its own;
//   - what Django itself writes beside the schema: the content type of a renamed model, new permissions;
//   - that an index can be built or a lock be had in time, which are matters of the migration, not of the way back;
//   - MySQL, MariaDB and Oracle, where DDL can stop half-way, and the rules were not tried.
package migrations
