#!/usr/bin/env bash
# What rates and latencies depend on: sizes of records, producers, cores, I/O backends, compression, readers, load. One table for each.
#   survey.sh BIN_DIR [--seconds S] [--repeat N] [--out DIR] [--only SECTION,...]
# Sections: records compression producers cores io readers consume sustained small load. DIR (build/bench/survey) gets a JSON and a page for each
# row, and table.md. Exit: 0 measured, 1 a run failed or had an anomaly, 2 usage.
set -uo pipefail
cd "$(dirname "$0")/.."

. bench/options.sh
. bench/broker.sh

choices="records compression producers cores io readers consume sustained small load"
seconds=4 repeat=3 out=build/bench/survey only=
take_options "seconds repeat out only" "$@"
trap 'stop_broker; rm -rf "$work"' EXIT
failed=0 section= rows=()

# begin SECTION [OPTION of sluiced...]: false when it is not wanted; else a new broker
begin() {
  section=$1 rows=()
  shift
  is_wanted "$section" || return 1
  echo "== $section"
  fresh_broker "$@"
}

fresh_broker() {
  stop_broker
  rm -rf "$work/data"
  start_broker "$work/data" "$@" || exit 1
  wait_for_spares
}

# measure ROW TITLE COMMAND [OPTION...]: a row of the section's table. A row whose broker waited for log files is no result.
measure() {
  local row=$section-$1 title=$2 command=$3 rc=0
  shift 3
  rows+=("$out/$row.json")
  rm -f "$out/$row.json"
  wait_for_spares
  watched "$bin/sluice-bench" "$command" --server "$server" --topic "$row" --data-dir "$work/data" --label "$title" --warm-up 1 --duration "$seconds" \
    --output "$out/$row.json" --html "$out/$row.html" "$@" >"$work/out" 2>&1 || rc=$?
  printf '   %-40s %s\n' "$title" "$(sed -n 's/^rate *//p' "$work/out" | tail -n 1)"
  "$bin/sluicectl" --server "$server" topic delete "$row" >/dev/null 2>&1 # else what is kept of it holds log files of the next row
  [ $rc -eq 0 ] || { failed=1; grep -E 'ANOMALY|sluice-bench:' "$work/out" | sed 's/^/      /'; }
}
limits=(--limits-dir "$work" --wal-set 512MiB)
top=(publish --rate max --partitions 4 --producers 2 --batch-size 256KiB --repeat "$repeat")

# table TITLE
table() {
  local there=() row
  for row in "${rows[@]}"; do [ -s "$row" ] && there+=("$row"); done
  { echo "### $1"; echo; "$bin/sluice-bench" table "${there[@]}"; echo; } >"$out/$section.md"
}

if begin records; then
  for size in 16 100 1KiB 64KiB 1MiB; do
    batch=256KiB
    [ $size = 1MiB ] && batch=2MiB
    measure $size "records of $size" "${top[@]}" --record-size $size --batch-size $batch "${limits[@]}"
  done
  measure 100-many "records of 100, 64 in a call" "${top[@]}" --record-size 100 --send-many 64 "${limits[@]}"
  table "Size of records, top rate"
fi

if begin compression; then
  for codec in none lz4; do
    measure $codec "lines of a log, 1 KiB, $codec" "${top[@]}" --compressible --compression $codec
  done
  table "Compression (by the client; the broker stores what it gets)"
fi

if begin producers; then
  for count in 1 4 64 1000; do # together they may have as much on the way: else it is their own queue that is measured
    measure "$count" "$count producers" "${top[@]}" --producers $count --clients $((count < 4 ? 1 : 4)) --buffer $((count < 64 ? 8192 : count < 128 ? 1024 : 512))KiB
  done
  table "Producers, 1 KiB records, top rate"
fi

if begin cores; then
  for cores in 1 2 4; do
    fresh_broker --cores $cores
    measure top-$cores "$cores cores, top rate" "${top[@]}" --clients 2
    measure lone-$cores "$cores cores, one at a time" publish --lone --repeat "$repeat"
  done
  table "Cores of the broker (one shard; this machine has $(nproc) processors)"
fi

if begin io; then
  for io in uring epoll; do
    fresh_broker --io $io
    measure top-$io "$io, 1 KiB, top rate" "${top[@]}" "${limits[@]}"
    measure small-$io "$io, 100 B, top rate" "${top[@]}" --record-size 100 "${limits[@]}"
    measure lone-$io "$io, one at a time" publish --lone --repeat "$repeat" "${limits[@]}"
  done
  table "How the kernel is asked for I/O"
fi

if begin readers; then
  for count in 1 4 16; do # at rates that all of them can follow: what is older than 64 MiB goes
    measure "$count" "$count consumers of what is published" end-to-end --partitions 4 --producers 2 --consumers $count --rate $((640000 / count)) --repeat "$repeat"
  done
  table "Publishing and reading at once (rate: what is published; each consumer gets all of it)"
fi

if begin consume --set retention_bytes=none; then
  measure fill "(published before)" publish --partitions 4 --producers 2 --rate 400000 --duration 8 --topic kept
  measure cold "from a cold disk" consume --topic kept --cold "${limits[@]}"
  measure cached "from the page cache" consume --topic kept "${limits[@]}"
  measure cached-4 "from the page cache, 4 consumers (rate: of all)" consume --topic kept --consumers 4 "${limits[@]}"
  table "Catching up"
fi

if begin sustained --set retention_bytes=none; then
  measure sustained "1 KiB, what is older is moved to the archive meanwhile" publish --sustained --rate max --partitions 4 --producers 2 --warm-up 10 --duration "$(times 5 "$seconds")" "${limits[@]}"
  table "For as long as the disk has room"
fi

if begin small; then
  measure own-4 "100 B, own request, 16 producers, 16 partitions" publish --rate max --partitions 16 --producers 16 --record-size 100 --own-request --repeat "$repeat"
  measure own-64 "100 B, own request, 64 producers, 64 partitions" publish --rate max --retention 16MiB --partitions 64 --producers 64 --record-size 100 --own-request --clients 2 --repeat "$repeat"
  table "Each record a batch and a request of its own"
fi

if begin load; then
  measure sweep "1 KiB, latency against load" sweep --partitions 4 --producers 2 --p99 5ms --steps 8
  measure lone "1 KiB, one at a time" publish --lone --repeat "$repeat" "${limits[@]}"
  table "Latency against load"
  jq -r '"| records/s offered | p50 us | p99 us | p99.9 us |", "|---|---|---|---|",
    (.curve | sort_by(.offered_per_s)[] | select(.p50_us) | "| \(.offered_per_s | round) | \(.p50_us | round) | \(.p99_us | round) | \(.p99_9_us | round) |")' "$out/load-sweep.json" >>"$out/load.md"
fi

for name in $choices; do
  is_wanted "$name" && [ -f "$out/$name.md" ] && cat "$out/$name.md" && echo
done >"$out/table.md"
cat "$out/table.md"
exit $failed
