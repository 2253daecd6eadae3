#!/usr/bin/env bash
# The test command: every check once, on both compilers, both I/O backends, and under the sanitizers.
#   run.sh [--full]
# Each step's output goes to build/logs/STEP.log; a failed one is shown. The last line counts what ran.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
full=0
[ "${1:-}" = --full ] && full=1
jobs=$(nproc)
logs=$root/build/logs
rm -rf "$logs"
mkdir -p "$logs"
passed=0 failed=0 skipped=0
step_seconds_max=600
[ "$full" = 1 ] && step_seconds_max=3600
bin=$root/build/release/bin

# logged NAME COMMAND...: its output goes to its log; nothing hangs for ever.
logged() {
  local name=$1 run=()
  shift
  [ "$(type -t "$1")" = file ] && run=(timeout --kill-after=30 "$step_seconds_max")
  "${run[@]}" "$@" >"$logs/$name.log" 2>&1 </dev/null
}

# report NAME STATUS SECONDS: exit status 0 passes, 77 skips, anything else fails.
report() {
  case $2 in
  0) passed=$((passed + 1)); echo "ok    $1 ($3 s)" ;;
  77) skipped=$((skipped + 1)); echo "skip  $1: $(tail -n 1 "$logs/$1.log")" ;;
  *) failed=$((failed + 1)); echo "FAIL  $1 (exit $2, $logs/$1.log)"; tail -n 40 "$logs/$1.log" | sed 's/^/      /' ;;
  esac
  return "$2"
}

step() { # step NAME COMMAND...
  local name=$1 started=$SECONDS status=0
  logged "$@" || status=$?
  report "$name" "$status" $((SECONDS - started))
}

# integration SCRIPT...: with each I/O backend, or once if it says "# backends: any" in its head; several at the same time, since
# most of them wait more than they work.
integration() {
  local script name io names=()
  for script in "$@"; do
    for io in uring epoll; do
      name=$(basename "$script" .sh)-$io
      if head -n 5 "$script" | grep -q '^# backends: any'; then
        [ $io = uring ] || continue
        name=$(basename "$script" .sh) io=auto
      fi
      while [ "$(jobs -rp | wc -l)" -ge $((2 * jobs)) ]; do wait -n; done
      (
        started=$SECONDS status=0
        logged "$name" env SLUICE_TEST_IO=$io SLUICE_TEST_FULL=$full bash "$script" "$bin" || status=$?
        echo "$status $((SECONDS - started))" >"$logs/$name.result"
      ) &
      names+=("$name")
    done
  done
  wait
  for name in "${names[@]}"; do
    # shellcheck disable=SC2046
    report "$name" $(cat "$logs/$name.result")
  done
}

# suite NAME BUILD_DIR [CTEST ARGUMENT...]: every test of a build counts by itself.
suite() {
  local name=$1 dir=$2 started=$SECONDS line total lost skips
  shift 2
  ctest --test-dir "$dir" -j "$jobs" --output-on-failure "$@" >"$logs/$name.log" 2>&1 </dev/null
  line=$(grep -E 'tests passed, [0-9]+ tests failed out of [0-9]+' "$logs/$name.log" | tail -n 1)
  total=$(sed -nE 's/.*out of ([0-9]+).*/\1/p' <<<"$line")
  lost=$(sed -nE 's/.* ([0-9]+) tests? failed.*/\1/p' <<<"$line")
  skips=$(grep -c -E '\*\*\*Skipped' "$logs/$name.log")
  if [ -z "$total" ]; then
    failed=$((failed + 1)); echo "FAIL  $name: no test ran"; tail -n 20 "$logs/$name.log"; return 1
  fi
  passed=$((passed + total - lost - skips)); failed=$((failed + lost)); skipped=$((skipped + skips))
  if [ "$lost" -gt 0 ]; then
    echo "FAIL  $name: $lost of $total ($logs/$name.log)"
    grep -vE '^ +(Start|Test +#)' "$logs/$name.log" | tail -n 60 | sed 's/^/      /'
    return 1
  fi
  echo "ok    $name: $total tests, $skips skipped ($((SECONDS - started)) s)"
}

build() { # build PRESET [TARGET...]
  local preset=$1
  shift
  cmake --preset "$preset" && cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"} -- --quiet
}

format_check() { git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror; }

