#!/usr/bin/env bash
# Fuzz targets under libFuzzer, with address and undefined behaviour sanitizers (clang).
#   run.sh [TARGET...|all] [--seconds N] [--runs N] [--goal] [--fresh]     default: all, 60 s each
#   run.sh --merge TARGET...|all
# Up to as many targets run side by side as there are CPUs. What is found new goes to build/fuzz/corpus/TARGET, so a later run
# goes on from there; an input that fails stays as build/fuzz/failed/TARGET-*, with the command that runs it again.
#   --runs N   stop after N runs of each target, or after --seconds, whatever comes first
#   --goal     the full figure of each target (tests/fuzz/targets), less what earlier runs have done of it; one target after
#              another, each on all CPUs. May be interrupted and called again; with --seconds, so long for each target
#   --fresh    begin with the repository's corpus and keep nothing: for the test command
#   --merge    minimise build/fuzz/corpus/TARGET into the repository's corpus; files named by people stay
# Each run is a line of build/fuzz/runs.tsv: when, commit, target, runs, seconds, ms of CPU, new files, peak MiB, how it ended. Exit: 0 nothing found; 1 something was, or the corpora are too large; 2 usage; 77 no
# clang with libFuzzer.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=$PWD/build/fuzz
table=$build/runs.tsv
corpora_bytes_max=$((2 * 1024 * 1024))

known=()
for source in tests/fuzz/fuzz_*.c; do
  name=${source##*/fuzz_}
  known+=("${name%.c}")
done

usage() {
  echo "usage: run.sh [TARGET...|all] [--seconds N] [--runs N] [--goal] [--fresh] | --merge TARGET...|all" >&2
  echo "targets: ${known[*]}" >&2
  exit 2
}

number() { [[ ${1:-} =~ ^[0-9]+$ ]] && [ "$1" -gt 0 ] || usage; }

seconds='' runs='' goal=0 fresh=0 merge=0 targets=()
while [ $# -gt 0 ]; do
  case $1 in
  --seconds) number "${2:-}"; seconds=$2; shift ;;
  --runs) number "${2:-}"; runs=$2; shift ;;
  --goal) goal=1 ;;
  --fresh) fresh=1 ;;
  --merge) merge=1 ;;
  all) targets+=("${known[@]}") ;;
  *)
    [[ " ${known[*]} " == *" $1 "* ]] || { echo "run.sh: unknown target \"$1\"" >&2; usage; }
    targets+=("$1")
    ;;
  esac
  shift
done
[ $((goal + merge)) -lt 2 ] || usage
if [ ${#targets[@]} -eq 0 ]; then
  [ $merge = 0 ] || usage
  targets=("${known[@]}")
fi
[ -n "$seconds$runs" ] || [ $goal = 1 ] || seconds=60

if ! echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n > 99; }' |
  clang -x c -fsanitize=fuzzer,address - -o /dev/null 2>/dev/null; then
  echo "no clang with libFuzzer here"
  exit 77
fi

# ---- build and settings ----

mkdir -p "$build/failed" "$build/corpus"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=clang \
  -DSLUICE_FUZZ=ON -DSLUICE_SANITIZE=address,undefined >"$build/cmake.log" || { cat "$build/cmake.log"; exit 1; }
cmake --build "$build" --target "${targets[@]/#/fuzz_}" -- --quiet || exit 1
sed -nE 's/^KEY\([A-Z]+, ([a-z_0-9]+),.*/"\1"/p' broker/config.def | cat tests/fuzz/config.dict - >"$build/config.dict"
# Freed blocks stay poisoned up to 16 MiB, not 256: a store takes and frees 28 MiB a run.
export ASAN_OPTIONS=${ASAN_OPTIONS:-quarantine_size_mb=16:malloc_context_size=8}

length_of() { awk -v name="$1" '$1 == name { n = $2 } END { print n ? n : 4096 }' tests/fuzz/targets; }
goal_of() { awk -v name="$1" '$1 == name { n = $3 } END { print n ? n : 1000000 }' tests/fuzz/targets; }
options_of() {
  awk -v name="$1" '$1 == name { $1 = $2 = $3 = ""; print }' tests/fuzz/targets
  if [ -f "$build/$1.dict" ]; then echo "-dict=$build/$1.dict"
  elif [ -f "tests/fuzz/$1.dict" ]; then echo "-dict=tests/fuzz/$1.dict"
  fi
}

stat_of() { sed -nE "s/^stat::$2: *([0-9]+)/\1/p" "$1" | tail -n 1; }
files_in() { find "$1" -type f | wc -l; }

# ---- runs ----

# run_one NAME PART RUNS: one process; its line goes to $results.
run_one() {
  local name=$1 log=$build/$1.$2.log corpus=$build/corpus/$1 started=$SECONDS before status=ok limits=()
  [ $fresh = 0 ] || corpus=$(mktemp -d)
  mkdir -p "$corpus" "tests/fuzz/corpus/$name"
  before=$(files_in "$corpus")
  [ -z "$seconds" ] || limits+=("-max_total_time=$seconds")
  [ -z "$3" ] || limits+=("-runs=$3")
  # shellcheck disable=SC2046
  "$build/bin/fuzz_$name" "${limits[@]}" -max_len="$(length_of "$name")" -timeout=20 -rss_limit_mb=2048 \
    -print_final_stats=1 -artifact_prefix="$build/failed/$name-" $(options_of "$name") \
    "$corpus" "tests/fuzz/corpus/$name" >"$log" 2>&1 &
  local fuzzer=$! code
  trap 'kill -INT $fuzzer 2>/dev/null' INT TERM
  wait $fuzzer
  code=$?
  while kill -0 $fuzzer 2>/dev/null; do # the wait was interrupted, the fuzzer goes on to its last lines
    wait $fuzzer
    code=$?
  done
  trap - INT TERM
  case $code in
  0) ;;
  72) status=stopped ;;
  *) if grep -q 'run interrupted' "$log"; then status=stopped; else status=FAIL; fi ;;
  esac
  printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$(date +%FT%T)" "$(git rev-parse --short HEAD)" "$name" \
    "$(stat_of "$log" number_of_executed_units)" $((SECONDS - started)) "$(stat_of "$log" cpu_ms)" \
    $(($(files_in "$corpus") - before)) "$(stat_of "$log" peak_rss_mb)" $status | tee -a "$table" >>"$results"
  [ $fresh = 0 ] || rm -rf "$corpus"
  if [ $status != FAIL ]; then
    tail -n 1 "$results" | awk -F'\t' '{ printf "%-5s %-10s %10d runs  %4d new  %4d MiB  %d s\n", $9, $3, $4, $7, $8, $5 }'
  else
    echo "FAIL  $name ($log)"
    grep -vE '^#[0-9]' "$log" | tail -n 25 | sed 's/^/      /'
    sed -nE "s|.*Test unit written to (.*)|      again: $build/bin/fuzz_$name \\1|p" "$log"
  fi
}

