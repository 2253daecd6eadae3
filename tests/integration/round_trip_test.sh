#!/usr/bin/env bash
# Publish, consume, kill -9, restart, consume again: the same bytes each time.
. "$(dirname "$0")/lib.sh"
start

ctl topic create orders --partitions 4 >/dev/null
seq 1 20000 | awk '{print "key" $1 % 37 "|record number " $1}' >"$work/input"
ctl produce orders --file "$work/input" --key-separator '|' >"$work/out"
expect_text "$work/out" '^20000 records acked$'

ctl consume orders --from beginning --until-end --format '%k|%v\n' >"$work/output"
sort "$work/input" >"$work/input.sorted"
sort "$work/output" >"$work/output.sorted"
same "$work/input.sorted" "$work/output.sorted"
# In order per key.
for key in key0 key17 key36; do
  grep "^$key|" "$work/input" >"$work/a"
  grep "^$key|" "$work/output" >"$work/b"
  same "$work/a" "$work/b"
done

kill9
start
ctl consume orders --from beginning --until-end --format '%k|%v\n' | sort >"$work/again.sorted"
same "$work/input.sorted" "$work/again.sorted"

# Binary values, larger than a buffer, compressed and not.
head -c 900000 /dev/urandom >"$work/blob"
{ printf '\x00\x0d\xbb\xa0'; cat "$work/blob"; } >"$work/framed"
ctl topic create blobs >/dev/null
for codec in none lz4; do
  ctl produce blobs --file "$work/framed" --framing length --compression $codec >/dev/null
done
ctl consume blobs --from beginning --until-end --framing length >"$work/framed.out"
cat "$work/framed" "$work/framed" >"$work/framed.expected"
same "$work/framed.expected" "$work/framed.out"

# Each offset once, dense, in order.
ctl consume orders --from beginning --until-end --partition 2 --format '%o\n' >"$work/offsets"
count=$(wc -l <"$work/offsets")
seq 0 $((count - 1)) >"$work/dense"
same "$work/dense" "$work/offsets"

# By offset, by count, by time.
ctl consume orders --from 5 --partition 2 --count 3 --format '%o\n' >"$work/some"
printf '5\n6\n7\n' >"$work/expected"
same "$work/expected" "$work/some"
now=$(date +%s%3N)
sleep 0.05
printf 'late\n' | ctl produce orders --partition 1 >/dev/null
ctl consume orders --from "@$now" --until-end >"$work/late"
printf 'late\n' >"$work/expected"
same "$work/expected" "$work/late"

stop || fail "SIGTERM: exit $?"
start
expect_text "$work/broker.log" 'clean'
stop || fail "second stop"
echo "round trips are identical"
