#!/usr/bin/env bash
# The soak sees bugs that are planted on purpose (base/plant.h) in a broker under its own load. Needs a build with SLUICE_PLANTS=ON.
#   plants.sh BIN_DIR
. "$(dirname "$0")/../integration/lib.sh"
failed=0
planted() { # planted ANOMALY FAULTS
  if SLUICE_FAULT=$2 "$bin/sluice-soak" "$bin" "$work" --seed 5 --place plain --only kill --cycles 4 --expect "$1" >"$work/out" 2>&1; then
    echo "seen      $1 ($2)"
  else
    echo "NOT SEEN  $1 ($2)"
    cat "$work/out"
    failed=1
  fi
}
planted LOST plant_lose_batch@100=ON
planted TORN plant_commit_forgotten@40=ON
planted HOLE plant_skip_offset@100+=ON
[ $failed = 0 ]
