# Sourced by the other scripts: what they need of this machine, and how they get it.

# fail ends the script with one line that says why, and what helps.
fail() {
	echo "$(basename "$0"): $*" >&2
	exit 1
}

# help prints the comment at the start of the script, if that is what its arguments ask for.
help() {
	case " $* " in
	*' -h '* | *' --help '*)
		sed -n '2,/^[^#]/s/^# //p' "$0"
		exit 0
		;;
	esac
}

# need_go finds a Go that can build this module. Go needs a home for its caches, which cron and some CI systems don't
# set, and sudo leaves out the directory that Go's own archive is unpacked to.
need_go() {
	if [ -z "${HOME:-}" ]; then
		HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
		export HOME
	fi
	export PATH="$PATH:/usr/local/go/bin"
	local want problem
	want=$(sed -n 's/^go //p' go.mod)
	command -v go >/dev/null ||
		fail "Go is missing: install $want or later from https://go.dev/dl/ (Debian's own is older)"
	problem=$(go list -m 2>&1) ||
		fail "Go $want or later is needed, from https://go.dev/dl/: $(tail -n 1 <<<"$problem")"
	# A checkout may belong to someone else, in a CI container for one, and git then refuses to tell Go its commit.
	export GOFLAGS="${GOFLAGS:-} -buildvcs=false"
}

# host_packages names the Debian packages that a testbed lacks here.
host_packages() {
	command -v systemd-nspawn >/dev/null || echo systemd-container
	command -v mmdebstrap >/dev/null || echo mmdebstrap
	command -v mount >/dev/null || echo mount
	command -v unshare >/dev/null || echo util-linux
	command -v mkfs.ext4 >/dev/null || echo e2fsprogs
	# Ubuntu doesn't trust Debian's archive by itself; mmdebstrap sees to it with these.
	if [ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then
		echo debian-archive-keyring
		command -v gpg >/dev/null || echo gpg
	fi
}

# disk_packages names those that the soak's disks lack beyond that.
disk_packages() {
	command -v mkfs.xfs >/dev/null || echo xfsprogs
	command -v mkfs.btrfs >/dev/null || echo btrfs-progs
	# Which of two packages has it depends on the release of Debian.
	command -v qemu-storage-daemon >/dev/null || echo qemu-utils qemu-system-common
}

# install_packages installs Debian packages and says which came with them. They stay.
install_packages() {
	[ $# -gt 0 ] || return 0
	command -v apt-get >/dev/null || fail "this is no Debian or Ubuntu: install what provides $* by hand"
	[ "$(id -u)" = 0 ] || fail "not root: run it with sudo, or have root run: apt-get install $*"
	echo "installing $*"
	local before log
	before=$(dpkg-query -W -f '${Package}\n' | sort)
	log=$(mktemp)
	if ! { apt-get update -q && apt-get install -y -q --no-install-recommends "$@"; } \
		>"$log" 2>&1 </dev/null; then
		tail -n 20 "$log" >&2
		rm "$log"
		fail "apt-get cannot install $*"
	fi
	rm "$log"
	installed=$(dpkg-query -W -f '${Package}\n' | sort | comm -13 <(echo "$before") - | xargs)
	echo "apt installed, and they stay: $installed"
}
