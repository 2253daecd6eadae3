#!/usr/bin/env bash
# sluice-bench as a script uses it: each command once, briefly; exit codes, JSON, the page. No figure is judged.
# backends: any
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/bench_lib.sh"
bench=$bin/sluice-bench

start --cores 1
quick=(--server "$address" --duration 0.5 --warm-up 0.1)

echo "publish: open loop, repeats, page"
"$bench" publish "${quick[@]}" --topic a --partitions 3 --producers 3 --rate 2000 --arrivals poisson --repeat 3 --label "a run" \
  --data-dir "$work/data" --output "$work/publish.json" --html "$work/publish.html" >"$work/out"
says "$work/publish.json" '.failed == false and .anomalies == [] and .command == "publish" and .driver == "sluice"'
says "$work/publish.json" '(.repeats | length) == 3 and .latency_from == "due" and .latency_us.samples > 1000 and (.series | length) >= 15'
says "$work/publish.json" '.broker.fdatasyncs > 0 and .durability.ack_means == "fdatasync" and (.durability.facts | any(. == {name: "durability", value: "sync", fetched: true})) and .settings.partitions == 3'
says "$work/publish.json" '.ratios.device_bytes_source == (if .disk.write_bytes == null then "log" else "device" end) and (.durability.facts | any(. == {name: "cores", value: "1", fetched: true})) and (.durability.facts | any(.name == "io" and (.value == "uring" or .value == "epoll")))'
says "$work/publish.json" '.spread.p99_us.min <= .latency_us.p99 and .latency_us.p99 <= .spread.p99_us.max'
grep -q '"label":"a run"' "$work/publish.html" || fail "the page does not hold the result"
expect_text "$work/out" "an ack is   fdatasync"

echo "publish: closed loops"
"$bench" publish "${quick[@]}" --topic b --closed-loop 8 --producers 2 --output - >"$work/closed.json"
says "$work/closed.json" '.latency_from == "send" and .records > 0 and .failed == false'
"$bench" publish "${quick[@]}" --topic b --lone --output "$work/lone.json" >"$work/out"
says "$work/lone.json" '.settings.closed_loop == 1 and .latency_us.samples > 0'

echo "consume what publish left; and the cold way"
"$bench" consume --server "$address" --topic a --consumers 2 --clients 2 --output "$work/consume.json" >"$work/out"
says "$work/consume.json" '.failed == false and .records > 4000 and .latency_us.p50 == null and .spread.p50_us == null and .spread.p99_us == null'
"$bench" consume --server "$address" --topic a --cold --data-dir "$work/data" >"$work/out"
expect_exit 1 "$bench" consume --server "$address" --topic empty
expect_exit 2 "$bench" consume --server "$address" --cold

echo "end to end"
"$bench" end-to-end "${quick[@]}" --topic c --partitions 2 --producers 2 --consumers 3 --rate 2000 --output "$work/e2e.json" >"$work/out"
says "$work/e2e.json" '.failed == false and .delivery_us.samples == 3 * .latency_us.samples'

echo "transactions: a rate that leaves room, one that does not, as many as go"
"$bench" transactions "${quick[@]}" --topic t --partitions 2 --producers 4 --records 3 --rate 40 --arrivals poisson --repeat 2 --data-dir "$work/data" --output "$work/txn.json" >"$work/out"
says "$work/txn.json" '.failed == false and .latency_from == "due" and .transactions.commits > 10 and .latency_us.samples > 10 and (.repeats | length) == 2'
says "$work/txn.json" '.schedule_slip_us.samples >= .latency_us.samples and .client.cpu_s > 0 and .ratios.client_cpu_ns_per_record > 0 and (.disk | has("writes")) and (.percentiles_us | length) > 5 and (.series | length) >= 10'
expect_exit 1 "$bench" transactions --server "$address" --duration 0.5 --warm-up 0 --topic t --producers 2 --rate 20000 --output "$work/txn.json"
says "$work/txn.json" '.anomalies | any(test("transactions were due and never sent"))'
says "$work/txn.json" '.latency_us.p99 == null or .latency_us.p99 > 1e5' # it waits for all that were due before; on a slow disk none gets its turn
"$bench" transactions "${quick[@]}" --topic t --producers 2 --rate max --aborts 50 --output "$work/txn.json" >"$work/out"
says "$work/txn.json" '.latency_from == "commit" and .transactions.aborts > 0 and .records == .transactions.commits'

