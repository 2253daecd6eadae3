#!/usr/bin/env bash
# sluice-bench as a script uses it: each command once, briefly; exit codes, JSON, the page. No figure is judged.
# backends: any
. "$(dirname "$0")/lib.sh"
bench=$bin/sluice-bench

# value FILE PYTHON: an expression of the result `r` is true
value() { python3 -c "import json, sys; r = json.load(open('$1')); sys.exit(0 if ($2) else 1)" || fail "$1: not $2: $(cat "$1")"; }

start --cores 1
quick=(--server "$address" --duration 0.5 --warm-up 0.1)

echo "publish: open loop, repeats, page"
"$bench" publish "${quick[@]}" --topic a --partitions 3 --producers 3 --rate 2000 --arrivals poisson --repeat 3 --label "a run" \
  --data-dir "$work/data" --output "$work/publish.json" --html "$work/publish.html" >"$work/out"
value "$work/publish.json" "not r['failed'] and r['anomalies'] == [] and r['command'] == 'publish' and r['driver'] == 'sluice'"
value "$work/publish.json" "len(r['repeats']) == 3 and r['latency_from'] == 'due' and r['latency_us']['samples'] > 1000 and len(r['series']) >= 15"
value "$work/publish.json" "r['broker']['fdatasyncs'] > 0 and r['durability']['ack_means'] == 'fdatasync' and {'name': 'durability', 'value': 'sync', 'fetched': True} in r['durability']['facts'] and r['settings']['partitions'] == 3"
value "$work/publish.json" "r['spread']['p99_us']['min'] <= r['latency_us']['p99'] <= r['spread']['p99_us']['max']"
grep -q '"label":"a run"' "$work/publish.html" || fail "the page does not hold the result"
expect_text "$work/out" "an ack is   fdatasync"

echo "publish: closed loops"
"$bench" publish "${quick[@]}" --topic b --closed-loop 8 --producers 2 --output - >"$work/closed.json"
value "$work/closed.json" "r['latency_from'] == 'send' and r['records'] > 0 and r['failed'] is False"
"$bench" publish "${quick[@]}" --topic b --lone --output "$work/lone.json" >"$work/out"
value "$work/lone.json" "r['settings']['closed_loop'] == 1 and r['latency_us']['samples'] > 0"

echo "consume what publish left; and the cold way"
"$bench" consume --server "$address" --topic a --consumers 2 --output "$work/consume.json" >"$work/out"
value "$work/consume.json" "r['failed'] is False and r['records'] > 4000 and r['latency_us']['p50'] is None"
"$bench" consume --server "$address" --topic a --cold --data-dir "$work/data" >"$work/out"
expect_exit 1 "$bench" consume --server "$address" --topic empty
expect_exit 2 "$bench" consume --server "$address" --cold

echo "end to end"
"$bench" end-to-end "${quick[@]}" --topic c --partitions 2 --producers 2 --consumers 3 --rate 2000 --output "$work/e2e.json" >"$work/out"
value "$work/e2e.json" "r['failed'] is False and r['delivery_us']['samples'] == 3 * r['latency_us']['samples']"

echo "sweep" # at its top rate a young store may wait for log files, which is an anomaly
"$bench" sweep "${quick[@]}" --topic d --partitions 4 --steps 3 --p99 1 --output "$work/sweep.json" >"$work/out" || [ $? = 1 ]
value "$work/sweep.json" "len(r['curve']) >= 3 and r['highest_rate']['p99_limit_us'] == 1e6"

echo "compare"
"$bench" compare "$work/publish.json" "$work/publish.json" >"$work/out"
expect_exit 2 "$bench" compare "$work/publish.json" "$work/e2e.json"

echo "limits, micro-benchmarks"
"$bench" limits --limits-dir "$work" --wal-set 128MiB --duration 0.1 --warm-up 0 --output "$work/limits.json" >"$work/out"
value "$work/limits.json" "r['limits']['pipeline_bytes_per_s'] > 0 and r['records'] is None"
"$bin/sluice-micro" --json --seconds 0.05 --dir "$work" >"$work/micro"
[ "$(wc -l <"$work/micro")" -ge 20 ] || fail "cases are missing: $(cat "$work/micro")"
[ -z "$(ls -d "$work"/sluice-micro-* 2>/dev/null)" ] || fail "sluice-micro has left files"
expect_exit 2 "$bin/sluice-micro" no-such-case

echo "claims, whether they hold or not"
"$bench" claim cold-start --data-dir "$work" --repeat 2 --io "$io" --output "$work/claim.json" >"$work/out"
value "$work/claim.json" "r['claim']['name'] == 'cold-start' and r['claim']['empty_ms']['min'] > 0 and r['failed'] is False"
"$bench" claim recovery --data-dir "$work" --repeat 1 --fill 20MiB --partitions 20 --io "$io" --output "$work/claim.json" >"$work/out" || [ $? = 1 ]
value "$work/claim.json" "r['claim']['acked'] == r['claim']['stored'] > 20000"
"$bench" claim idle-connections --data-dir "$work" --idle 100 --duration 0.2 --warm-up 0.1 --io "$io" --output "$work/claim.json" >"$work/out"
value "$work/claim.json" "r['claim']['connections'] == 100 and r['claim']['lost'] == 0"
[ -z "$(ls -d "$work"/sluice-bench-* 2>/dev/null)" ] || fail "a claim has left its store"
expect_exit 2 "$bench" claim nothing

echo "no broker"
stop
expect_exit 1 "$bench" publish --server "$address" --topic a --duration 1
