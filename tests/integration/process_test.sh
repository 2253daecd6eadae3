#!/usr/bin/env bash
# The process around the broker: exit codes, messages, signals, limits, the HTTP port. Scripts rely on all of it.
. "$(dirname "$0")/lib.sh"

# expect_exit CODE PATTERN COMMAND...: it ends with CODE and says PATTERN.
expect_exit() {
  local wanted=$1 pattern=$2 status=0
  shift 2
  timeout 20 "$@" >"$work/out" 2>&1 || status=$?
  [ "$status" = "$wanted" ] || { cat "$work/out"; fail "exit $status, expected $wanted: $*"; }
  grep -q -- "$pattern" "$work/out" || { cat "$work/out"; fail "no \"$pattern\" from $*"; }
}
said() { grep -q -- "$1" "$work/broker.log" || fail "the log does not say $1"; }
get() { curl -s -m 10 "$@"; }

# ---- configuration: exit 2, nothing touched ----
cd "$work"
printf '# comment\nshards = 99;\n' >bad.conf
printf 'log_level = "warn";\n\nnonsense = 1;\n' >unknown.conf
expect_exit 2 '^bad.conf:2: shards: value 99, allowed 1..64$' "$bin/sluiced" --config bad.conf
expect_exit 2 '^unknown.conf:3: unknown key "nonsense"$' "$bin/sluiced" --config unknown.conf
expect_exit 2 'loopback' "$bin/sluiced" --listen 0.0.0.0:0
expect_exit 2 'unknown option "--foo"' "$bin/sluiced" --foo
expect_exit 0 'in all$' "$bin/sluiced" --check
expect_exit 0 "^sluiced [0-9]" "$bin/sluiced" --version
expect_exit 0 '^usage: sluiced' "$bin/sluiced" --help
[ ! -e sluice-data ] || fail "--check or an error made a data directory"

