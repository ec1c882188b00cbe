package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Disk keeps what a machine writes, so that a machine that is booted with it
// again finds it as it was left: by [Machine.Close] whole, by
// [Machine.CutPower] without what the kernel hadn't written. One machine at a
// time uses it. Its file systems are mounted in the machine's own mount
// namespace, so that nothing of it stays behind.
type Disk struct {
	dir     string // of its own
	image   string // the file that is the disk
	volumes []Volume
	log     string // of all writes; "" if there is none
}

// Volume is one file system of a disk.
type Volume struct {
	Kind  string   // ext4, xfs or btrfs
	Guest string   // where a machine sees it; "" for the first, which has all that it writes elsewhere
	Make  []string // further arguments for mkfs
}

const (
	writtenLayer = "written" // in the first volume: what overlays the root
	volumeSize   = 4 << 30   // sparse: what isn't written takes no room
)

// mountOptions make a file system write as late as it can. By default ext4
// writes a file that is renamed over another one at once, and everything after
// 5 s.
var mountOptions = map[string]string{
	"ext4":  "commit=600,noauto_da_alloc",
	"xfs":   "defaults",
	"btrfs": "commit=600",
}

// makeOptions make a file system quickly.
var makeOptions = map[string][]string{
	"ext4":  {"-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"},
	"xfs":   {"-q", "-f", "-K"},
	"btrfs": {"-q", "-f", "-K"},
}

// MissingForDisk says in one line what this machine lacks for disks of these
// kinds of file system; "" means that nothing is.
func MissingForDisk(kinds ...string) string {
	var lacks []string
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		lacks = append(lacks, "loop devices (modprobe loop)")
	}
	for _, kind := range kinds {
		if _, err := exec.LookPath("mkfs." + kind); err != nil {
			lacks = append(lacks, "mkfs."+kind+" (apt-get install e2fsprogs xfsprogs btrfs-progs)")
		}
		if !inKernel(kind) {
			lacks = append(lacks, kind+" in the kernel")
		}
	}
	if len(lacks) == 0 {
		return ""
	}
	return "a disk whose power can be cut needs " + strings.Join(lacks, ", ")
}

// inKernel reports whether the kernel has a kind of file system, or can load it.
func inKernel(kind string) bool {
	known := func() bool {
		kinds, err := os.ReadFile("/proc/filesystems")
		return err == nil && slices.Contains(strings.Fields(string(kinds)), kind)
	}
	return known() || exec.Command("modprobe", kind).Run() == nil && known() //nolint:noctx // it is short
}

// NewDisk makes a disk in the empty directory dir.
func NewDisk(ctx context.Context, dir string, volumes ...Volume) (*Disk, error) {
	d := &Disk{dir: dir, image: filepath.Join(dir, "image"), volumes: volumes}
	if err := d.make(ctx); err != nil {
		return nil, fmt.Errorf("cannot make a disk: %w", err)
	}
	return d, nil
}

