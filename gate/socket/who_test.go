package socket

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"os/user"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOfProcess(t *testing.T) {
	got, err := OfProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(groups)
	slices.Sort(got.Groups)
	want := Identity{userName(os.Geteuid()), os.Geteuid(), os.Getegid(), groups}
	if !slices.Equal(got.Groups, groups) || got.UID != want.UID || got.GID != want.GID || got.Name != want.Name {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := OfProcess(math.MaxInt32); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a process that doesn't exist:", err)
	}
}

func TestParseStatus(t *testing.T) {
	got, err := parseStatus("Name:\tUid: 5\nUid:\t1\t2\t3\t4294967294\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nNoNewPrivs:\t0\n")
	if diff := cmp.Diff(Identity{UID: 4294967294, GID: 8, Groups: []int{9, 10}}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, bad := range []string{
		"", "Uid:\t1\t2\t3\t4\n", "Uid:\t1\t2\t3\n", "Uid:\t1\t2\t3\tx\n", "Uid:\t1\t2\t3\t-4\n", "Groups:\t4294967296\n",
		"Uid:\t1\t2\t3\t4\nGid:\t\n",
	} {
		if got, err := parseStatus(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
	many := "Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t" + strings.Repeat("4294967290 ", 65536) + "\n"
	if got, err := parseStatus(many); len(got.Groups) != 65536 || len(many) > maxStatus || err != nil {
		t.Error(len(got.Groups), err)
	}
}

func TestOfUser(t *testing.T) {
	got, err := OfUser("root")
	if err != nil || got.Name != "root" || got.UID != 0 || got.GID != 0 {
		t.Error(got, err)
	}
	_, err = OfUser("no such user")
	if _, is := errors.AsType[user.UnknownUserError](err); !is {
		t.Error(err)
	}
	if got := (Identity{UID: 7}).String(); got != "user 7" {
		t.Error(got)
	}
}
