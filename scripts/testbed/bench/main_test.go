package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	given := []string{"-deploygate", "dg", "-killat", "k"}
	o, err := parse(given)
	if err != nil || !slices.Equal(o.rates, []int{100, 500}) || len(o.contenders) != len(contenders) || len(o.releases) != len(releases) ||
		!slices.Equal(o.sockets, []bool{false, true}) || o.rounds != 3 || !o.overheads || o.suite != "bookworm" {
		t.Errorf("without flags: %+v, %v", o, err)
	}
	o, err = parse(append(given, "--quick", "--releases", "hangs,good", "--parts", "deploys", "trixie"))
	if err != nil || !slices.Equal(o.rates, []int{100}) || !slices.Equal(keys(o.releases), []string{"good", "hangs"}) || o.rounds != 1 || o.overheads || o.suite != "trixie" {
		t.Errorf("--quick: %+v, %v", o, err)
	}
	if o, err = parse(append(given, "--parts", "overheads")); err != nil || len(o.contenders) != 0 || !o.overheads {
		t.Errorf("--parts overheads: %+v, %v", o, err)
	}
	for wrong, says := range map[string]string{
		"--rates 100,7": `"7" is no multiple of 5`, "--rates x": `"x"`, "--contenders script,chef": `"chef" is not one of restart, `,
		"--releases bad": `"bad"`, "--sockets maybe": `"maybe"`, "--parts all": `"all"`, "--rounds 0": "wrong arguments", "bookworm trixie": "wrong arguments",
	} {
		if _, err := parse(append(slices.Clone(given), strings.Fields(wrong)...)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

func TestParseLogLeavesOutWhatWasBefore(t *testing.T) {
	log := `{"MESSAGE_ID":"a","UNIT":"x.service","_SOURCE_REALTIME_TIMESTAMP":"1699999999999999"}
{"MESSAGE_ID":"b","UNIT":"x.service","_SOURCE_REALTIME_TIMESTAMP":"1700000000250000"}
`
	entries, err := parseLog(log, start)
	if err != nil || len(entries) != 1 || entries[0].ID != "b" || entries[0].at().Sub(start).Milliseconds() != 250 {
		t.Errorf("%+v, %v", entries, err)
	}
	if _, err := parseLog("no JSON\n", start); err == nil {
		t.Error("what is no JSON was read")
	}
}

// What a deploy by deploygate must end as is what makes the bench fail.
func TestDiffers(t *testing.T) {
	three := 3
	good := deploy{Exit: &three, Well: true, After: state{before, []string{before}}}
	if got := good.differs(3, before); got != "" {
		t.Errorf("as it must: %s", got)
	}
	for want, change := range map[string]func(*deploy){
		"it does not end":                func(d *deploy) { d.Exit = nil },
		"exit code 3 instead of 1":       func(*deploy) {},
		"nothing runs instead of before": func(d *deploy) { d.After.Runs = nil },
		"half-deployed":                  func(d *deploy) { d.After.Link = "bad" },
		"the site does not recover":      func(d *deploy) { d.Well = false },
	} {
		d, exit := good, 3
		if change(&d); strings.HasPrefix(want, "exit") {
			exit = 1
		}
		if got := d.differs(exit, before); !strings.Contains(got, want) {
			t.Errorf("%q is not %q", got, want)
		}
	}
}
