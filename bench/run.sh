#!/usr/bin/env bash
# Starts a broker of its own, measures it and the machine's bare limits, prints one table.
#   run.sh BIN_DIR [--seconds S] [--quick] [--out DIR]
# JSON of each run: DIR/NAME.json, default build/bench. The broker has one core (which it pins to processor 0), a full set
# of prepared log files, and topics that expire within the log's budget.
# Exit: 0 measured, 1 a run failed, 2 usage.
set -euo pipefail
cd "$(dirname "$0")/.."

. bench/options.sh
. bench/broker.sh

out=build/bench seconds=5 warm_up=2 wal_set=1GiB quick=
take_options "seconds quick- out" "$@"
[ -z "$quick" ] || seconds=1 warm_up=0.5 wal_set=256MiB
failed=0
trap 'stop_broker || true; rm -rf "$work"' EXIT

# ---- measuring ----

# measure NAME COMMAND [OPTION...]
measure() {
  local name=$1 command=$2
  shift 2
  wait_for_spares
  echo "== $name: sluice-bench $command $*"
  rm -f "$out/$name.json"
  watched "$bin/sluice-bench" "$command" --server "$server" --duration "$seconds" --warm-up "$warm_up" --label "$name" \
    --output "$out/$name.json" "$@" >"$work/out" 2>&1 || failed=1
  sed 's/^/   /' "$work/out"
  [ -s "$out/$name.json" ] || { echo "run.sh: $name was not measured" >&2; exit 1; }
}

# number NAME KEY [SCALE [DECIMALS]]: a figure, or - where it is null
number() {
  sed -nE "s/.*\"$2\": ([^,}]+).*/\1/p" "$out/$1.json" | head -n 1 |
    awk -v scale="${3:-1}" -v decimals="${4:-1}" \
      '{print ($1 == "null" ? "-" : sprintf("%.*f", decimals, $1 / scale))}'
}
row() { # row NAME TEXT
  local mark=
  grep -q '"anomalies": \[\]' "$out/$1.json" || mark='  FAILED'
  printf '%-34s %8s %12s %9s %11s %11s%s\n' "$2" "$(number "$1" bytes_per_s 1e9 3)" \
    "$(number "$1" records_per_s 1e3 0)" "$(number "$1" fraction 0.01)" "$(number "$1" p50)" "$(number "$1" p99)" "$mark"
}

start_broker "$work/data"
around=(--limits-dir "$work" --wal-set "$wal_set")
echo "== limits"
watched "$bin/sluice-bench" limits "${around[@]}" --duration 2 --output "$out/limits.json" >"$work/out"
sed 's/^/   /' "$work/out"
measure publish-1k publish --rate max --topic b1k --partitions 4 --producers 2 --record-size 1KiB --batch-size 256KiB "${around[@]}"
measure publish-100 publish --rate max --topic b100 --partitions 4 --producers 2 --record-size 100 --batch-size 256KiB "${around[@]}"
measure publish-100-own publish --rate max --topic own --partitions 16 --producers 16 --record-size 100 --own-request "${around[@]}"
measure publish-lone publish --topic lone --lone --record-size 1KiB
"$bin/sluicectl" --server "$server" topic create kept --partitions 4 --set retention_bytes=none >/dev/null
measure fill publish --topic kept --partitions 4 --producers 2 --record-size 1KiB --rate 300000
measure consume-first consume --topic kept --duration 60 --warm-up 0 "${around[@]}"
measure consume-again consume --topic kept --duration 60 --warm-up 0 "${around[@]}"
measure txn-1 transactions --rate max --topic txn1 --producers 1 "${around[@]}"
measure txn-64 transactions --rate max --topic txn64 --partitions 4 --producers 64 --clients 4 "${around[@]}"
measure claim claim open-transaction --topic claim --partitions 4 --duration "$(times 4 "$seconds")"
rss=$(awk '/^VmHWM/ {printf "%.0f", $2 / 1024}' "/proc/$broker_pid/status")

printf '\n%-34s %8s %12s %9s %11s %11s\n' "" GB/s "1000 rec/s" "% of pipe" "p50 us" "p99 us"
row publish-1k "publish 1 KiB in 256 KiB batches"
row publish-100 "publish 100 B in 256 KiB batches"
row publish-100-own "publish 100 B, own requests"
row publish-lone "publish 1 KiB, one at a time"
row consume-first "consume 1 KiB, first time"
row consume-again "consume 1 KiB, again"
printf 'commits: %s/s with 1 producer, p50 %s p99 %s us; %s/s with 64, p50 %s p99 %s us\n' \
  "$(number txn-1 commits_per_s 1 0)" "$(number txn-1 p50)" "$(number txn-1 p99)" \
  "$(number txn-64 commits_per_s 1 0)" "$(number txn-64 p50)" "$(number txn-64 p99)"
printf 'a transaction held open: commits of others p99 %s us without, %s us with\n' \
  "$(number claim commit_p99_without_us)" "$(number claim commit_p99_with_us)"
printf 'bare: socket %s GB/s, log %s, pipeline %s; 4 KiB write+fdatasync p50 %s p99 %s us, round trip p50 %s p99 %s us\n' \
  "$(number limits socket_bytes_per_s 1e9 2)" "$(number limits wal_bytes_per_s 1e9 2)" \
  "$(number limits pipeline_bytes_per_s 1e9 2)" "$(number limits write_sync_p50)" "$(number limits write_sync_p99)" \
  "$(number limits round_trip_p50)" "$(number limits round_trip_p99)"
printf 'broker: RSS at most %s MiB\n' "$rss"
for file in "$out"/publish-*.json "$out"/consume-*.json "$out"/txn-*.json "$out"/claim.json; do
  sed -n '/"anomalies": \[$/,/\]/{//!p}' "$file" | sed "s/^ */ANOMALY $(basename "$file" .json): /"
done
exit $failed
