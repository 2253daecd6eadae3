#!/usr/bin/env bash
# Checks txn.pml with spin: every state of some configurations, then every mutation, which has to be found.
#   txn.sh [--full]     exit 0 as expected, 1 not, 77 without spin or a compiler
set -euo pipefail
cd "$(dirname "$0")"
full=0
[ "${1:-}" = --full ] && full=1
for tool in spin gcc; do
  command -v "$tool" >/dev/null || { echo "no $tool here"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=$PWD/txn.pml

# check NAME OPTIMIZATION DEFINITION...: runs the verifier in a directory of its own; its output is in $work/NAME/out.
check() {
  local name=$1 optimization=$2
  shift 2
  cd "$work/$name"
  cp "$model" .
  spin -a "$@" txn.pml >spin.log 2>&1 || { cat spin.log; return 1; }
  gcc "$optimization" -w -DSAFETY -DCOLLAPSE -DVECTORSZ=512 -DMEMLIM=7500 -o pan pan.c
  ./pan -m5000000 -w"$((full ? 24 : 22))" >out 2>&1 || true
}
states() { sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p' out | head -n 1; }
seconds() { sed -nE 's/^pan: elapsed time ([0-9.e+-]+).*/\1/p' out | head -n 1; }
saw_all() { grep -q 'errors: 0' out && ! grep -qE 'max search depth|out of memory|memory limit|truncated' out; }

# job KIND NAME DEFINITION...: one on each processor, large ones alone; results are shown at the end, in order.
names=()
at_once=$(nproc)
[ "$full" = 1 ] && at_once=1 # each may take 8 GiB
job() {
  local kind=$1 name=$2
  shift 2
  mkdir "$work/$name"
  names+=("$name")
  while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do wait -n || true; done
  ("$kind" "$name" "$@") >"$work/$name.result" 2>&1 &
}

# No state breaks the protocol, and all of them were seen.
holds() {
  local name=$1
  check "$name" "${optimize:--O0}" "${@:2}"
  if saw_all; then
    echo "ok    $name: $(states) states, $(seconds) s   (${*:2})"
    return
  fi
  echo "FAIL  $name   (${*:2})"
  grep -E '^pan:|errors:|depth|memory' out || true
  [ ! -f txn.pml.trail ] || spin -t -p "${@:2}" txn.pml 2>/dev/null | tail -n 60 || true
}
# finds MUTATION PROPERTY DEFINITION...: the mistake shows, and as what it is.
finds() {
  local property=$2
  check "$1" -O0 "-D$1" "${@:3}"
  if grep -q "^pan:1: assertion violated (*$property\\b" out; then
    echo "ok    $1 is found after $(states) states: not $property"
  else
    echo "FAIL  $1 was not found by $property   (${*:3})"; grep '^pan:1' out || tail -n 5 out
  fi
}
# It does not, for the reason in README.md.
survives() {
  check "$1" -O0 "-D$1" "${@:2}"
  if saw_all; then
    echo "ok    $1 survives $(states) states"
  else
    echo "FAIL  $1 is found, README.md says that it is not   (${*:2})"
  fi
}

one=-DTRANSACTIONS=1
lean=(-DLOG_ENTRIES=0 -DTIDY)
side=("${lean[@]}" -DSIDE_BY_SIDE -DFIRST=6 -DSECOND=6)
job holds all_well $one
job holds prepares $one -DPREPARES -DFEW
job holds careless $one -DCARELESS -DFEW
job holds stop $one -DSTOPS=1 -DFEW -DLOG_ENTRIES=1
job holds loss $one -DLOSSES=1 -DFEW
job holds two -DFEW
job holds two_crash "${lean[@]}" -DFIRST=2 -DSECOND=6 -DCRASHES=1
job holds two_lean_duplicate "${lean[@]}" -DFIRST=6 -DSECOND=6 -DDUPLICATES=1
if [ "$full" = 1 ]; then
  optimize=-O2
  job holds prepares_full $one -DPREPARES
  job holds careless_full $one -DCARELESS
  job holds duplicate $one -DDUPLICATES=1
  job holds crash $one -DCRASHES=1
  job holds stop_full $one -DSTOPS=1
  job holds stop_twice $one -DSTOPS=2 -DFEW -DLOG_ENTRIES=1
  job holds prepares_stop $one -DPREPARES -DSTOPS=1 -DFEW -DLOG_ENTRIES=1
  job holds crash_loss $one -DCRASHES=1 -DLOSSES=1 -DFEW -DLOG_ENTRIES=1
  job holds crash_duplicate $one -DCRASHES=1 -DDUPLICATES=1 -DFEW -DLOG_ENTRIES=1
  job holds two_full -DTRANSACTIONS=2
  job holds two_duplicate -DFEW -DDUPLICATES=1
  job holds two_stop -DFEW -DSTOPS=1 -DLOG_ENTRIES=1
  job holds two_crash_full "${lean[@]}" -DFIRST=6 -DSECOND=6 -DCRASHES=1
  job holds two_crash_duplicate "${lean[@]}" -DFIRST=6 -DSECOND=6 -DCRASHES=1 -DDUPLICATES=1
  job holds two_crash_duplicate_one "${lean[@]}" -DFIRST=2 -DSECOND=6 -DCRASHES=1 -DDUPLICATES=1
  job holds two_crash_duplicate_here "${lean[@]}" -DFIRST=3 -DSECOND=3 -DCRASHES=1 -DDUPLICATES=1
  job holds side_by_side "${side[@]}"
  job holds side_by_side_duplicate "${side[@]}" -DSTEADY -DDUPLICATES=1
  job holds side_by_side_crash "${side[@]}" -DSTEADY -DCRASHES=1
fi

stop=("${lean[@]}" $one -DSTOPS=1)
job finds M_VOTE_BEFORE_DURABLE nothing_in_doubt "${stop[@]}"
job finds M_TOLD_BEFORE_DURABLE all_or_nothing "${stop[@]}"
job finds M_DONE_BEFORE_DURABLE committed_is_kept "${stop[@]}"
job finds M_ANSWERED_AT_DECISION committed_is_kept "${stop[@]}"
job finds M_LAST_EARLY committed_is_kept "${stop[@]}"
job finds M_END_EARLY committed_is_kept "${stop[@]}"
job finds M_PRESUMES_UNDECIDED committed_is_kept "${stop[@]}"
job finds M_COMMITS_ALONE as_decided "${stop[@]}"
job finds M_ABORTS_ALONE decision_stands "${stop[@]}"
job finds M_VOTES_MISSING committed_is_kept "${lean[@]}" $one
job finds M_NO_IS_YES nothing_in_doubt "${lean[@]}" $one -DCARELESS
job finds M_UNNAMED_SHARD as_named "${lean[@]}" $one -DCARELESS
job finds M_ACK_BEFORE_JOIN all_or_nothing "${stop[@]}"
job finds M_JOIN_UNKNOWN nothing_in_doubt "${stop[@]}"
job finds M_NO_NAME committed_is_kept -DLOG_ENTRIES=0 -DFEW -DDUPLICATES=1
job finds M_DEADLINE_OF_DECIDED decision_stands "${lean[@]}" $one
job finds M_DEADLINE_OF_PREPARED prepared_waits "${lean[@]}" $one -DPREPARES
job finds M_OLD_DECISION as_decided "${lean[@]}" -DSTEADY -DFIRST=2 -DSECOND=6 -DCRASHES=1 -DDUPLICATES=1
job finds M_LAST_OUTCOME committed_is_kept "${lean[@]}" -DFIRST=2 -DSECOND=3 -DCRASHES=1
job survives M_COMMITS_UNVOTED $one -DCARELESS -DFEW
wait
for name in "${names[@]}"; do cat "$work/$name.result"; done
wrong=$(cat "$work"/*.result | grep -c '^FAIL' || true)
right=$(cat "$work"/*.result | grep -c '^ok' || true)
echo "$right right, $wrong wrong"
[ "$wrong" -eq 0 ] && [ "$right" -eq "${#names[@]}" ]
