package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestArea(t *testing.T) {
	for _, c := range []struct {
		name     string
		failures []int
		want     string
	}{
		{"nothing failed", []int{0, 0, 0}, ""},
		{"one bucket in full, then nothing", []int{0, 10, 0}, "M10.55 100V85.00H11.10V100Z"},
		{"half, full, and more than there can be", []int{5, 10, 12}, "M10.00 100V92.50H10.55V85.00H11.10V85.00H11.65V100Z"},
		{"two apart", []int{10, 0, 10}, "M10.00 100V85.00H10.55V100ZM11.10 100V85.00H11.65V100Z"},
	} {
		if got := area(c.failures, 100, 10, 100); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func TestPictureIsWellFormedAndShowsWhatWasMeasured(t *testing.T) {
	exit := 3
	r := results{Deploys: []deploy{
		{Contender: "deploygate", Release: "import-error", Rate: 100, Failed: 17, Failures: []int{10, 7}, Exit: &exit, Seconds: 4, Watched: 6, Well: true, After: state{before, []string{before}}},
		{Contender: "script", Release: "import-error", Rate: 100, Failed: 23, Failures: []int{10, 10, 3}, Watched: 60, After: state{"import-error", nil}},
		{Contender: "script", Release: "killed", Rate: 100, Exit: &exit, Watched: 15, Well: true, After: state{"killed", []string{before}}},
		{Contender: "script", Release: "import-error", Rate: 500, Failed: 99, Exit: &exit},
	}}
	picture := r.picture(100)
	for decoder := xml.NewDecoder(strings.NewReader(picture)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{">17<", ">23, still trying<", ">0, half-deployed<", ">the usual script<", "it can&#39;t import a module", "prefers-color-scheme: dark"} {
		if !strings.Contains(picture, want) {
			t.Errorf("%s is not in the picture", want)
		}
	}
	for _, not := range []string{">99", "<script", "href"} {
		if strings.Contains(picture, not) {
			t.Errorf("%s is in the picture", not)
		}
	}
}

func TestMiddle(t *testing.T) {
	if middle(nil) != nil {
		t.Error("the middle of nothing")
	}
	if got := middle([]deploy{{Failed: 9}, {Failed: 1}, {Failed: 4}, {Failed: 7}}); got.Failed != 4 {
		t.Errorf("got %d", got.Failed)
	}
}
