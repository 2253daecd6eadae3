#!/usr/bin/env bash
# Consume, transform, produce, exactly once: two transfer programs of one group move records from topic to topic while
# they and the broker are killed again and again. In the end each record has arrived once, and in order within its partition.
. "$(dirname "$0")/lib.sh"
records=60000
rounds=8
if [ "$full" = 1 ]; then records=400000; rounds=40; fi
transfer=$bin/../examples/transfer
[ -x "$transfer" ] || skip "no examples were built"

start --set shards=3
ctl topic create from --partitions 6 >/dev/null
ctl topic create to --partitions 6 >/dev/null

movers=()
mover() { # mover N SECONDS
  "$transfer" "mover-$1" movers from to "$2" >>"$work/mover-$1" 2>&1 & movers[$1]=$!
}
cleanup_more() { kill -9 "${movers[@]}" 2>/dev/null; }

# Input comes all the while, each record with a key, so that its order can be told.
feed() {
  for part in $(seq 0 9); do
    seq $((part * records / 10 + 1)) $(((part + 1) * records / 10)) |
      awk '{ print "k" $1 % 97 "=line " $1 }' |
      ctl produce from --key-separator = >/dev/null || return 1
    sleep 0.3
  done
}
feed & feeder=$!
mover 1 600
mover 2 600
for round in $(seq "$rounds"); do
  sleep "0.$((RANDOM % 8 + 2))"
  case $((round % 4)) in
  0) kill9; start ;;
  1 | 3) kill -9 "${movers[1]}"; wait "${movers[1]}" 2>/dev/null || true; mover 1 600 ;;
  2) kill -9 "${movers[2]}"; wait "${movers[2]}" 2>/dev/null || true; mover 2 600 ;;
  esac
done
wait $feeder || fail "publishing failed"

# All has been moved when the group has read everything.
moved() {
  ctl group describe movers | awk -F'\t' '$1 == "from" { n++; lag += $5 } END { exit !(n == 6 && lag == 0) }'
}
for _ in $(seq 600); do moved && break; sleep 0.1; done
moved || { ctl group describe movers; tail -n 5 "$work"/mover-*; fail "not everything was moved within 60 s"; }
for n in 1 2; do
  kill -0 "${movers[n]}" 2>/dev/null || { cat "$work/mover-$n"; fail "mover $n has ended"; }
  kill -TERM "${movers[n]}"
  wait "${movers[n]}" || { cat "$work/mover-$n"; fail "mover $n: exit $?"; }
done

ctl consume to --from beginning --until-end --format '%k %v\n' >"$work/arrived"
seq "$records" | awk '{ print "k" $1 % 97 " LINE " $1 }' | sort >"$work/expected"
sort "$work/arrived" >"$work/sorted"
same "$work/expected" "$work/sorted"
awk '$3 <= last[$1] { print "after " last[$1] " of " $1 ": " $3; exit 1 } { last[$1] = $3 }' "$work/arrived" ||
  fail "the order of a key's records is not kept"
[ "$(ctl txn list | awk '$2 != "empty"' | wc -l)" -eq 0 ] || fail "transactions are left open"
stop || fail "stop: exit $?"
echo "$records records moved once, in order, over $rounds kills"