# ---- the ready line, HTTP ----
printf 'log_level = "info";\n' >live.conf
start --config live.conf
said '^ready listen=127.0.0.1:[0-9]* http=127.0.0.1:[0-9]* kafka=off$'
[ "$(get "http://$http/healthz")" = ok ] || fail "healthz"
[ "$(get "http://$http/readyz")" = ready ] || fail "readyz"
for case in "404 /nothing" "200 /metrics" "405 /metrics -XPOST" "405 /healthz -XDELETE"; do
  # shellcheck disable=SC2086
  set -- $case
  [ "$(get -o "$work/out" -w '%{http_code}' ${3:-} "http://$http$2")" = "$1" ] || fail "HTTP $case"
done
# Asked first, since a sender in the middle of its body may miss the answer when the connection is closed.
[ "$(head -c 1000000 /dev/zero | get -H 'Expect: 100-continue' -o "$work/out" -w '%{http_code}' --data-binary @- \
  "http://$http/metrics")" = 413 ] || fail "a large body is not refused"
get "http://$http/metrics" >metrics
grep -q '^sluice_wal_durable_lsn{shard="0"} [0-9]' metrics || fail "no durable_lsn in the metrics"
grep -q '^sluice_durability_relaxed 0$' metrics || fail "no durability in the metrics"
used=$(sed -nE 's/.* broker\.ready .* io=([a-z]+) .*/\1/p' "$work/broker.log" | tail -n 1)
grep -q "^sluice_io_uring $([ "$used" = uring ] && echo 1 || echo 0)$" metrics || fail "another I/O backend in the metrics"
grep -Ev '^# (HELP|TYPE) sluice_[a-z0-9_]+ .+$|^sluice_[a-z0-9_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9]+$' metrics &&
  fail "lines that are not Prometheus text"
"$bin/sluicectl" status >out || fail "status"

# ---- a second broker: on the directory, on the ports ----
expect_exit 3 'in use\|locked\|another' "$bin/sluiced" --data-dir "$work/data" --listen 127.0.0.1:0 --http off
expect_exit 1 'cannot listen on .*in use' "$bin/sluiced" --data-dir "$work/other" --listen "$address" --http off
expect_exit 1 'cannot serve HTTP on .*in use' "$bin/sluiced" --data-dir "$work/other" --listen 127.0.0.1:0 --http "$http"

# ---- SIGHUP ----
printf 'log_level = "debug"; connections_max = 77;\n' >live.conf
kill -HUP "$broker_pid"; sleep 0.3
said 'config.needs_restart key=connections_max'
said 'INFO config.reloaded'
printf 'log_level = ;\n' >live.conf
kill -HUP "$broker_pid"; sleep 0.3
said 'config.not_reloaded reason="live.conf:1: '
printf 'log_level = "info";\n' >live.conf

# ---- stop and start at once, on the same ports, with a client that is still there ----
exec {idle}<>"/dev/tcp/${address%:*}/${address#*:}"
stop || fail "stop: exit $?"
start --config live.conf
"$bin/sluicectl" topic create t --partitions 2 >out || fail "create"

# ---- what it says that it uses ----
seq 1000 | "$bin/sluicectl" produce t >out 2>&1 || fail "produce"
"$bin/sluicectl" status >out || fail "status"
awk '$1 == "process_rss_bytes" {rss = $2} $1 == "memory_limit_bytes" {limit = $2} $1 == "process_cpu_us_total" {cpu = $2}
  END {exit !(cpu > 0 && rss > 1000000 && (asan || rss < limit * 1.05))}' \
  asan="$(grep -qa __asan_init "$bin/sluiced" && echo 1)" out || fail "usage: $(grep -E 'rss|cpu|limit' out)"

# ---- a second SIGTERM ends a drain at once; what was acked is there ----
exec {idle}<>"/dev/tcp/${address%:*}/${address#*:}" # holds the drain up for a moment
"$bin/sluicectl" status >out || fail "status"             # by then it is accepted
kill -TERM "$broker_pid"; sleep 0.1
status=0; stop || status=$?
[ "$status" = 1 ] || fail "second SIGTERM: exit $status"
said 'second signal'
exec {idle}>&-
start
[ "$("$bin/sluicectl" consume t --from beginning --until-end | wc -l)" = 1000 ] || fail "records are missing"
stop || fail "stop: exit $?"

# ---- connections_max, and running out of descriptors ----
start --set connections_max=10
conns=()
for _ in $(seq 12); do exec {fd}<>"/dev/tcp/${address%:*}/${address#*:}"; conns+=("$fd"); done
timeout 10 cat <&"${conns[11]}" >out || fail "a refused connection stays open"
grep -qa LIMIT_REACHED out || fail "a refused connection is not told why"
for fd in "${conns[@]}"; do exec {fd}>&-; done
sleep 0.5
"$bin/sluicectl" status >out || fail "no connection after the crowd has gone"
stop || fail "stop: exit $?"

hard=$(ulimit -Hn)
(
  ulimit -n 80
  start --cores 1
  said 'broker.connections_limited'
  conns=()
  for _ in $(seq 60); do exec {fd}<>"/dev/tcp/${address%:*}/${address#*:}" && conns+=("$fd") || break; done
  before=$(awk '{print $14 + $15}' "/proc/$broker_pid/stat"); sleep 1
  after=$(awk '{print $14 + $15}' "/proc/$broker_pid/stat")
  [ $((after - before)) -lt 50 ] || fail "busy with failing to accept: $((after - before)) ticks in a second"
  for fd in "${conns[@]}"; do exec {fd}>&-; done
  for _ in $(seq 20); do "$bin/sluicectl" status >out 2>&1 && break; sleep 0.5; done
  "$bin/sluicectl" status >out 2>&1 || fail "no service after descriptors were short"
  stop || fail "stop: exit $?"
  trap - EXIT
) || fail "few descriptors (hard limit $hard)"

# ---- a failed fdatasync is final: exit 1, with file and LSN ----
data=$work/failing SLUICE_FAULT=io_fdatasync@100+=EIO start
"$bin/sluicectl" topic create t >out || fail "create"
for _ in $(seq 200); do seq 100 | timeout 5 "$bin/sluicectl" produce t >out 2>&1 || break; done &
publisher=$!
for _ in $(seq 100); do kill -0 "$broker_pid" 2>/dev/null || break; sleep 0.1; done
status=0; wait "$broker_pid" || status=$?
broker_pid=""
kill "$publisher" 2>/dev/null || true; wait "$publisher" 2>/dev/null || true
[ "$status" = 1 ] || fail "failed fdatasync: exit $status"
said 'shard.failed .*file=.*lsn='
data=$work/failing start
"$bin/sluicectl" status >out || fail "status after the failure"
stop || fail "stop: exit $?"

# ---- memory file systems; relaxed durability; more cores than CPUs; JSON; several shards ----
if [ "$(stat -f -c %T /dev/shm 2>/dev/null)" = tmpfs ]; then
  memory=$(mktemp -d /dev/shm/sluice.XXXXXX)
  cleanup_more() { rm -rf "$memory"; }
  expect_exit 3 'O_DIRECT\|memory\|tmpfs' "$bin/sluiced" --data-dir "$memory/d" --listen 127.0.0.1:0 --http off
fi
data=$work/relaxed start --set durability=relaxed --cores 5 --log-format json --kafka 127.0.0.1:0 --set shards=3
said 'broker.durability_relaxed'
said 'broker.cores_not_pinned'
said 'broker.kafka_off'
get "http://$http/metrics" >metrics
grep -q '^sluice_durability_relaxed 1$' metrics || fail "relaxed is not in the metrics"
"$bin/sluicectl" topic create wide --partitions 12 >out || fail "create over shards"
seq 20000 | "$bin/sluicectl" produce wide >out 2>&1 || fail "produce over shards"
for how in "--until-end" "--count 20000"; do
  # shellcheck disable=SC2086
  "$bin/sluicectl" consume wide --from beginning --format '%v %p %o\n' $how >out || fail "consume over shards $how"
  sort -n out >sorted
  cut -d ' ' -f 1 sorted | cmp - <(seq 20000) || {
    echo "lines: $(wc -l <out), different ones: $(sort -u out | wc -l); the first that differ:"
    diff <(cut -d ' ' -f 1 sorted) <(seq 20000) | head -n 20
    head -n 20 sorted
    fail "not the same over shards: $how"
  }
done
stop || fail "stop: exit $?"

echo "the process behaves"
