# Sourced by the integration tests: a private directory, a broker in it, and checks.
#   BIN_DIR is the first argument of each test; SLUICE_TEST_IO is the broker's backend (uring, epoll);
#   SLUICE_TEST_DIR is where data may lie (not tmpfs); SLUICE_TEST_ARGS are further arguments for the broker.
set -euo pipefail
bin=$(cd "${1:?usage: TEST BIN_DIR}" && pwd)
io=${SLUICE_TEST_IO:-auto}
full=${SLUICE_TEST_FULL:-0}
base=${SLUICE_TEST_DIR:-$bin/../run}
mkdir -p "$base"
work=$(mktemp -d "$base/$(basename "$0" .sh).XXXXXX")
broker_pid=""
address=""

cleanup() {
  local status=$?
  if [ -n "$broker_pid" ]; then kill -9 "$broker_pid" 2>/dev/null || true; wait "$broker_pid" 2>/dev/null || true; fi
  if [ $status -ne 0 ] && [ $status -ne 77 ]; then
    echo "--- $0: exit $status; the broker's log:"
    tail -n 30 "$work/broker.log" 2>/dev/null || true
  fi
  if declare -F cleanup_more >/dev/null; then cleanup_more || true; fi
  rm -rf "$work"
  exit $status
}
trap cleanup EXIT

fail() { echo "FAILED: $*"; exit 1; }
skip() { echo "skipped: $*"; exit 77; }

# start [ARGUMENT...]: a broker on $data (default $work/data); sets broker_pid, address, http.
start() {
  local from=0 line
  [ -f "$work/broker.log" ] && from=$(stat -c %s "$work/broker.log")
  # shellcheck disable=SC2086
  "$bin/sluiced" --data-dir "${data:-$work/data}" --listen "${address:-127.0.0.1:0}" --http "${http:-127.0.0.1:0}" \
    --kafka off --io "$io" ${SLUICE_TEST_ARGS:-} "$@" 2>>"$work/broker.log" &
  broker_pid=$!
  for _ in $(seq 600); do
    line=$(tail -c +$((from + 1)) "$work/broker.log" | grep -m1 -o 'ready listen=[^ ]* http=[^ ]*' || true)
    if [ -n "$line" ]; then
      address=${line#ready listen=}; address=${address%% *}
      http=${line##*http=}
      export SLUICE_SERVER=$address
      return 0
    fi
    kill -0 "$broker_pid" 2>/dev/null || { local s=0; wait "$broker_pid" || s=$?; broker_pid=""; return $s; }
    sleep 0.05
  done
  fail "the broker is not ready after 30 s"
}

# stop [SIGNAL]: waits for the end; returns the exit code.
stop() {
  local status=0
  kill "-${1:-TERM}" "$broker_pid"
  wait "$broker_pid" || status=$?
  broker_pid=""
  return $status
}

kill9() { stop KILL || true; }

ctl() { "$bin/sluicectl" "$@"; }

expect_exit() { # expect_exit CODE COMMAND...
  local wanted=$1 got=0
  shift
  "$@" >"$work/out" 2>"$work/err" || got=$?
  [ "$got" -eq "$wanted" ] || { cat "$work/out" "$work/err"; fail "exit $got, expected $wanted: $*"; }
}

expect_text() { # expect_text FILE PATTERN
  grep -qE -- "$2" "$1" || { echo "--- $1:"; cat "$1"; fail "expected /$2/"; }
}

same() { cmp "$1" "$2" || fail "$1 and $2 differ"; }
