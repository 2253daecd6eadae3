#!/usr/bin/env bash
# A full disk: producers get a retriable error, consumers go on, and writing resumes when there is room.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" -eq 0 ] || skip "needs root for loop devices"
image=$work/image mount_point=$work/mount loop_device=""
cleanup_more() {
  umount "$mount_point" 2>/dev/null
  [ -n "$loop_device" ] && losetup -d "$loop_device"
}
truncate -s 300M "$image"
mkfs.ext4 -q -F -m 0 "$image"
loop_device=$(losetup --show -f "$image" 2>/dev/null) || { loop_device=""; skip "no loop devices here"; }
mkdir "$mount_point"
mount "$loop_device" "$mount_point" || skip "can't mount a loop device here"

data=$mount_point/data
start --set segment_bytes=4MiB --set batch_bytes_max=1MiB --set wal_bytes_budget=32MiB
ctl topic create orders >/dev/null
seq 1 1000 | ctl produce orders | grep -q '^1000 records acked$'

# Somebody else fills the disk to the last block.
dd if=/dev/zero of="$mount_point/filler" bs=1M 2>/dev/null || true
for _ in $(seq 100); do
  ctl status >"$work/out" 2>&1 || break
  sleep 0.1
done
expect_exit 1 ctl status
expect_text "$work/err" 'full'

# Producing is refused with a retriable error (the client waits and tries again), consuming goes on.
seq 1001 2000 >"$work/more"
ctl produce orders --file "$work/more" >"$work/produced" 2>&1 &
producer=$!
sleep 1
kill -0 $producer || { cat "$work/produced"; fail "the producer gave up while the disk was full"; }
ctl consume orders --from beginning --until-end >"$work/read"
seq 1 1000 >"$work/expected"
same "$work/expected" "$work/read"

# A restart on a full disk works, too.
kill9
start --set segment_bytes=4MiB --set batch_bytes_max=1MiB --set wal_bytes_budget=32MiB
ctl consume orders --from beginning --until-end >"$work/read"
same "$work/expected" "$work/read"

rm "$mount_point/filler"
wait $producer || { cat "$work/produced"; fail "the producer did not get through after there was room"; }
ctl consume orders --from beginning --until-end >"$work/read"
seq 1 2000 >"$work/expected"
same "$work/expected" "$work/read"
stop || fail "stop: exit $?"
echo "a full disk costs nothing but time"
