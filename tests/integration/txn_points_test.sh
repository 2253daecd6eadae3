#!/usr/bin/env bash
# kill -9 of the broker at each named point of the two-phase commit: all or nothing, and nothing in doubt 5 s later.
. "$(dirname "$0")/lib.sh"
hits=1
if [ "$full" = 1 ] || [ "$io" = uring ]; then hits=3; fi
if ! "$bin/sluice-txn-points" "$bin" "$work/data" --hits $hits --io "$io"; then
  tail -n 40 "$work/data.log"
  exit 1
fi
