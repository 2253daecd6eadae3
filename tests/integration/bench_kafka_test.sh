#!/usr/bin/env bash
# backends: any
# sluice-bench against a server of Kafka's protocol: every kind of load, and the server's death. The server is the mock cluster of
# librdkafka, in the driver's own process and in another one's.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/bench_lib.sh"
needs kafka librdkafka
driver=kafka

# A run that does next to nothing, whose mock cluster others use.
start_server() {
  "$bin/sluice-bench" publish --driver kafka --server mock --topic idle --rate 1 --duration 300 --warm-up 0 \
    >"$work/server.out" 2>"$work/broker.log" &
  server_pid=$!
  for _ in $(seq 200); do
    server=$(sed -n 's/.*no broker, is on //p' "$work/broker.log")
    [ -z "$server" ] || return 0
    kill -0 "$server_pid" 2>/dev/null || fail "the mock cluster did not start"
    sleep 0.05
  done
  fail "the mock cluster is not ready after 10 s"
}

echo "a mock cluster in the same process"
bench publish --server mock --rate 2000 --partitions 4 "${short[@]}"
means '^nothing: a mock cluster'
fact server "a mock cluster of 1 in this process: no broker" false
fact idempotent yes false
fact brokers 1 true
jq -e '.settings.partitions == 4' "$work/result" >/dev/null || fail "the topic has not 4 partitions"
bench publish --server mock:3 --rate 2000 --partitions 3 --not-idempotent --in-flight 20 --linger-us 500 "${short[@]}"
fact brokers 3 true
fact replicas 3 true
fact idempotent no false
bench publish --server mock --rate max --partitions 2 --producers 3 --clients 2 "${short[@]}"
bench publish --server mock --rate max --buffer 64KiB --batch-size 16KiB --compression lz4 "${short[@]}"
bench publish --server mock --rate max --record-size 16 --own-request "${short[@]}"
bench publish --server mock --closed-loop 16 "${short[@]}"
bench publish --server mock --closed-loop 1 --producers 3 "${short[@]}"
bench publish --server mock --lone "${short[@]}"
bench publish --server mock --rate 20 --record-size 2MiB "${short[@]}"
bench end-to-end --server mock --rate 2000 --consumers 2 --partitions 2 "${short[@]}"
expect_exit 1 "$bin/sluice-bench" publish --driver kafka --server mock:99
expect_text "$work/err" 'want mock or mock:N'

echo "in another one, which neither makes topics nor describes them"
start_server
bench publish --server "$server" --rate 2000 "${short[@]}"
means 'in-sync replica; the server does not tell where$'
jq -e '.durability.facts[] | select(.name == "topic_settings") | .fetched and (.value | startswith("not told: "))' "$work/result" >/dev/null ||
  { jq .durability "$work/result"; fail "the settings can't have been told"; }
count=$(jq .records "$work/result")
bench consume --server "$server" --consumers 2 # before more is there than the mock cluster keeps, 5 MiB
jq -e ".records >= 2 * $count" "$work/result" >/dev/null || fail "not everything was read twice"
bench publish --server "$server" --lone "${short[@]}"
bench end-to-end --server "$server" --rate 500 --consumers 2 "${short[@]}"

echo "the server dies in the middle"
for kind in "publish --rate 2000" "publish --rate max --producers 2" "publish --closed-loop 16" "publish --lone" "end-to-end --rate 500"; do
  # shellcheck disable=SC2086
  "$bin/sluice-bench" $kind --driver kafka --server "$server" --duration 3 --warm-up 0 >"$work/out" 2>&1 &
  load=$!
  sleep 1.5
  kill_server
  status=0 began=$SECONDS
  wait "$load" || status=$?
  [ "$status" -eq 1 ] || { cat "$work/out"; fail "$kind: exit $status when the server died"; }
  [ $((SECONDS - began)) -le 60 ] || fail "$kind: the end of the server was noticed late"
  expect_text "$work/out" 'brokers are down: .*(Connection refused|Disconnected|Broken pipe|Connection reset)'
  echo "$kind: $((SECONDS - began)) s"
  start_server
done
kill_server

expect_exit 1 timeout 20 "$bin/sluice-bench" publish --driver kafka --server "$server" "${short[@]}"
expect_text "$work/err" "$server does not answer: .*Connection refused"
echo "Kafka's protocol is measured"
