#!/usr/bin/env bash
# Explores the rings, the sleep and the mailboxes, and looks whether weakened memory orders and planted mistakes are found.
#   run.sh [--full]     exit 0 as expected, 1 not. The programs are made in build/release
set -uo pipefail
cd "$(dirname "$0")/../.."
full=0
[ "${1:-}" = --full ] && full=1
wrong=0
run() { "$@" || wrong=$((wrong + 1)); }

cmake --preset release >/dev/null && cmake --build --preset release -j "$(nproc)" --target model_programs -- --quiet || exit 1
bin=build/release/bin
run $bin/sluice_model litmus
echo "# what io.c does where fences are not understood"
run $bin/sluice_model_rmw run wake_spsc wake_spsc_2 wake_mpsc wake_mpsc_2 mailbox_ask mailbox_announce
echo "# the product"
if [ "$full" = 1 ]; then
  run $bin/sluice_model run
  run $bin/sluice_model weaken
else
  run $bin/sluice_model run --short
  run $bin/sluice_model weaken 2000
fi
echo "# mistakes"
found=0
for program in $bin/sluice_mutation_*; do
  if text=$("$program" hunt); then
    found=$((found + 1)); echo "ok    ${program##*sluice_mutation_}: $text"
  else
    wrong=$((wrong + 1)); echo "FAIL  ${program##*sluice_mutation_}: $text"
  fi
done
[ "$found" -gt 0 ] || wrong=$((wrong + 1))
echo "$found mistakes found, $wrong wrong"
[ "$wrong" -eq 0 ]
