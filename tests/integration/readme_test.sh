#!/usr/bin/env bash
# The five minutes of README.md, command for command: what it says one will see is what one sees. Only what lies elsewhere
# here is replaced: the programs' directory, the ports, and ./dev, whose work was done.
. "$(dirname "$0")/lib.sh"
build=$(dirname "$bin")
readme=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$build/CMakeCache.txt")/README.md
command -v pkg-config >/dev/null || skip "no pkg-config"
cd "$work"
awk '/^## /{inside = /^## Five minutes/} inside' "$readme" >tour
awk '/^```c$/{inside = 1; next} /^```/{inside = 0} inside' tour >greet.c

# Two ports that were free a moment ago.
data=$work/probe
start
ports=("${address##*:}" "${http##*:}")
stop || fail "stop: exit $?"

dev() {
  [ "$1" = build ] || cmake --install "$build" --prefix "$PWD/$2"
}
here() { # what the README says, as it is on this machine
  sed -e "s|7650|${ports[0]}|g; s|7651|${ports[1]}|g; s|\./dev |dev |; s|\$PWD/build/release/bin|$bin|" \
    -e "s|^sluiced |&--listen 127.0.0.1:${ports[0]} --http 127.0.0.1:${ports[1]} --io $io |"
}
export SLUICE_SERVER=127.0.0.1:${ports[0]}
set +eu # the commands are a user's

commands=0
run() { # run COMMAND EXPECTED_FILE
  local command
  command=$(here <<<"$1")
  eval "$command" >all 2>&1
  grep -vE '^[^ ]*readme_test.sh: line [0-9]+: +[0-9]+ Killed ' all >out # the shell's, whenever it notices
  case $command in *'&') broker_pid=$! ;; esac
  commands=$((commands + 1))
  here <"$2" | cmp -s - out || { echo "--- $command"; diff <(here <"$2") out; fail "README.md says something else"; }
}

inside=0 command=""
while IFS= read -r line; do
  case $line in
  '```c') inside=2 ;;
  '```')
    if [ $inside = 1 ] && [ -n "$command" ]; then run "$command" expected; fi
    command=""
    [ $inside = 0 ] && inside=1 || inside=0 ;;
  '$ '*)
    [ $inside = 1 ] || continue
    if [ -n "$command" ]; then run "$command" expected; fi
    command=${line#??}
    : >expected ;;
  *) [ $inside = 1 ] && printf '%s\n' "$line" >>expected ;;
  esac
done <tour
[ $commands -ge 20 ] || fail "only $commands commands were found in README.md"
broker_pid=""
echo "$commands commands of the README do what it says"