echo "sweep" # at its top rate a young store may wait for log files, which is an anomaly
"$bench" sweep "${quick[@]}" --topic d --partitions 4 --steps 3 --p99 1 --output "$work/sweep.json" >"$work/out" || [ $? = 1 ]
says "$work/sweep.json" '(.curve | length) >= 3 and .highest_rate.p99_limit_us == 1e6'
"$bench" sweep "${quick[@]}" --topic d --steps 2 --p99 0.000001 --output - >"$work/sweep.json" 2>"$work/err" || [ $? = 1 ]
says "$work/sweep.json" '(.curve | length) >= 2 and .highest_rate == null and .latency_from == "send"'
expect_text "$work/err" "^highest     none"
expect_exit 2 "$bench" sweep "${quick[@]}" --topic d --rate 1000

echo "a file that cannot be written, a rate that nobody can send: both end at once"
SECONDS=0
expect_exit 1 "$bench" publish --server "$address" --topic b --duration 60 --output /no/such/dir/x.json
expect_text "$work/err" "/no/such/dir/x.json: No such file"
expect_exit 1 timeout 30 "$bench" publish "${quick[@]}" --topic b --rate 1000000000 --output "$work/too-fast.json"
says "$work/too-fast.json" '.anomalies | any(test("never sent"))'
[ "$SECONDS" -lt 30 ] || fail "it took $SECONDS s"

echo "compare"
"$bench" compare "$work/publish.json" "$work/publish.json" >"$work/out"
expect_exit 2 "$bench" compare "$work/publish.json" "$work/e2e.json"

echo "table: results of one label are one row, what none has is no column"
"$bench" table "$work/publish.json" "$work/e2e.json" "$work/publish.json" >"$work/out"
[ "$(grep -c '^| ' "$work/out")" = 3 ] || fail "$(cat "$work/out")"
grep -q '^| a run | fdatasync | 2 | [0-9]' "$work/out" || fail "$(cat "$work/out")"
grep -q '| delivery p50 us |' "$work/out" || fail "$(cat "$work/out")"
"$bench" table "$work/publish.json" >"$work/out"
grep -qE 'delivery|bare pipeline' "$work/out" && fail "an empty column: $(cat "$work/out")"
jq '.failed = true' "$work/publish.json" >"$work/failed.json"
expect_exit 1 "$bench" table "$work/publish.json" "$work/failed.json"
grep -q "^| a run | fdatasync | 2, 1 failed | $(jq '.records_per_s | round' "$work/publish.json") |" "$work/out" || fail "$(cat "$work/out")"
expect_exit 2 "$bench" table "$work/no-such-file"

echo "limits, micro-benchmarks"
"$bench" limits --limits-dir "$work" --wal-set 128MiB --duration 0.1 --warm-up 0 --output "$work/limits.json" >"$work/out"
says "$work/limits.json" '.limits.pipeline_bytes_per_s > 0 and .limits.read_bytes_per_s > 0 and .limits.read_fraction == null and .records == null'
"$bin/sluice-micro" --json --seconds 0.05 --dir "$work" >"$work/micro"
[ "$(wc -l <"$work/micro")" -ge 20 ] || fail "cases are missing: $(cat "$work/micro")"
[ -z "$(ls -d "$work"/sluice-micro-* 2>/dev/null)" ] || fail "sluice-micro has left files"
expect_exit 2 "$bin/sluice-micro" no-such-case

