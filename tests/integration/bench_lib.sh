# Sourced behind lib.sh by the tests of sluice-bench: what a result says, and servers that are not ours.

short=(--duration 1 --warm-up 0.2)

# says FILE EXPRESSION: a condition of jq, of the result in the file
says() { jq -e "$2" "$1" >/dev/null || { jq 'del(.series, .repeats)' "$1" || cat "$1"; fail "$1: not $2"; }; }

# bench COMMAND ARGUMENT...: a run without anomalies, into $work/result; of $driver, on $server unless it is given, and on $topic if there is one
bench() {
  local to=()
  [[ " $* " == *" --server "* ]] || to=(--server "$server")
  [ -z "${topic:-}" ] || to+=(--topic "$topic")
  expect_exit 0 timeout 100 "$bin/sluice-bench" "$@" --driver "$driver" "${to[@]}" --output "$work/result"
  says "$work/result" '.failed == false and .anomalies == [] and .records > 0'
}

fact() { # fact NAME VALUE FETCHED, of the last run
  jq -e --arg n "$1" --arg v "$2" --argjson f "$3" \
    '.durability.facts[] | select(.name == $n) | .value == $v and .fetched == $f' "$work/result" >/dev/null ||
    { jq .durability "$work/result"; fail "$1 is not $2"; }
}

means() { # means PATTERN: what an ack of the last run does
  jq -e --arg p "$1" '.durability.ack_means | test($p)' "$work/result" >/dev/null ||
    { jq .durability "$work/result"; fail "an ack does not mean $1"; }
}

# needs DRIVER LIBRARY [PROGRAM...]: else the test is skipped
needs() {
  local program
  for program in "${@:3}"; do
    command -v "$program" >/dev/null || skip "$program is not installed"
  done
  { "$bin/sluice-bench" publish --driver none 2>&1 || true; } | grep -qw "$1" || skip "sluice-bench was built without $2"
}

# free_port: below the ports that the kernel gives to clients, and nobody answers there.
free_port() {
  local port
  for _ in $(seq 100); do
    port=$((10000 + RANDOM % 20000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port"; return 0; fi
  done
  return 1
}

# The server that start_server of a test has started.
server_pid=""
kill_server() {
  if [ -n "$server_pid" ]; then kill -9 "$server_pid" 2>/dev/null || true; wait "$server_pid" 2>/dev/null || true; fi
  server_pid=""
}
cleanup_more() { kill_server; }