# at_most N: waits until fewer than N processes run.
at_most() {
  while [ "$(jobs -rp | wc -l)" -ge "$1" ]; do
    wait -n 2>/dev/null
  done
}

run_all() {
  local name done left part
  for name in "${targets[@]}"; do
    [ -z "$stopped" ] || break
    if [ $goal = 0 ]; then
      at_most "$(nproc)"
      run_one "$name" 0 "$runs" &
      continue
    fi
    done=$(awk -F'\t' -v name="$name" '$3 == name { n += $4 } END { printf "%d", n }' "$table")
    left=$(($(goal_of "$name") - done))
    if [ $left -le 0 ]; then
      echo "ok    $name: its $(goal_of "$name") runs are done"
      continue
    fi
    for ((part = 0; part < $(nproc); part++)); do
      run_one "$name" $part $(((left + $(nproc) - 1) / $(nproc))) &
    done
    at_most 1
  done
  at_most 1
}

summary() {
  sort -t "$(printf '\t')" -k3,3 "$results" | awk -F'\t' '
    { if (!($3 in runs)) names[++count] = $3
      runs[$3] += $4; cpu_ms[$3] += $6; new[$3] += $7; if ($8 > rss[$3]) rss[$3] = $8; if ($9 != "ok") bad[$3] = "  " $9 }
    END { printf "%-10s %12s %10s %6s %9s\n", "target", "runs", "/s of CPU", "new", "peak MiB"
      for (i = 1; i <= count; i++) { n = names[i]
        printf "%-10s %12d %10d %6d %9d%s\n", n, runs[n], runs[n] * 1000 / (cpu_ms[n] + 1), new[n], rss[n], bad[n] } }'
}

# ---- the repository's corpora ----

merge_one() {
  local name=$1 to=tests/fuzz/corpus/$1 new
  new=$(mktemp -d)
  mkdir -p "$to" "$build/corpus/$name"
  find "$to" -type f -regextype posix-extended ! -regex '.*/[0-9a-f]{40}' -exec cp {} "$new" \;
  # shellcheck disable=SC2046
  "$build/bin/fuzz_$name" -merge=1 -use_counters=0 -max_len="$(length_of "$name")" -timeout=20 $(options_of "$name" | grep -v dict) \
    "$new" "$to" "$build/corpus/$name" >"$build/$name.merge.log" 2>&1 || { tail -n 20 "$build/$name.merge.log"; return 1; }
  find "$to" -type f -regextype posix-extended -regex '.*/[0-9a-f]{40}' -delete
  find "$new" -type f -exec cp {} "$to" \;
  rm -rf "$new"
  echo "$name: $(files_in "$to") files, $(cat "$to"/* | wc -c) bytes"
}

if [ $merge = 1 ]; then
  for name in "${targets[@]}"; do
    merge_one "$name" || exit 1
  done
  total=$(find tests/fuzz/corpus -type f -printf '%s\n' | awk '{ n += $1 } END { print n }')
  echo "all corpora: $total bytes of at most $corpora_bytes_max"
  [ "$total" -le $corpora_bytes_max ]
  exit
fi

results=$(mktemp)
stopped=''
trap 'stopped=1; kill -TERM $(jobs -rp) 2>/dev/null' INT TERM
touch "$table"
run_all
echo
summary
failed=$(grep -c 'FAIL$' "$results")
rm -f "$results"
[ -n "$stopped" ] && exit 130
[ "$failed" -eq 0 ]
