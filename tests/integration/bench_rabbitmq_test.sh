#!/usr/bin/env bash
# backends: any
# sluice-bench against RabbitMQ, quorum queue and stream: every kind of load, what the server says of itself, and its death.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/bench_lib.sh"
server_program=/usr/lib/rabbitmq/bin/rabbitmq-server # the one in the path changes the user
[ -x $server_program ] || skip "rabbitmq-server is not installed"
needs rabbitmq librabbitmq epmd

epmd_pid=""
cleanup_more() {
  kill_server
  if [ -n "$epmd_pid" ]; then kill -9 "$epmd_pid" 2>/dev/null || true; wait "$epmd_pid" 2>/dev/null || true; fi
}

# All that a node keeps or listens on is private: data, logs, cookie, name, ports, and the daemon that knows its name.
start_server() {
  mkdir -p "$work/log" "$work/mnesia"
  echo '[].' >"$work/enabled_plugins"
  : >"$work/env"
  printf 'disk_free_limit.absolute = 50MB\n' >"$work/rabbitmq.conf"
  export HOME=$work ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RUNNING_UNDER_SYSTEMD=1
  export RABBITMQ_MNESIA_BASE=$work/mnesia RABBITMQ_LOG_BASE=$work/log RABBITMQ_GENERATED_CONFIG_DIR=$work/generated
  export RABBITMQ_ENABLED_PLUGINS_FILE=$work/enabled_plugins RABBITMQ_CONF_ENV_FILE=$work/env
  export RABBITMQ_CONFIG_FILE=$work/rabbitmq.conf RABBITMQ_PID_FILE=$work/server.pid
  export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
  export ERL_EPMD_PORT RABBITMQ_NODE_PORT RABBITMQ_DIST_PORT
  if [ -z "$epmd_pid" ]; then
    ERL_EPMD_PORT=$(free_port) RABBITMQ_NODE_PORT=$(free_port) RABBITMQ_DIST_PORT=$(free_port)
    export RABBITMQ_NODENAME=bench$RABBITMQ_NODE_PORT@localhost
    epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 >"$work/epmd.log" 2>&1 &
    epmd_pid=$!
  fi
  server=127.0.0.1:$RABBITMQ_NODE_PORT
  $server_program >"$work/broker.log" 2>&1 & # replaced by the virtual machine: the pid stays
  server_pid=$!
  for _ in $(seq 600); do
    grep -q 'Starting broker... completed' "$work/broker.log" && return 0
    kill -0 "$server_pid" 2>/dev/null || fail "rabbitmq-server did not start"
    sleep 0.1
  done
  fail "rabbitmq-server is not ready after 60 s"
}

start_server

for driver in rabbitmq rabbitmq_stream; do
  topic=$driver.topic
  bench publish --rate 1000 "${short[@]}"
  fact product RabbitMQ true
  fact durable true true
  case $driver in
  rabbitmq) fact x-queue-type quorum true; means='fdatasynced by a majority' ;;
  *) fact x-queue-type stream true; means='page cache by a majority .* no fsync' ;;
  esac
  jq -e --arg m "$means" '.durability.ack_means | test($m)' "$work/result" >/dev/null || fail "what an ack means"
  bench publish --rate max --producers 3 "${short[@]}"
  bench publish --rate max --buffer 64KiB "${short[@]}"
  bench publish --closed-loop 16 "${short[@]}"
  bench publish --lone "${short[@]}"
  bench publish --rate 20 --record-size 300000 "${short[@]}" # more than a frame
  bench end-to-end --rate 1000 --consumers 2 "${short[@]}"
  bench end-to-end --rate 20 --record-size 300000 "${short[@]}"
  bench publish --rate 1000 "${short[@]}"
  published=$(jq .records "$work/result")
  bench consume
  [ "$(jq .records "$work/result")" -ge "$published" ] || fail "less was read than published"
done
bench consume --consumers 2 # of the stream

# What can't be is said, and not tried.
driver=rabbitmq topic=rabbitmq.topic
expect_exit 1 "$bin/sluice-bench" publish --driver $driver --server "$server" --partitions 4 "${short[@]}"
expect_text "$work/err" 'a queue has no partitions'
expect_exit 1 "$bin/sluice-bench" consume --driver $driver --topic $topic --server "$server"
expect_text "$work/err" 'is empty: publish first' # what was read is gone
bench publish --rate 1000 "${short[@]}"
expect_exit 1 "$bin/sluice-bench" consume --driver $driver --topic $topic --server "$server" --consumers 2
expect_text "$work/err" 'to one consumer only'
expect_exit 1 "$bin/sluice-bench" publish --driver rabbitmq_stream --topic $topic --server "$server" "${short[@]}"
expect_text "$work/err" "the server says 406: .*x-queue-type"

# The server dies in the middle. Each time a queue of its own: those of before come back a while after the server does.
number=0
for kind in "rabbitmq --rate 1000" "rabbitmq_stream --rate max" "rabbitmq --closed-loop 16" "rabbitmq_stream --lone"; do
  number=$((number + 1))
  # shellcheck disable=SC2086
  "$bin/sluice-bench" publish --server "$server" --topic "last.$number" --driver $kind --duration 5 --warm-up 0 >"$work/out" 2>&1 &
  load=$!
  sleep 3.5
  kill_server
  status=0 began=$SECONDS
  wait "$load" || status=$?
  [ "$status" -eq 1 ] || { cat "$work/out"; fail "$kind: exit $status when the server died"; }
  [ $((SECONDS - began)) -le 15 ] || fail "$kind: the end of the server was noticed late"
  expect_text "$work/out" "a producer failed: .*(connection closed|socket|Broken pipe|reset by peer)"
  [ "$kind" = "rabbitmq_stream --lone" ] || start_server
done
expect_exit 1 "$bin/sluice-bench" publish --driver $driver --server "$server" "${short[@]}"
expect_text "$work/err" "connecting to $server: "
echo "queues and streams are measured"
