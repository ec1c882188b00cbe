package testbed

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// MissingForRecording says in one line what this machine lacks for a disk
// whose writes are recorded; "" means that nothing is.
func MissingForRecording(kinds ...string) string {
	var lacks []string
	if _, err := exec.LookPath("qemu-storage-daemon"); err != nil {
		lacks = append(lacks, "qemu-storage-daemon (apt-get install qemu-system-common)")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		lacks = append(lacks, "FUSE (modprobe fuse)")
	}
	if missing := MissingForDisk(kinds...); missing != "" {
		lacks = append(lacks, missing)
	}
	return strings.Join(lacks, ", ")
}

// Record has every write to the disk kept, in the order in which they came to
// it, from the next boot of a machine on: see [Disk.Crashes]. Only one machine
// may be booted with it.
func (d *Disk) Record() error {
	image, err := os.Open(d.image)
	if err != nil {
		return err
	}
	defer image.Close()
	start, err := os.OpenFile(d.start(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer start.Close()
	if err := copySparse(start, 0, image); err != nil {
		return err
	}
	d.log = filepath.Join(d.dir, "log")
	for _, file := range []string{d.log, d.device()} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// start is the image as it was before the first write that is recorded.
func (d *Disk) start() string { return filepath.Join(d.dir, "start") }

// device is the image seen through the program that records.
func (d *Disk) device() string { return filepath.Join(d.dir, "device") }

// record is the part of a shell script that starts the recording, and the
// device through which the disk is used. The program runs inside of the
// machine's namespaces, and in a control group that isn't its systemd's.
func (d *Disk) record() (script, device string) {
	if d.log == "" {
		return "", d.image
	}
	return fmt.Sprintf(`mkdir /sys/fs/cgroup/recorder
(
	echo 0 >/sys/fs/cgroup/recorder/cgroup.procs
	exec qemu-storage-daemon --daemonize \
		--blockdev driver=file,node-name=image,filename=%s \
		--blockdev driver=file,node-name=log,filename=%s \
		--blockdev driver=blklogwrites,node-name=recorded,file=image,log=log \
		--export type=fuse,id=device,node-name=recorded,mountpoint=%s,writable=on
)
`, d.image, d.log, d.device()), d.device()
}

// Recorded tells how much has been recorded by now.
func (d *Disk) Recorded() (int64, error) {
	info, err := os.Stat(d.log)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// write is one request to a disk.
type write struct {
	offset int64
	data   []byte
	flush  bool // of what was written before; no write itself
}

const (
	sector = 512
	block  = 4096 // what a disk writes whole or not at all
)

// readWrites returns the writes of a log in the format of the kernel's
// dm-log-writes, in order, each with where it ends in the log. The last one of
// a machine that was killed may be torn.
func readWrites(log io.Reader, each func(w write, end int64) error) error {
	// After a header of one sector each entry is a sector, of which these are
	// the first words, and its data.
	var entry struct{ Sector, Sectors, Flags, Length uint64 }
	const flush, discard = 1, 4
	header := make([]byte, sector)
	if _, err := io.ReadFull(log, header); err != nil {
		return err
	}
	for end := int64(sector); ; {
		_, err := io.ReadFull(log, header)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := binary.Read(bytes.NewReader(header), binary.LittleEndian, &entry); err != nil {
			return err
		}
		w := write{offset: int64(entry.Sector) * sector, flush: entry.Flags&flush != 0} //nolint:gosec // a disk is no larger
		if entry.Flags&discard == 0 && entry.Sectors > 0 {
			w.data = make([]byte, entry.Sectors*sector)
		}
		_, err = io.ReadFull(log, w.data)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		end += sector + int64(len(w.data))
		if err := each(w, end); err != nil {
			return err
		}
	}
}

// Crashes calls each with disks as a power cut might have left this one, at
// any moment of the recording that is wanted: with all of what had been written
// to the disk by then, and with some of what it hadn't yet been told to flush, in
// any order, of which some may be torn. at is how much had been recorded.
func (d *Disk) Crashes(ctx context.Context, random *rand.Rand, wanted func(at int64) bool, each func(crash *Disk, at int64, what string) error) error {
	log, err := os.Open(d.log)
	if err != nil {
		return err
	}
	defer log.Close()
	safe, err := os.OpenFile(d.start(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer safe.Close()
	crash := &Disk{dir: d.dir, image: filepath.Join(d.dir, "crash"), volumes: d.volumes}
	var pending []write // since the last flush; before it all is safe
	try := func(at int64, some []write) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := crash.makeFrom(safe, some); err != nil {
			return err
		}
		return each(crash, at, fmt.Sprintf("%d of %d writes since the last flush", len(some), len(pending)))
	}
	return readWrites(log, func(w write, end int64) error {
		if w.data != nil {
			if pending = append(pending, w); wanted(end) {
				return try(end, pending)
			}
		}
		if !w.flush {
			return nil
		}
		const subsets = 3
		for n := 0; n < subsets && len(pending) > 1 && wanted(end); n++ {
			if err := try(end, subset(random, pending)); err != nil {
				return err
			}
		}
		for _, w := range pending {
			if _, err := safe.WriteAt(w.data, w.offset); err != nil {
				return err
			}
		}
		pending = nil
		return nil
	})
}

// subset returns some writes, in any order, some of them torn between blocks.
func subset(random *rand.Rand, writes []write) (some []write) {
	for _, n := range random.Perm(len(writes)) {
		w := writes[n]
		switch random.IntN(4) {
		case 0, 1:
			some = append(some, w)
		case 2:
			w.data = w.data[:random.IntN(len(w.data)/block+1)*block]
			some = append(some, w)
		}
	}
	return some
}

// makeFrom makes the disk of an image and some writes.
func (d *Disk) makeFrom(image *os.File, writes []write) error {
	if err := os.Remove(d.image); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	to, err := os.OpenFile(d.image, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := to.Truncate(int64(len(d.volumes)) * volumeSize); err != nil {
		return err
	}
	if err := copySparse(to, 0, image); err != nil {
		return err
	}
	for _, w := range writes {
		if _, err := to.WriteAt(w.data, w.offset); err != nil {
			return err
		}
	}
	return nil
}
