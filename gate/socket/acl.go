package socket

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"deploygate/gate/untrusted"
)

// access is what is asked for: bits as in one class of a mode.
type access uint16

const (
	search access = 1 // x, of a directory
	write  access = 2 // w, which connect(2) asks of a socket, unix(7)
)

// The extended attribute of an access ACL is a header with a version and entries of tag, permissions and id, all
// little-endian (linux/posix_acl_xattr.h). A file whose ACL says no more than its mode has none.
const (
	aclXattr   = "system.posix_acl_access"
	aclVersion = 2
	aclHeader  = 4
	aclSize    = 8

	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	maxACL = 64 << 10 // XATTR_SIZE_MAX
)

type aclEntry struct {
	tag  uint16
	perm access
	id   int // of aclUser and aclGroup
}

// acl is an access ACL in the order in which the kernel keeps and asks it.
type acl []aclEntry

var errACL = errors.New("its ACL is not understood")

// readACL returns nil for a file without an ACL, or in a file system without them. Reading one takes no right to the
// file itself (xattr(7)).
func readACL(path string) (acl, error) {
	buf, err := untrusted.Within(path, func() ([]byte, error) {
		buf := make([]byte, 512) // almost every ACL fits
		n, err := unix.Lgetxattr(path, aclXattr, buf)
		if errors.Is(err, unix.ERANGE) {
			buf = make([]byte, maxACL)
			n, err = unix.Lgetxattr(path, aclXattr, buf)
		}
		return buf[:max(n, 0)], err
	})
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return parseACL(buf)
}

// parseACL refuses what the kernel would not evaluate either.
func parseACL(b []byte) (acl, error) {
	if len(b) < aclHeader || len(b) > maxACL || (len(b)-aclHeader)%aclSize != 0 {
		return nil, fmt.Errorf("%w: %d bytes", errACL, len(b))
	}
	if v := binary.LittleEndian.Uint32(b); v != aclVersion {
		return nil, fmt.Errorf("%w: version %d", errACL, v)
	}
	entries := make(acl, 0, (len(b)-aclHeader)/aclSize)
	for b = b[aclHeader:]; len(b) > 0; b = b[aclSize:] {
		e := aclEntry{
			tag:  binary.LittleEndian.Uint16(b),
			perm: access(binary.LittleEndian.Uint16(b[2:])),
			id:   int(binary.LittleEndian.Uint32(b[4:])),
		}
		switch e.tag {
		case aclUserObj, aclUser, aclGroupObj, aclGroup, aclMask, aclOther:
		default:
			return nil, fmt.Errorf("%w: tag %#x", errACL, e.tag)
		}
		if e.perm > 7 {
			return nil, fmt.Errorf("%w: permissions %#x", errACL, e.perm)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// permits is the access check algorithm of acl(5) for a file of this owner and group, as posix_acl_permission does it
// in the kernel: the first entry that fits decides, but of the groups the first that grants what is asked.
func (a acl) permits(owner, group int, who Identity, want access) bool {
	grouped := false
	for _, e := range a {
		switch e.tag {
		case aclUserObj:
			if who.UID == owner {
				return e.perm&want == want
			}
		case aclUser:
			if who.UID == e.id {
				return a.mask(e.perm)&want == want
			}
		case aclGroupObj, aclGroup:
			if e.tag == aclGroupObj && who.in(group) || e.tag == aclGroup && who.in(e.id) {
				grouped = true
				if e.perm&want == want {
					return a.mask(e.perm)&want == want
				}
			}
		case aclOther:
			return !grouped && e.perm&want == want
		}
	}
	return false // no entry for others: the kernel gives EIO
}

// mask limits the rights of named users and of groups.
func (a acl) mask(perm access) access {
	for _, e := range a {
		if e.tag == aclMask {
			return perm & e.perm
		}
	}
	return perm
}
