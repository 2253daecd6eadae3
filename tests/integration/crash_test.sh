#!/usr/bin/env bash
# kill -9 in a loop under load: nothing acked is lost, doubled, or out of order.
. "$(dirname "$0")/lib.sh"
cycles=10
[ "$full" = 1 ] && cycles=50
if ! "$bin/sluice-crash-loop" "$bin" "$work/data" --cycles $cycles --io "$io"; then
  tail -n 40 "$work/data.log"
  exit 1
fi
