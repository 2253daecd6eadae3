#!/usr/bin/env bash
# Transfers between two topics by workers that are killed: the sum never changes, in no cut.
. "$(dirname "$0")/lib.sh"
transfers=20000 kills=8
if [ "$full" = 1 ]; then transfers=1000000 kills=60; fi
run() { # run SHARDS TRANSFERS KILLS
  if ! "$bin/sluice-transfer" "$bin" "$work/data-$1" --transfers "$2" --kills "$3" --io "$io" --shards "$1"; then
    tail -n 40 "$work/data-$1.log"
    exit 1
  fi
}
run 3 "$transfers" "$kills"
run 1 $((transfers / 4)) $((kills / 2))
