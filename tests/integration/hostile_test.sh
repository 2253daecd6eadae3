#!/usr/bin/env bash
# A client that does everything wrong, beside one that must not notice; then a restart: all that was acked is there.
. "$(dirname "$0")/lib.sh"
seconds=${SLUICE_TEST_RANDOM_SECONDS:-4}
[ "$full" = 1 ] && seconds=60
# A sanitizer's own memory is not the broker's, and 500 MB are the bound of the default settings.
memory_kib=512000
[ -z "${SLUICE_TEST_ARGS:-}" ] || memory_kib=0
if grep -qa __asan_init "$bin/sluiced" || grep -qa __tsan_init "$bin/sluiced"; then memory_kib=0; fi

start
"$bin/sluice-hostile" "$address" attack "$broker_pid" "$memory_kib" "$seconds" ${SLUICE_TEST_SEED:+"$SLUICE_TEST_SEED"} |
  tee "$work/attack.out"
records=$(sed -n 's/^healthy records: //p' "$work/attack.out")
[ -n "$records" ] || fail "the attacks did not come to their end"
stop || fail "stop: exit $?"

# One line per offence, and not more than the rate limit lets through; nothing of the wire in it but text.
lines=$(wc -l <"$work/broker.log")
[ "$lines" -lt 2000 ] || fail "$lines lines in the broker's log"
iconv -f UTF-8 -t UTF-8 "$work/broker.log" >"$work/log.utf8" || fail "the broker's log is no text"
same "$work/broker.log" "$work/log.utf8"
if LC_ALL=C grep -nP '[\x00-\x08\x0b-\x1f\x7f]' "$work/broker.log"; then fail "control characters in the broker's log"; fi
if grep -nE ' ERROR |assertion|Sanitizer|runtime error' "$work/broker.log"; then fail "the broker was hurt"; fi

start
"$bin/sluice-hostile" "$address" verify "$records"
stop || fail "stop: exit $?"
echo "$records records acked beside the attacks, all there after a restart"