echo "claims, whether they hold or not"
"$bench" claim cold-start --data-dir "$work" --repeat 2 --io "$io" --output - >"$work/claim.json"
says "$work/claim.json" '.claim.name == "cold-start" and .claim.empty_ms.min > 0 and .failed == false'
"$bench" claim recovery --data-dir "$work" --repeat 1 --fill 20MiB --partitions 20 --io "$io" --output "$work/claim.json" >"$work/out" || [ $? = 1 ]
says "$work/claim.json" '.claim.acked == .claim.stored and .claim.stored > 20000'
"$bench" claim idle-connections --data-dir "$work" --idle 100 --duration 0.2 --warm-up 0.1 --io "$io" --output "$work/claim.json" >"$work/out"
says "$work/claim.json" '.claim.connections == 100 and .claim.lost == 0 and .claim.ratios_with.broker_cpu_ns_per_record > 0'
[ -z "$(ls -d "$work"/sluice-bench-* 2>/dev/null)" ] || fail "a claim has left its store"
expect_exit 2 "$bench" claim nothing

# interrupted COMMAND...: told to end as soon as it has made its directory, it ends by the signal and leaves nothing
interrupted() {
  local pid rc=0
  "$bench" "$@" >"$work/out" 2>"$work/err" &
  pid=$!
  for _ in $(seq 200); do
    [ -z "$(ls -d "$work"/sluice-bench-* 2>/dev/null)" ] || break
    sleep 0.02
  done
  sleep 0.3
  kill "$pid"
  wait "$pid" || rc=$?
  [ $rc = 143 ] || { cat "$work/err"; fail "exit $rc, expected 143: $*"; }
  [ -z "$(ls -d "$work"/sluice-bench-* 2>/dev/null)" ] || fail "left: $(ls -d "$work"/sluice-bench-*)"
  grep -q " $work/sluice-bench-" /proc/mounts && fail "left: $(grep " $work/" /proc/mounts)"
  pgrep -f -- "--data-dir $work/sluice-bench-" >/dev/null && fail "a broker is left"
  return 0
}
echo "what is interrupted leaves nothing"
interrupted limits --limits-dir "$work" --wal-set 1GiB --duration 5
interrupted claim durability-price --data-dir "$work" --io "$io" --duration 5
if [ "$(id -u)" = 0 ] && [ -e /dev/loop-control ]; then
  interrupted claim disk-full --data-dir "$work" --io "$io"
fi

echo "help"
for command in publish compare table claim; do
  expect_exit 0 "$bench" "$command" --help
  expect_text "$work/out" "^usage: sluice-bench $command "
done
expect_text "$work/out" "^  disk-full +[a-z]"

echo "a broker that goes away; no broker"
SECONDS=0
"$bench" end-to-end --server "$address" --topic a --duration 60 >"$work/out" 2>"$work/err" &
bench_pid=$! rc=0
sleep 1
kill9
wait $bench_pid || rc=$?
[ $rc = 1 ] || fail "exit $rc"
[ "$SECONDS" -lt 30 ] || fail "it took $SECONDS s"
expect_text "$work/err" "no connection to the server"
expect_exit 1 "$bench" publish --server "$address" --topic a --duration 1
expect_text "$work/err" "connecting to $address: "

echo "the survey's script, one section of it"
"$(dirname "$0")/../../bench/survey.sh" "$bin" --only small --seconds 0.5 --repeat 1 --out "$work/survey" >"$work/out" || [ $? = 1 ]
[ "$(grep -c '^| 100 B, own request' "$work/survey/table.md")" = 2 ] || fail "$(cat "$work/out")"
[ -s "$work/survey/small-own-4.html" ] || fail "no page"
expect_exit 2 "$(dirname "$0")/../../bench/survey.sh" "$bin" --nothing
