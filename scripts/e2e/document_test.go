package e2e

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of the documents that the tests prove")

// tableRow is a row of a document's table. One that isn't whole was not run, or not on every suite.
type tableRow struct {
	text  string
	whole bool
}

// document holds the table of a document against what was seen. What was not run is taken as it stands there. With -update the
// table is written.
func document(t *testing.T, file string, rows []tableRow) {
	t.Helper()
	file = filepath.Join("../..", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin := strings.Index(string(text), "\n| ") + 1
	table := strings.Split(strings.TrimSuffix(string(text)[begin:], "\n"), "\n")
	stands := map[string]string{} // by the first cell
	for _, line := range table[2:] {
		stands[firstCell(line)] = line
	}
	var lines []string
	for _, r := range rows {
		key := firstCell(r.text)
		line, known := stands[key]
		delete(stands, key)
		switch {
		case !known && !*update:
			t.Errorf("%s has no row for %s; -update writes it", file, key)
		case r.whole && line != r.text && !*update:
			t.Errorf("%s says\n%s\nand it was\n%s\n-update writes it", file, line, r.text)
		}
		if r.whole || !known {
			line = r.text
		}
		lines = append(lines, line)
	}
	for key := range stands {
		if !*update {
			t.Errorf("%s has a row for %s, which no test proves", file, key)
		}
	}
	if *update {
		all := strings.Join(slices.Concat(table[:2], lines), "\n") + "\n"
		if err := os.WriteFile(file, []byte(string(text)[:begin]+all), 0o644); err != nil {
			t.Error(err)
		}
	}
}

func firstCell(line string) string {
	cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
	return cell
}
