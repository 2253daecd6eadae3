#!/usr/bin/env bash
# Injected faults over a real broker: no ack after a failure, it ends at once and says why, and everything acked is there afterwards.
# "At once" is a second without what this machine stands still; --seconds-max is with it.
# The short form is a sample of the indices; ./dev sweep does all of them.
. "$(dirname "$0")/lib.sh"
sweep() { "$bin/sluice-fault-sweep" "$bin" "$work" --io "$io" --seconds-max 5 "$@" | grep -v '^history:'; }
flushes=6 others=1
[ "$full" = 1 ] && flushes=60 others=8
sweep --point io_fdatasync --indices $((flushes / 3)) --last 20
sweep --point io_fdatasync --indices $flushes --first 24
sweep --point io_write --indices $((others + 1)) --actions EIO --first 300 --last 600 # behind the zeros of the spares
sweep --point io_rename --indices $((others + 1)) --actions EIO --first 4 --last 30
for point in io_short_write io_short_read; do # this one and all behind it, those of the start as well
  sweep --point $point --indices $others --actions EIO --sticky --first 1 --last 30
done
for point in segment_prepare checkpoint_rename io_read io_open; do
  sweep --point $point --indices $others --actions EIO --first 6 --last 30
done
