#!/usr/bin/env bash
# backends: any
# sluice-bench against Redis: every kind of load with a flush before each answer and without, what the server says of
# itself, its refusals, and its death.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/bench_lib.sh"
needs redis hiredis redis-server
driver=redis

# start_server APPENDFSYNC: on $port and $work/data; another one may take the port meanwhile: then the next.
start_server() {
  mkdir -p "$work/data"
  for _ in $(seq 5); do
    port=$(free_port)
    server=127.0.0.1:$port
    redis-server --bind 127.0.0.1 --port "$port" --dir "$work/data" --daemonize no --save "" \
      --appendonly yes --appendfsync "$1" >"$work/broker.log" 2>&1 &
    server_pid=$!
    for _ in $(seq 200); do
      grep -q 'Ready to accept connections' "$work/broker.log" && return 0
      kill -0 "$server_pid" 2>/dev/null || break
      sleep 0.05
    done
    kill_server
  done
  fail "redis-server does not start"
}

for appendfsync in always everysec; do
  start_server "$appendfsync"
  echo "appendfsync $appendfsync"
  bench publish --rate 2000 "${short[@]}"
  fact appendonly yes true
  fact appendfsync "$appendfsync" true
  fact redis_version "$(redis-server --version | sed 's/.* v=\([^ ]*\).*/\1/')" true
  case $appendfsync in
  always) means '^fdatasync$'; fact commands "XADD, a batch in MULTI and EXEC" false ;;
  everysec) means 'flushed every second$'; fact commands "XADD, pipelined" false ;;
  esac
  jq -e '.broker.cpu_s > 0 or .ratios.broker_cpu_ns_per_record > 0' "$work/result" >/dev/null || fail "no processor time of the server"
  bench publish --rate max --producers 3 --threads 2 "${short[@]}"
  bench publish --rate max --buffer 64KiB "${short[@]}"
  bench publish --rate max --record-size 16 --own-request "${short[@]}"
  bench publish --closed-loop 16 "${short[@]}"
  bench publish --lone "${short[@]}"
  bench publish --rate 20 --record-size 2MiB --topic large --batch-size 4MiB "${short[@]}"
  bench consume --topic large --record-size 2MiB --consumers 2
  bench end-to-end --rate 2000 --consumers 2 "${short[@]}"
  bench consume --consumers 2
  entries=$(redis-cli -p "$port" xlen bench)
  jq -e ".records == 2 * $entries" "$work/result" >/dev/null || fail "not all of $entries entries were read twice"

  # A refusal is told in the server's words, whichever way records are sent; what was acked is there all the same.
  redis-cli -p "$port" config set maxmemory 1mb >/dev/null
  for kind in "--rate 500" "--rate max" "--lone"; do
    # shellcheck disable=SC2086
    expect_exit 1 timeout 100 "$bin/sluice-bench" publish --driver redis --server "$server" $kind "${short[@]}"
    expect_text "$work/out" 'records failed, the first with: OOM command not allowed'
    ! grep -q 'the topic grew' "$work/out" || { cat "$work/out"; fail "acked records are not those that are there"; }
  done
  redis-cli -p "$port" config set maxmemory 0 >/dev/null
  redis-cli -p "$port" set text x >/dev/null
  expect_exit 1 "$bin/sluice-bench" publish --driver redis --server "$server" --topic text "${short[@]}"
  expect_text "$work/err" 'key text is there and is no stream'
  expect_exit 1 "$bin/sluice-bench" publish --driver redis --server "$server" --partitions 4 "${short[@]}"
  expect_text "$work/err" 'no partitions'

  # The server dies in the middle.
  kinds=("publish --rate 2000" "publish --rate max --producers 2" "publish --closed-loop 16" "publish --lone")
  [ "$appendfsync" = always ] || kinds=("end-to-end --rate 500")
  for kind in "${kinds[@]}"; do
    # shellcheck disable=SC2086
    "$bin/sluice-bench" $kind --driver redis --server "$server" --duration 3 --warm-up 0 >"$work/out" 2>&1 &
    load=$!
    sleep 1
    kill_server
    status=0 began=$SECONDS
    wait "$load" || status=$?
    [ "$status" -eq 1 ] || { cat "$work/out"; fail "$kind: exit $status when the server died"; }
    [ $((SECONDS - began)) -le 30 ] || fail "$kind: the end of the server was noticed late"
    expect_text "$work/out" "the connection to $server is lost: "
    rm -rf "$work/data"
    start_server "$appendfsync"
  done
  kill_server
  rm -rf "$work/data"
done

expect_exit 1 "$bin/sluice-bench" publish --driver redis --server "$server" "${short[@]}"
expect_text "$work/err" "connecting to $server: Connection refused"
echo "streams are measured"
