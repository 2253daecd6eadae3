#!/usr/bin/env bash
# Each planted bug is caught by the check that plants.txt names, for the reason it names; without the bug the same check passes.
#   run.sh BIN_DIR [NAME...]       BIN_DIR: of a build with SLUICE_PLANTS=ON; NAME: part of a plant's name
# Two checks run side by side. The last line counts; exit 1 if a bug survives or a check fails without one.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "${1:?usage: run.sh BIN_DIR [NAME...]}" && pwd)
shift
only=("$@")
io=${SLUICE_TEST_IO:-auto}
work=$(mktemp -d "${SLUICE_TEST_DIR:-$bin/..}/plants.XXXXXX")
cleanup() {
  local job
  for job in $(jobs -p); do kill "$job" 2>/dev/null; done
  wait
  rm -rf "$work"
}
trap cleanup EXIT
cd "$here/../.." # golden files are found from here
jobs_max=2
refusals=$(for i in $(seq 40 30 700); do printf 'plant_refuse_one@%s=ON,' "$i"; done)

trim() { sed -E 's/^ +//; s/ +$//' <<<"$1"; }

wanted() { # wanted PLANT
  local name
  [ ${#only[@]} -eq 0 ] && return 0
  for name in "${only[@]}"; do [[ $1 == *"$name"* ]] && return 0; done
  return 1
}

# check FAULT DIR KIND ARGUMENT...: as it exits; a test that does not exist fails with 99.
check() {
  local fault=$1 dir=$2 kind=$3
  shift 3
  case $kind in
  unit)
    SLUICE_FAULT=$fault timeout --kill-after=5 60 "$bin/sluice_test_$1" --filter "$2" --jobs 1 --timeout 20 --color=never \
      >"$dir/out" 2>&1
    local status=$?
    grep -aq 'Tested: 1 ' "$dir/out" || return 99
    return $status
    ;;
  bitrot) SLUICE_FAULT=$fault timeout --kill-after=5 60 "$bin/sluice-bitrot" --jobs 1 "$@" >"$dir/out" 2>&1 ;;
  sim) timeout --kill-after=5 120 "$bin/sluice-sim" --jobs 1 --quiet ${fault:+--fault "$fault"} "$@" >"$dir/out" 2>&1 ;;
  crash) timeout --kill-after=5 60 "$bin/sluice-crash" --jobs 1 --quiet ${fault:+--fault "$fault"} "$@" >"$dir/out" 2>&1 ;;
  sweep)
    SLUICE_FAULT=$fault timeout --kill-after=5 60 "$bin/sluice-fault-sweep" "$bin" "$dir" --io "$io" --seconds-max 5 "$@" \
      >"$dir/out" 2>&1
    ;;
  sweep-*) SLUICE_FAULT=$fault timeout --kill-after=5 180 "$bin/sluice-sweep" "${kind#sweep-}" --jobs 1 --stop "$@" >"$dir/out" 2>&1 ;;
  history)
    SLUICE_FAULT=$fault timeout --kill-after=5 120 "$bin/sluice-txn-loop" "$bin" "$dir/data" --cycles "$2" --io "$io" \
      ${fault:+--expect "$1"} >"$dir/out" 2>&1
    ;;
  *) return 99 ;;
  esac
}

# Seen means: a history test that exits 0 (it was told what to expect), any other that fails; and the words.
one() { # one NUMBER FAULT CHECK PATTERN
  local dir=$work/$1 fault=$2 pattern=$4 status=0 started=$SECONDS caught=0
  local -a arguments
  read -ra arguments <<<"$3"
  mkdir -p "$dir"
  check "${fault//REFUSALS/${refusals%,}}" "$dir" "${arguments[@]}" || status=$?
  if [ "${arguments[0]}" = history ]; then [ $status -eq 0 ] && caught=1; else [ $status -ne 0 ] && [ $status -ne 99 ] && caught=1; fi
  grep -aEq -- "$pattern" "$dir/out" || caught=0
  if [ $caught = 1 ]; then
    echo "caught    ${fault:0:34} by $3 ($((SECONDS - started)) s)"
    echo caught >"$dir/result"
  else
    echo "SURVIVED  $fault: $3 (exit $status), expected /$pattern/"
    tail -n 15 "$dir/out"
  fi
  rm -rf "$dir/data"* "$dir/run"*
}

baseline() { # baseline NUMBER CHECK
  local dir=$work/$1 status=0
  local -a arguments
  read -ra arguments <<<"$2"
  mkdir -p "$dir"
  check "" "$dir" "${arguments[@]}" || status=$?
  if [ $status = 0 ]; then
    echo caught >"$dir/result"
  else
    echo "FAILS     without any planted bug: $2 (exit $status)"
    tail -n 15 "$dir/out"
  fi
  rm -rf "$dir/data"*
}

pool() { while [ "$(jobs -rp | wc -l)" -ge $jobs_max ]; do wait -n; done; }

number=0
declare -A checked
while IFS='|' read -r fault check pattern; do
  fault=$(trim "$fault") check=$(trim "$check") pattern=$(trim "$pattern")
  [[ -z $fault || $fault == \#* ]] && continue
  wanted "$fault" || continue
  key=$check
  [[ $check == history* ]] && key="history - 3" # the same loop for all of them
  if [ -z "${checked[$key]:-}" ]; then
    checked[$key]=1
    pool
    number=$((number + 1))
    baseline $number "$key" &
  fi
  pool
  number=$((number + 1))
  one $number "$fault" "$check" "$pattern" &
done <"$here/plants.txt"
wait
good=$(cat "$work"/*/result 2>/dev/null | wc -l)
echo "$number checks with and without planted bugs, $((number - good)) not as they must be"
[ "$number" -gt 0 ] && [ "$good" -eq "$number" ]
