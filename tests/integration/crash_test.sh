#!/usr/bin/env bash
# kill -9 in a loop under load: nothing acked is lost, doubled, or out of order.
. "$(dirname "$0")/lib.sh"
# Once with one shard, once with three and what travels between their cores.
cycles=10
[ "$full" = 1 ] && cycles=50
for shards in 1 3; do
  if ! "$bin/sluice-crash-loop" "$bin" "$work/data-$shards" --cycles $cycles --io "$io" --shards $shards; then
    tail -n 40 "$work/data-$shards.log"
    exit 1
  fi
done
