#!/bin/sh
# Usage: vm.sh COMMAND...
# Runs a command of this checkout under Debian's own kernel, in a virtual machine with btrfs, XFS
# and, as /tmp, ext4: what the running kernel or container has not (shared blocks, another version)
# is there.
# The machine sees this system's files read-only under a scratch layer, and has loopback alone.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
work=$here/build/vm
mkdir -p "$work"

for program in qemu-system-x86_64 busybox mkfs.btrfs mkfs.xfs mkfs.ext4 cpio dpkg-deb modprobe; do
	PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || {
		echo "vm: $program is missing: apt-get install qemu-system-x86 busybox-static" \
			"btrfs-progs xfsprogs e2fsprogs cpio kmod" >&2
		exit 1
	}
done
if [ "$(uname -m)" != x86_64 ]; then
	echo "vm: only for x86-64" >&2
	exit 1
fi

kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
release=${kernel#linux-image-}
if [ ! -e "$work/$release/boot/vmlinuz-$release" ]; then
	echo "vm: fetching $kernel"
	(cd "$work" && apt-get -qq download "$kernel" 2>/dev/null)
	dpkg-deb -x "$work/$kernel"_*.deb "$work/$release"
	rm "$work/$kernel"_*.deb
	/sbin/depmod -b "$work/$release" "$release"
fi

# A first root with what it takes to reach the real one.
first=$work/first
rm -rf "$first"
mkdir -p "$first/bin" "$first/modules"
cp "$(command -v busybox)" "$first/bin/busybox"
for module in virtio_pci virtio_blk 9pnet_virtio 9p overlay btrfs xfs ext4 tls; do
	/sbin/modprobe -d "$work/$release" -S "$release" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r path; do
	cp "$path" "$first/modules/"
	echo "/bin/busybox insmod /modules/$(basename "$path")"
done >"$first/load"
cat >"$first/init" <<'EOF'
#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev /host /scratch /all
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
. /load
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=524288,cache=loose host /host
$b mount -t tmpfs -o size=75% scratch /scratch
$b mkdir /scratch/upper /scratch/work
$b mount -t overlay -o lowerdir=/host,upperdir=/scratch/upper,workdir=/scratch/work all /all
$b mount -t proc proc /all/proc
$b mount -t sysfs sys /all/sys
$b mount -t devtmpfs dev /all/dev
$b mkdir -p /all/dev/pts /all/dev/shm /all/mnt/btrfs /all/mnt/xfs
$b mount -t devpts devpts /all/dev/pts
$b mount -t tmpfs shm /all/dev/shm
$b mount -t tmpfs tmp /all/tmp
$b ip link set lo up
exec $b chroot /all /bin/sh /tmp/run
EOF
chmod +x "$first/init"
{
	echo 'export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root'
	echo 'mkfs.btrfs -q /dev/vda && mkfs.xfs -q /dev/vdb && mkfs.ext4 -q /dev/vdc'
	echo 'mount -t ext4 /dev/vdc /tmp && chmod 1777 /tmp'
	echo 'mount -t btrfs /dev/vda /mnt/btrfs && mount -t xfs /dev/vdb /mnt/xfs'
	echo 'export SPLICEIO_TEST_DIRS=/mnt/btrfs:/mnt/xfs'
	printf 'cd "%s"\n' "$here"
	printf '"%s" ' "$@"
	printf '\necho "vm: status $?"; sync; echo o >/proc/sysrq-trigger; sleep 60\n'
} >"$first/run"
sed -i "s|^exec |\$b cp /run /all/tmp/run\nexec |" "$first/init"
(cd "$first" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/first.gz"

truncate -s 2G "$work/btrfs.img" "$work/xfs.img" "$work/ext4.img"
accel=tcg
[ "${VM_ACCEL:-}" = kvm ] && accel=kvm
echo "vm: $release, $accel"
log=$work/console.log
timeout "${VM_TIMEOUT:-1200}" qemu-system-x86_64 -accel "$accel" -cpu max,-arch-capabilities -smp 2 -m 4G \
	-nographic -no-reboot -nic none \
	-kernel "$work/$release/boot/vmlinuz-$release" -initrd "$work/first.gz" \
	-append "console=ttyS0 quiet panic=-1" \
	-virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
	-drive "file=$work/btrfs.img,if=virtio,format=raw,cache=unsafe" \
	-drive "file=$work/xfs.img,if=virtio,format=raw,cache=unsafe" \
	-drive "file=$work/ext4.img,if=virtio,format=raw,cache=unsafe" </dev/null | tee "$log"
rm -f "$work/btrfs.img" "$work/xfs.img" "$work/ext4.img"
status=$(tr -d '\r' <"$log" | sed -n 's/^vm: status //p')
exit "${status:-1}"
