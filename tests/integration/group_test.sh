#!/usr/bin/env bash
# Consumers of one group come and go: exactly once when orderly, at least once when they and the broker are killed.
. "$(dirname "$0")/lib.sh"
seconds=4
[ "$full" = 1 ] && seconds=40
for shards in 1 3; do
  if ! "$bin/sluice-group-loop" "$bin" "$work/data-$shards" --seconds $seconds --io "$io" --shards $shards; then
    tail -n 40 "$work/data-$shards.log"
    exit 1
  fi
done
