#!/usr/bin/env bash
# The same workloads on this broker and on others, in turns, in one run; then one table.
#   run.sh BIN_DIR [--rounds N] [--seconds S] [--out DIR] [--only NAME[,NAME...]]
# Each server runs on loopback with a data directory of its own below DIR, one at a time, so that none has to share the machine. Where a
# server can flush before it acks it is measured that way, and as it comes as well. A server that is not installed is left out, and said.
# DIR/ROUND-SERVER-WORKLOAD.json, DIR/table.md. Exit: 0 measured, 1 a run failed or had an anomaly, 2 usage.
set -uo pipefail
cd "$(dirname "$0")/../.."

. bench/options.sh
. bench/broker.sh

choices="sluice_sync redis_always redis_everysec nats rabbitmq_quorum rabbitmq_stream sluice_relaxed"
rounds=3 seconds=5 out=build/bench/peers only=
take_options "rounds seconds out only" "$@"
rm -f "$out"/*.json
pid= failed=0

stop() {
  [ -n "$pid" ] || pid=$broker_pid # of one that is being started
  [ -n "$pid" ] || return 0
  kill "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
  pid= broker_pid=
  [ -z "$epmd_before" ] || comm -13 <(echo "$epmd_before") <(epmd_pids) | xargs -r kill 2>/dev/null
  epmd_before=
}

# Erlang's port mapper, which a RabbitMQ starts and leaves behind.
epmd_pids() { echo none; pgrep -x epmd | sort; }
epmd_before=
trap 'stop; rm -rf "$work"' EXIT

# Below the ports that the kernel gives to clients, and nobody answers there.
free_port() {
  local port
  while port=$((10000 + RANDOM % 20000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}

# answers PORT: somebody listens there, within 60 s
answers() {
  local i
  for ((i = 0; i < 600; i++)); do
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return 0
    kill -0 "$pid" 2>/dev/null || return 1
    sleep 0.1
  done
  return 1
}

# ---- servers: each start_X sets pid and server, and the driver's name ----

start_sluice() {
  driver=sluice
  start_broker "$data" --listen "127.0.0.1:$port" "$@" || return 1
  pid=$broker_pid
  wait_for_spares
}
start_sluice_sync() { start_sluice; }
start_sluice_relaxed() { start_sluice --set durability=relaxed; }

start_redis() { # start_redis APPENDFSYNC
  driver=redis
  command -v redis-server >/dev/null || return 77
  mkdir -p "$data"
  redis-server --bind 127.0.0.1 --port "$port" --dir "$data" --appendonly yes --appendfsync "$1" --save "" --daemonize no >"$data.log" 2>&1 &
  pid=$!
  answers "$port"
}
start_redis_always() { start_redis always; }
start_redis_everysec() { start_redis everysec; }

start_nats() {
  driver=nats
  command -v nats-server >/dev/null || return 77
  nats-server --addr 127.0.0.1 --port "$port" --jetstream --store_dir "$data" >"$data.log" 2>&1 &
  pid=$!
  answers "$port"
}

start_rabbitmq() {
  driver=$1
  local lib erl_port
  lib=$(ls -d /usr/lib/rabbitmq/lib/rabbitmq_server-* 2>/dev/null | head -n 1)
  [ -n "$lib" ] || return 77
  erl_port=$(free_port)
  mkdir -p "$data"/{mnesia,log}
  epmd_before=$(epmd_pids)
  env HOME="$data" RABBITMQ_NODENAME="bench-$port@localhost" RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port" \
    RABBITMQ_DIST_PORT="$(free_port)" ERL_EPMD_PORT="$erl_port" RABBITMQ_MNESIA_BASE="$data/mnesia" RABBITMQ_LOG_BASE="$data/log" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$data/plugins" RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_PID_FILE="$data/pid" \
    "$lib/sbin/rabbitmq-server" >"$data.log" 2>&1 &
  pid=$!
  answers "$port"
}
start_rabbitmq_quorum() { start_rabbitmq rabbitmq; }
start_rabbitmq_stream() { start_rabbitmq rabbitmq_stream; }

title() { # what a row is called
  case $1 in
  sluice_sync) echo "Sluice" ;;
  sluice_relaxed) echo "Sluice, durability = relaxed" ;;
  redis_always) echo "Redis Streams, appendfsync always" ;;
  redis_everysec) echo "Redis Streams, appendfsync everysec" ;;
  nats) echo "NATS JetStream" ;;
  rabbitmq_quorum) echo "RabbitMQ quorum queue" ;;
  rabbitmq_stream) echo "RabbitMQ stream" ;;
  esac
}

# ---- workloads ----

# measure WORKLOAD TITLE COMMAND [OPTION...]
measure() {
  local workload=$1 text=$2 command=$3 file
  shift 3
  file=$out/$round-$name-$workload.json
  watched "$bin/sluice-bench" "$command" --driver "$driver" --server "127.0.0.1:$port" --topic "bench-$workload" --data-dir "$data" \
    --server-pid "$server_pid" --label "$text: $(title "$name")" --warm-up 1 --duration "$seconds" --output "$file" "$@" >"$work/out" 2>&1 || {
    failed=1
    echo "   $workload: $(grep -m 1 -E 'ANOMALY|sluice-bench:' "$work/out")"
  }
  [ -s "$file" ] && printf '   %-12s %s\n' "$workload" "$(sed -n 's/^rate *//p' "$work/out")"
}

workloads() {
  local many=()
  [ "$driver" = sluice ] && many=(--partitions 4) # the others have none: theirs are queues of their own
  measure lone "1 KiB, one at a time" publish --lone
  measure top "1 KiB, 2 producers, as fast as it goes" publish --rate max --producers 2 "${many[@]}"
  measure small "100 B, 2 producers, as fast as it goes" publish --rate max --producers 2 --record-size 100 "${many[@]}"
  measure delivery "1 KiB at 5,000/s, to one consumer" end-to-end --rate 5000 "${many[@]}"
}

# The process that does the work: of a launcher its child.
worker_of() {
  local child
  child=$(pgrep -P "$1" -x 'beam.smp' | head -n 1)
  echo "${child:-$1}"
}

for ((round = 1; round <= rounds; round++)); do
  for name in $choices; do
    is_wanted "$name" || continue
    data=$work/$name port=$(free_port) status=0
    "start_$name" || status=$?
    if [ $status -ne 0 ]; then
      [ $status = 77 ] && echo "== $name: not installed" || { echo "== $name did not start:"; tail -n 5 "$data.log"; failed=1; }
      stop
      continue
    fi
    server_pid=$(worker_of "$pid")
    echo "== round $round of $rounds: $(title "$name")"
    workloads
    stop
    rm -rf "$data"
  done
done
echo
for workload in lone top small delivery; do
  ls "$out"/*-"$workload".json >/dev/null 2>&1 && "$bin/sluice-bench" table "$out"/*-"$workload".json && echo
done | tee "$out/table.md"
exit $failed
