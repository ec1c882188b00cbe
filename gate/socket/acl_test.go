package socket

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// noID is what entries without an id have in theirs.
const noID = 0xffffffff

// pack is the ACL as setxattr(2) takes it.
func pack(a acl) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, uint16(e.perm))
		b = binary.LittleEndian.AppendUint32(b, uint32(e.id)) //nolint:gosec // 32 bits wide in the kernel too
	}
	return b
}

// setACL skips the test where the file system has no ACLs.
func setACL(t *testing.T, path string, a acl) {
	t.Helper()
	err := unix.Lsetxattr(path, aclXattr, pack(a), 0)
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("the file system has no ACLs")
	}
	if err != nil {
		t.Fatal(path, a, err)
	}
}

// The table of acl(5)'s access check algorithm.
func TestACL(t *testing.T) {
	a := acl{
		{aclUserObj, 7, noID},
		{aclUser, 6, 100},
		{aclUser, 0, 101},
		{aclGroupObj, 1, noID},
		{aclGroup, 2, 200},
		{aclGroup, 7, 201},
		{aclMask, 3, noID},
		{aclOther, 4, noID},
	}
	const owner, group = 1000, 1000
	for _, test := range []struct {
		name string
		who  Identity
		want access // of all rights, those that are granted one by one
	}{
		{"the owner is not masked", Identity{UID: owner, GID: 1}, 7},
		{"a named user is masked", Identity{UID: 100, GID: 1}, 2},
		{"a named user's entry comes before the groups'", Identity{UID: 101, GID: group, Groups: []int{201}}, 0},
		{"the owning group", Identity{UID: 1, GID: group}, 1},
		{"a named group", Identity{UID: 1, GID: 1, Groups: []int{200}}, 2},
		{"a named group is masked", Identity{UID: 1, GID: 201}, 3},
		{"any of the groups will do", Identity{UID: 1, GID: group, Groups: []int{200}}, 3},
		{"one in a group is not one of the others", Identity{UID: 1, GID: 200}, 2},
		{"others are not masked", Identity{UID: 1, GID: 1}, 4},
	} {
		var got access
		for _, right := range []access{1, 2, 4} {
			if a.permits(owner, group, test.who, right) {
				got |= right
			}
		}
		if got != test.want {
			t.Errorf("%s: got %o, want %o", test.name, got, test.want)
		}
	}
	if (acl{{aclUserObj, 7, noID}}).permits(owner, group, Identity{UID: 1}, search) {
		t.Error("an ACL without an entry for others grants something")
	}
}

func TestReadACL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := readACL(file); a != nil || err != nil {
		t.Error(a, err)
	}
	want := acl{
		{aclUserObj, 6, noID},
		{aclUser, 6, 33},
		{aclGroupObj, 4, noID},
		{aclMask, 6, noID},
		{aclOther, 0, noID},
	}
	setACL(t, file, want)
	if got, err := readACL(file); err != nil || string(pack(got)) != string(pack(want)) {
		t.Errorf("got %v and %v, want %v", got, err, want)
	}
}

func FuzzParseACL(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(pack(nil))
	f.Add(pack(acl{{aclUserObj, 7, noID}, {aclUser, 6, 33}, {aclMask, 7, noID}, {aclOther, 0, noID}}))
	f.Add(pack(acl{{0x40, 7, noID}}))
	f.Add(pack(acl{{aclOther, 8, noID}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseACL(b)
		if err != nil {
			if !errors.Is(err, errACL) {
				t.Error(err)
			}
			return
		}
		if string(pack(a)) != string(b) {
			t.Errorf("%x is not what %v means", b, a)
		}
		a.permits(1, 1, Identity{UID: 33, GID: 33}, search)
	})
}
