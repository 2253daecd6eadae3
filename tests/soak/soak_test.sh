#!/usr/bin/env bash
# A short soak: power cuts on each file system, then one episode of each kind of fault alone.
. "$(dirname "$0")/../integration/lib.sh"
left_out=0 ran=0 seed=0 # each soak has a seed of its own: with it change backend, shards and place
soak() { # soak ARGUMENT...
  local status=0
  seed=$((seed + 1))
  "$bin/sluice-soak" "$bin" "$work" --seed $seed "$@" >"$work/out" 2>&1 || status=$?
  grep -E '^(ok|skip|FAIL|FAILED)' "$work/out" || true
  case $status in
  0) ran=$((ran + 1)) ;;
  77) left_out=$((left_out + 1)); echo "left out: $*: $(tail -n 1 "$work/out")" ;;
  *)
    cat "$work/out"
    kept=$(dirname "$work")/soak-failed
    rm -rf "$kept" && mv "$work" "$kept" && mkdir "$work" && echo "store, log and history are kept in $kept"
    exit 1
    ;;
  esac
}
cuts=10
[ "$full" = 1 ] && cuts=100
for place in ext4 xfs fuse; do
  soak --only power-cut --cycles $cuts --place $place
done
soak --only kill --cycles $cuts
for fault in term stop client-kill disk-full storm slowloris not-reading memory cpu disk-error disk-delay; do
  soak --only $fault --episodes 1
done
if [ $ran = 0 ]; then skip "nothing of it can be done here"; fi
echo "$ran soaks without an anomaly, $left_out left out"
