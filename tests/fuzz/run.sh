#!/usr/bin/env bash
# Each fuzz target under libFuzzer, with address and undefined behaviour sanitizers (clang).
#   run.sh [SECONDS [TARGET...]]     seconds for each target, default 60; targets by name, default all
# What is found new goes to build/fuzz/corpus/TARGET, so a later run goes on from there; an input that fails stays as
# build/fuzz/failed/TARGET-*, with the command that runs it again. Exit: 0 nothing found, 1 something was.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=$PWD/build/fuzz
seconds=${1:-60}
[[ $seconds =~ ^[0-9]+$ ]] || { echo "usage: run.sh [SECONDS [TARGET...]]" >&2; exit 2; }
shift $(($# > 0 ? 1 : 0))
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for source in tests/fuzz/fuzz_*.c; do
    name=${source##*/fuzz_}
    targets+=("${name%.c}")
  done
fi

mkdir -p "$build/failed"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=clang \
  -DSLUICE_FUZZ=ON -DSLUICE_SANITIZE=address,undefined >"$build/cmake.log" || { cat "$build/cmake.log"; exit 1; }
cmake --build "$build" --target "${targets[@]/#/fuzz_}" -- --quiet || exit 1

failed=0
for name in "${targets[@]}"; do
  mkdir -p "$build/corpus/$name"
  if "$build/bin/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
    -artifact_prefix="$build/failed/$name-" "$build/corpus/$name" "tests/fuzz/corpus/$name" >"$build/$name.log" 2>&1; then
    echo "ok    $name: $(grep -oE '^Done [0-9]+ runs' "$build/$name.log" | tail -n 1)"
  else
    failed=1
    echo "FAIL  $name ($build/$name.log)"
    tail -n 25 "$build/$name.log" | sed 's/^/      /'
    sed -nE "s|.*Test unit written to (.*)|      again: $build/bin/fuzz_$name \\1|p" "$build/$name.log"
  fi
done
exit $failed
