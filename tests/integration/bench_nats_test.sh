#!/usr/bin/env bash
# backends: any
# sluice-bench against a NATS server with JetStream: every kind of load, what the server says of itself, and its death.
. "$(dirname "$0")/lib.sh"
command -v nats-server >/dev/null || skip "nats-server is not installed"
{ "$bin/sluice-bench" publish --driver none 2>&1 || true; } | grep -qw nats || skip "sluice-bench was built without libnats"

server_pid=""
cleanup_more() {
  if [ -n "$server_pid" ]; then kill -9 "$server_pid" 2>/dev/null || true; wait "$server_pid" 2>/dev/null || true; fi
}

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

bench() { # bench COMMAND ARGUMENT...: into $work/result
  expect_exit 0 timeout 100 "$bin/sluice-bench" "$@" --driver nats --server "$server" --output "$work/result"
  jq -e '.failed == false or .failed == null or .failed == []' "$work/result" >/dev/null || fail "$*: failed"
  jq -e '.anomalies == [] and .records > 0' "$work/result" >/dev/null || { jq .anomalies "$work/result"; fail "$*"; }
}
fact() { # fact NAME VALUE FETCHED
  jq -e --arg n "$1" --arg v "$2" --argjson f "$3" \
    '.durability.facts[] | select(.name == $n) | .value == $v and .fetched == $f' "$work/result" >/dev/null ||
    { jq .durability "$work/result"; fail "$1 is not $2"; }
}
start_server
short=(--duration 1 --warm-up 0.2)

bench publish --rate 2000 "${short[@]}"
fact storage file true
fact replicas 1 true
fact monitoring_port asked true
fact version "$(nats-server --version | sed 's/.*v//')" true
jq -e '.durability.ack_means | startswith("written to the page cache; fsync every")' "$work/result" >/dev/null ||
  { jq .durability "$work/result"; fail "what an ack means"; }
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
  kill -9 "$server_pid"
  wait "$server_pid" 2>/dev/null || true
  status=0 began=$SECONDS
  wait "$load" || status=$?
  [ "$status" -eq 1 ] || { cat "$work/out"; fail "$kind: exit $status when the server died"; }
  [ $((SECONDS - began)) -le 10 ] || fail "$kind: the end of the server was noticed late"
  expect_text "$work/out" 'a producer failed: .*(Connection Closed|IO Error)'
  rm -rf "$work/ports"
  start_server
done

kill -9 "$server_pid"
wait "$server_pid" 2>/dev/null || true
server_pid=""
expect_exit 1 "$bin/sluice-bench" publish --driver nats --server "$server" "${short[@]}"
expect_text "$work/err" "nats://$server: No server available"
echo "JetStream is measured"