func (d *Disk) make(ctx context.Context) error {
	image, err := os.OpenFile(d.image, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer image.Close()
	if err := image.Truncate(int64(len(d.volumes)) * volumeSize); err != nil {
		return err
	}
	if err := os.Mkdir(d.root(), 0o755); err != nil {
		return err
	}
	for n, v := range d.volumes {
		if err := os.Mkdir(d.mountPoint(n), 0o755); err != nil {
			return err
		}
		if err := makeFileSystem(ctx, image, n, v); err != nil {
			return err
		}
	}
	return nil
}

// makeFileSystem makes the n-th file system of an image, in a file of its own
// first: not every mkfs can make one in the middle of a file.
func makeFileSystem(ctx context.Context, image *os.File, n int, v Volume) error {
	alone, err := os.CreateTemp(filepath.Dir(image.Name()), "mkfs-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(alone.Name()) }() // its directory goes with the disk
	defer alone.Close()
	if err := alone.Truncate(volumeSize); err != nil {
		return err
	}
	args := append(slices.Concat(makeOptions[v.Kind], v.Make), alone.Name())
	if out, err := exec.CommandContext(ctx, "mkfs."+v.Kind, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.%s: %w: %s", v.Kind, err, lastLines(string(out), 3))
	}
	return copySparse(image, int64(n)*volumeSize, alone)
}

// copySparse copies a file into another one, at an offset, but for its holes.
func copySparse(to *os.File, offset int64, from *os.File) error {
	for at := int64(0); ; {
		data, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // the rest is a hole
		}
		if err != nil {
			return err
		}
		hole, err := unix.Seek(int(from.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(to, offset+data), io.NewSectionReader(from, data, hole-data)); err != nil {
			return err
		}
		at = hole
	}
}

// root is where the machine's root file system is put together.
func (d *Disk) root() string { return filepath.Join(d.dir, "root") }

func (d *Disk) mountPoint(n int) string { return filepath.Join(d.dir, fmt.Sprintf("volume%d", n)) }

// mounts is the part of a shell script that mounts the disk over root.
func (d *Disk) mounts(root string) string {
	script, device := d.record()
	for n := range d.volumes {
		script += "mount " + strings.Join(d.mountArgs(n, device), " ") + "\n"
	}
	first := d.mountPoint(0)
	return script + fmt.Sprintf("mkdir -p %[1]s/%[2]s %[1]s/work\n"+
		"mount -t overlay -o lowerdir=%[3]s,upperdir=%[1]s/%[2]s,workdir=%[1]s/work overlay %[4]s\n", first, writtenLayer, root, d.root())
}

// mountArgs are mount(8)'s for the n-th volume of what is on a device.
func (d *Disk) mountArgs(n int, device string) []string {
	v := d.volumes[n]
	options := fmt.Sprintf("loop,offset=%d,sizelimit=%d,%s", int64(n)*volumeSize, int64(volumeSize), mountOptions[v.Kind])
	return []string{"-t", v.Kind, "-o", options, device, d.mountPoint(n)}
}

// binds are the file systems that a machine sees beside its root.
func (d *Disk) binds() (args []string) {
	for n, v := range d.volumes {
		if n > 0 {
			args = append(args, "--bind="+d.mountPoint(n)+":"+v.Guest)
		}
	}
	return args
}

// Look mounts the disk, which no machine may be using, and calls look with a
// function that tells where a path of the machine is, if it was ever written.
// The file systems are mounted in the namespace of one thread, until look ends.
func (d *Disk) Look(ctx context.Context, look func(path func(guest string) string) error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		done <- d.look(ctx, look)
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("cannot look at the disk: %w", err)
	}
	return d.released(ctx)
}

func (d *Disk) look(ctx context.Context, look func(path func(guest string) string) error) (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	mounted := 0
	defer func() {
		for n := range mounted {
			// A process that is being forked may still have a file of it open; released waits for that.
			err = errors.Join(err, unix.Unmount(d.mountPoint(n), unix.MNT_DETACH))
		}
	}()
	for n, v := range d.volumes {
		if out, err := exec.CommandContext(ctx, "mount", d.mountArgs(n, d.image)...).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot mount its %s: %w: %s", v.Kind, err, lastLines(string(out), 3))
		}
		mounted++
	}
	thread := fmt.Sprintf("/proc/self/task/%d/root", unix.Gettid()) // the way there for all other threads
	return look(func(guest string) string { return thread + d.where(guest) })
}

// where tells where a path of the machine is on the mounted disk.
func (d *Disk) where(guest string) string {
	for n, v := range d.volumes {
		if below, is := strings.CutPrefix(guest, v.Guest); n > 0 && is && (below == "" || below[0] == '/') {
			return d.mountPoint(n) + below
		}
	}
	return filepath.Join(d.mountPoint(0), writtenLayer, guest)
}

// released waits until no loop device has the disk's image: a file system that
// is mounted twice is destroyed.
func (d *Disk) released(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return poll(ctx, 2*time.Millisecond, func() (bool, error) {
		files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
		if err != nil {
			return false, err
		}
		for _, file := range files {
			name, err := os.ReadFile(file)
			switch {
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV): // it has just been released
			case err != nil:
				return false, err
			case strings.HasPrefix(string(name), d.dir+"/"):
				return false, nil
			}
		}
		return true, nil
	})
}

// onVolumes calls do with a descriptor of each of the disk's file systems, as
// the machine has them mounted.
func (m *Machine) onVolumes(do func(fd int) error) error {
	if m.disk == nil {
		return errors.New("the machine has no disk")
	}
	nspawn, err := child(m.cmd.Process.Pid)
	if err != nil {
		return err
	}
	for n, v := range m.disk.volumes {
		dir, err := os.Open(fmt.Sprintf("/proc/%d/root%s", nspawn, m.disk.mountPoint(n)))
		if err != nil {
			return err
		}
		err = do(int(dir.Fd()))
		dir.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", v.Kind, err)
		}
	}
	return nil
}

// Sync writes all that the machine has written to its disk.
func (m *Machine) Sync() error {
	if err := m.onVolumes(unix.Syncfs); err != nil {
		return fmt.Errorf("cannot write the disk: %w", err)
	}
	return nil
}

// CutPower ends the machine as a power cut does: its disk keeps what has been
// written to it, and what the kernel still had in memory is lost. The kernel
// can do that for ext4 and xfs.
func (m *Machine) CutPower() error {
	const (
		shutdown   = 0x8004587d // FS_IOC_SHUTDOWN
		noLogFlush = 2          // not even the file system's own journal is written
	)
	err := m.onVolumes(func(fd int) error { return unix.IoctlSetPointerInt(fd, shutdown, noLogFlush) })
	if err != nil {
		err = fmt.Errorf("cannot cut the power: %w", err)
	}
	return errors.Join(err, m.Close())
}
