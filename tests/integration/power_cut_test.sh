#!/usr/bin/env bash
# Power cuts: the file system under the data directory is shut down without flushing, again and again.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" -eq 0 ] || skip "power cuts need root for loop devices"
image=$work/image mount_point=$work/mount loop_device=""
cleanup_more() {
  umount "$mount_point" 2>/dev/null
  [ -n "$loop_device" ] && losetup -d "$loop_device"
}
cycles=10 size=700M
if [ "$full" = 1 ]; then cycles=100 size=8G; fi # about 20 MB of records a cycle
truncate -s $size "$image"
mkfs.ext4 -q -F "$image"
loop_device=$(losetup --show -f "$image" 2>/dev/null) || { loop_device=""; skip "no loop devices here"; }
mkdir "$mount_point"
mount "$loop_device" "$mount_point" || skip "can't mount a loop device here"
if ! "$bin/sluice-crash-loop" "$bin" "$mount_point/data" --cycles $cycles --io "$io" \
  --power-cut "$mount_point" "$loop_device"; then
  tail -n 40 "$mount_point.log"
  exit 1
fi
