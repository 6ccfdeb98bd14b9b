#!/bin/sh
# Usage: vm.sh [--suite NAME] COMMAND...
# Runs a command of this checkout under Debian's own kernel, in a virtual machine: for what the
# running kernel or container has not (kernel TLS, shared blocks, another version).
#
# Without --suite the machine sees this system's files, read-only under a scratch layer, and has the
# kernel of its Debian. With one, as in `--suite trixie python3 -m pytest …`, it has that Debian's
# files, kernel, Python and OpenSSL, made by debootstrap (as root, once, in the cache of the user,
# or VM_CACHE), and this checkout at its usual place.
#
# There are loopback, btrfs and XFS (SPLICEIO_TEST_DIRS), ext4 as /tmp; the kernel loads modules by
# itself. VM_ACCEL=kvm where there is KVM; VM_TIMEOUT, in seconds.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
cache=${VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spliceio/vm}
PATH=$PATH:/usr/sbin:/sbin
suite=
if [ "${1:-}" = --suite ]; then
	suite=$2
	shift 2
fi

fail() {
	echo "vm: $*" >&2
	exit 1
}

# need PROGRAM PACKAGE: or say what to install.
need() {
	command -v "$1" >/dev/null || fail "$1 is missing: apt-get install $2"
}

[ "$(uname -m)" = x86_64 ] || fail "only for x86-64"
need qemu-system-x86_64 qemu-system-x86
need busybox busybox-static
need cpio cpio
need modprobe kmod
need mkfs.ext4 e2fsprogs
mkdir -p "$here/build" "$cache"
work=$(mktemp -d "$here/build/vm.XXXXXX") # each machine has its own
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# ---- the system, and its kernel: $root, $boot/vmlinuz-$release, $modules/lib/modules/$release ----

if [ "$suite" ]; then
	root=$cache/$suite
	if [ ! -e "$root" ]; then
		need debootstrap debootstrap
		[ "$(id -u)" = 0 ] || fail "only root can make $suite with debootstrap"
		echo "vm: making $suite with debootstrap in $root"
		rm -rf "$root.new"
		debootstrap --variant=minbase --include=python3,openssl,kmod,linux-image-amd64 \
			"$suite" "$root.new" >"$work/debootstrap.log" 2>&1 ||
			fail "debootstrap failed: $(tail -n 1 "$work/debootstrap.log")"
		# What the tests need besides Python, for its version.
		version=$(chroot "$root.new" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
		(cd "$here" && .venv/bin/python -m pip install --quiet --target "$root.new/opt/python" \
			--only-binary=:all: --implementation cp --python-version "$version" \
			cffi --group test) || fail "the test tools could not be had: run it by make vm"
		mv "$root.new" "$root"
	fi
	release=$(basename "$(echo "$root"/boot/vmlinuz-*)" | sed 's/^vmlinuz-//')
	tree=$root
else
	root=/
	need mkfs.btrfs btrfs-progs
	need mkfs.xfs xfsprogs
	kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
	release=${kernel#linux-image-}
	[ "$release" ] || fail "apt knows no kernel: apt-get update"
	tree=$cache/$release
	if [ ! -e "$tree" ]; then
		echo "vm: fetching $kernel"
		rm -rf "$tree.new"
		mkdir "$tree.new"
		(cd "$tree.new" && apt-get -qq download "$kernel" 2>/dev/null) || fail "no $kernel"
		dpkg-deb -x "$tree.new/$kernel"_*.deb "$tree.new"
		rm "$tree.new/$kernel"_*.deb
		depmod -b "$tree.new" "$release"
		mv "$tree.new" "$tree"
	fi
fi

# ---- a first root, with what it takes to reach the real one --------------------------------------

first=$work/first
mkdir -p "$first/bin" "$first/modules"
cp "$(command -v busybox)" "$first/bin/busybox"
for module in virtio_pci virtio_blk 9pnet_virtio 9p overlay; do
	modprobe -d "$tree" -S "$release" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
	cp "$path" "$first/modules/"
	echo "/bin/busybox insmod /modules/$(basename "$path")"
done >"$first/load"
cat >"$first/init" <<'EOF_INIT'
#!/bin/busybox sh
b=/bin/busybox
share() {
	$b mkdir -p "$2"
	$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=524288,cache=loose "$1" "$2"
}
$b mkdir -p /proc /sys /dev /scratch /all
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
. /load
share root /root
$b mount -t tmpfs -o size=75% scratch /scratch
$b mkdir /scratch/upper /scratch/work
$b mount -t overlay -o lowerdir=/root,upperdir=/scratch/upper,workdir=/scratch/work all /all
share modules /all/lib/modules
$b mount -t proc proc /all/proc
$b mount -t sysfs sys /all/sys
$b mount -t devtmpfs dev /all/dev
$b mkdir -p /all/dev/pts /all/dev/shm /all/mnt/btrfs /all/mnt/xfs
$b mount -t devpts devpts /all/dev/pts
$b mount -t tmpfs shm /all/dev/shm
$b mount -t tmpfs tmp /all/tmp
$b ip link set lo up
. /more
$b cp /run /all/tmp/run
exec $b chroot /all /bin/sh /tmp/run
EOF_INIT
chmod +x "$first/init"
: >"$first/more"
{
	echo 'export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root SPLICEIO_VM=1'
	echo 'mkfs.ext4 -q /dev/vda && mount -t ext4 /dev/vda /tmp && chmod 1777 /tmp'
	if [ "$suite" ]; then
		echo "share checkout '/all$here'" >"$first/more"
		echo "export PYTHONPATH='$here:/opt/python' PYTHONDONTWRITEBYTECODE=1"
	else
		echo 'mkfs.btrfs -q /dev/vdb && mount -t btrfs /dev/vdb /mnt/btrfs'
		echo 'mkfs.xfs -q /dev/vdc && mount -t xfs /dev/vdc /mnt/xfs'
		echo 'export SPLICEIO_TEST_DIRS=/mnt/btrfs:/mnt/xfs'
	fi
	printf 'cd "%s"\n' "$here"
	printf "'%s' " "$@"
	printf '\necho "vm: status $?"; sync; echo o >/proc/sysrq-trigger; while :; do :; done\n'
} >"$first/run"
(cd "$first" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/first.gz"

# ---- the machine ---------------------------------------------------------------------------------

folder() {
	echo "-virtfs local,path=$1,mount_tag=$2,security_model=none,readonly=on,multidevs=remap"
}
disks=
for disk in ext4 btrfs xfs; do
	truncate -s 2G "$work/$disk.img"
	disks="$disks -drive file=$work/$disk.img,if=virtio,format=raw,cache=unsafe"
done
accel=tcg
[ "${VM_ACCEL:-}" = kvm ] && accel=kvm
echo "vm: $release, $accel"
log=$work/console.log
# shellcheck disable=SC2046,SC2086
timeout "${VM_TIMEOUT:-1200}" qemu-system-x86_64 -accel "$accel" -cpu max,-arch-capabilities -smp 2 -m 4G \
	-nographic -no-reboot -nic none \
	-kernel "$tree/boot/vmlinuz-$release" -initrd "$work/first.gz" \
	-append "console=ttyS0 quiet panic=-1" \
	$(folder "$root" root) $(folder "$tree/lib/modules" modules) $(folder "$here" checkout) \
	$disks </dev/null | tee "$log"
status=$(tr -d '\r' <"$log" | sed -n 's/^vm: status //p')
exit "${status:-1}"