echo "# checks of the source"
step lint-checks tests/lint/lint_test.sh
step lint-layers tests/lint/layers.sh
step lint-seam tests/lint/seam.sh
step lint-words tests/lint/words.sh
step lint-headers tests/lint/headers.sh
step lint-docs tests/lint/docs.sh
step lint-format format_check

echo "# gcc, release"
if step build-gcc build release; then
  suite unit build/release -LE 'stress|fuzz|bitrot'
  suite stress build/release -L stress
  suite bitrot build/release -L bitrot
  integration tests/integration/*_test.sh
  step main-job tests/integration/main_job.sh "$bin"
  step sim "$bin/sluice-sim" --seeds "$([ "$full" = 1 ] && echo 20000 || echo 500)" --jobs "$jobs"
  step sim-twice "$bin/sluice-sim" --seeds 10 --from 900001 --twice
  step sim-lying "$bin/sluice-sim" --seeds 200 --from 700001 --lying --jobs "$jobs"
  step crash "$bin/sluice-crash" --images "$([ "$full" = 1 ] && echo 50000 || echo 5000)" --jobs "$jobs" --quiet
  [ "$full" = 1 ] && step crash-all "$bin/sluice-crash" --all --trace-seed 3 --quiet
  every=211 # besides the first of each kind
  [ "$full" = 1 ] && every=5
  step sweep-io "$bin/sluice-sweep" io --sample "$every" --jobs "$jobs"
  step sweep-sockets "$bin/sluice-sweep" sockets --sample "$every" --jobs "$jobs"
  step sweep-memory "$bin/sluice-sweep" memory --sample "$every" --jobs "$jobs"
  step soak env SLUICE_TEST_FULL=$full bash tests/soak/soak_test.sh "$bin"
fi

echo "# models: rings, sleep and mailboxes under weak memory; two-phase commit with crashes"
form=$([ "$full" = 1 ] && echo --full)
step model-rings tests/model/run.sh ${form:+"$form"}
step model-txn tests/model/txn.sh ${form:+"$form"}

echo "# bugs planted on purpose, each of which its check must catch"
planted="sluiced sluice-txn-loop sluice-fault-sweep sluice-bitrot sluice-crash sluice-sim sluice-sweep sluice_test_storage sluice_test_broker"
[ "$full" = 1 ] && planted="$planted sluicectl sluice-soak"
# shellcheck disable=SC2086
if step build-planted build planted $planted; then
  step planted tests/plants/run.sh "$root/build/planted/bin"
  [ "$full" = 1 ] && step planted-soak bash tests/soak/plants.sh "$root/build/planted/bin"
fi

echo "# clang, with address and undefined behaviour sanitizers"
if step build-sanitizers build clang-sanitizers; then
  export ASAN_OPTIONS=abort_on_error=1:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
  [ "$full" = 1 ] || export SLUICE_SEEDS=1/4 # all of them ran in the release build
  suite sanitizers build/clang-sanitizers -LE 'stress|bitrot|fuzz'
  unset SLUICE_SEEDS
  step smoke-sanitizers env SLUICE_TEST_IO=epoll bash tests/integration/round_trip_test.sh "$root/build/clang-sanitizers/bin"
  step txn-sanitizers env SLUICE_TEST_IO=epoll bash tests/integration/txn_test.sh "$root/build/clang-sanitizers/bin"
  step sim-sanitizers build/clang-sanitizers/bin/sluice-sim --seeds 10 --from 800001 --jobs "$jobs"
  step hostile-sanitizers env SLUICE_TEST_IO=uring bash tests/integration/hostile_test.sh "$root/build/clang-sanitizers/bin"
fi

echo "# thread sanitizer: what is concurrent, on the epoll backend"
if step build-tsan build tsan stress_programs sluiced sluicectl; then
  export TSAN_OPTIONS=halt_on_error=1
  suite tsan build/tsan -L stress
  step smoke-tsan env SLUICE_TEST_IO=epoll SLUICE_TEST_ARGS="--cores 4 --set shards=3" \
    bash tests/integration/round_trip_test.sh "$root/build/tsan/bin"
  # The broker alone: its clients are forked, which the sanitizer does not follow.
  mkdir -p build/tsan/mixed
  ln -sf "$bin"/* "$root/build/tsan/bin/sluiced" build/tsan/mixed/
  step txn-tsan env SLUICE_TEST_IO=epoll bash tests/integration/txn_test.sh "$root/build/tsan/mixed"
fi

echo "# fuzzing: the corpora and five seconds of each target"
step fuzz tests/fuzz/run.sh all --seconds 5 --fresh

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
