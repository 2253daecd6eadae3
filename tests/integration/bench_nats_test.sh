#!/usr/bin/env bash
# backends: any
# sluice-bench against a NATS server with JetStream: every kind of load, what the server says of itself, and its death.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/bench_lib.sh"
needs nats libnats nats-server
driver=nats

# The server chooses its ports and writes them into a file.
start_server() {
  mkdir -p "$work/ports"
  nats-server -a 127.0.0.1 -p -1 -m -1 -js -sd "$work/data" --ports_file_dir "$work/ports" >"$work/broker.log" 2>&1 &
  server_pid=$!
  for _ in $(seq 200); do
    if ls "$work"/ports/*.ports >/dev/null 2>&1 && grep -q 'Server is ready' "$work/broker.log"; then
      server=$(jq -r '.nats[0]' "$work"/ports/*.ports)
      NATS_MONITOR=$(jq -r '.monitoring[0]' "$work"/ports/*.ports)
      server=${server#nats://} NATS_MONITOR=${NATS_MONITOR#http://}
      export NATS_MONITOR
      return 0
    fi
    kill -0 "$server_pid" 2>/dev/null || fail "nats-server did not start"
    sleep 0.05
  done
  fail "nats-server is not ready after 10 s"
}

start_server
bench publish --rate 2000 "${short[@]}"
fact storage file true
fact replicas 1 true
fact monitoring_port asked true
fact version "$(nats-server --version | sed 's/.*v//')" true
means '^written to the page cache; fsync every'
bench publish --rate max --producers 3 --clients 2 "${short[@]}"
bench publish --rate max --buffer 64KiB "${short[@]}"
bench publish --closed-loop 16 "${short[@]}"
bench publish --lone "${short[@]}"
bench publish --rate 20 --record-size 1000000 "${short[@]}"
bench end-to-end --rate 2000 --consumers 2 "${short[@]}"
bench consume --consumers 2
records=$(jq .records "$work/result")
[ "$records" -gt 0 ] || fail "nothing was read"

# What can't be is said, and not tried.
expect_exit 1 "$bin/sluice-bench" publish --driver nats --server "$server" --partitions 4 "${short[@]}"
expect_text "$work/err" 'no partitions'
expect_exit 1 "$bin/sluice-bench" publish --driver nats --server "$server" --record-size 2MiB "${short[@]}"
expect_text "$work/err" 'max_payload'

# The server dies in the middle.
for kind in "--rate 2000" "--rate max" "--closed-loop 16" "--lone"; do
  "$bin/sluice-bench" publish --driver nats --server "$server" $kind --duration 3 --warm-up 0 >"$work/out" 2>&1 &
  load=$!
  sleep 1
  kill_server
  status=0 began=$SECONDS
  wait "$load" || status=$?
  [ "$status" -eq 1 ] || { cat "$work/out"; fail "$kind: exit $status when the server died"; }
  [ $((SECONDS - began)) -le 10 ] || fail "$kind: the end of the server was noticed late"
  expect_text "$work/out" 'a producer failed: .*(Connection Closed|IO Error)'
  rm -rf "$work/ports"
  start_server
done

kill_server
expect_exit 1 "$bin/sluice-bench" publish --driver nats --server "$server" "${short[@]}"
expect_text "$work/err" "nats://$server: No server available"
echo "JetStream is measured"
