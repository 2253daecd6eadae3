#!/usr/bin/env bash
# Transactions under kill -9 of the broker and of their clients: a history without anomalies.
. "$(dirname "$0")/lib.sh"
# Three shards and what travels between them most of the time, one shard and its shorter way once.
cycles=25
[ "$full" = 1 ] && cycles=60
loop() { # loop SHARDS CYCLES
  local data=$work/data-$1
  if ! "$bin/sluice-txn-loop" "$bin" "$data" --cycles "$2" --io "$io" --shards "$1"; then
    tail -n 40 "$data.log"
    kept=$(dirname "$work")/txn-failed
    rm -rf "$kept" && mv "$work" "$kept" && mkdir "$work" && echo "data, log and history are kept in $kept"
    exit 1
  fi
}
loop 3 "$cycles"
loop 1 $((cycles / 4))
