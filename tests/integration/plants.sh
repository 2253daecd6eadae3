#!/usr/bin/env bash
# The checker of histories sees each anomaly in a real broker that has a bug planted on purpose (base/plant.h). Needs a build
# with SLUICE_PLANTS=ON.
#   plants.sh BIN_DIR [ANOMALY...]
. "$(dirname "$0")/lib.sh"
shift
only=" $* "
failed=0
planted() { # planted ANOMALY FAULTS [KILLS]
  [ "$only" = "  " ] || [[ $only == *" $1 "* ]] || return 0
  rm -rf "$work/data" "$work/data.log"
  if SLUICE_FAULT=$2 "$bin/sluice-txn-loop" "$bin" "$work/data" --cycles "${3:-4}" --io "$io" --expect "$1" >"$work/out" 2>&1; then
    echo "seen      $1 (${2:0:60})"
  else
    echo "NOT SEEN  $1 ($2)"
    cat "$work/out"
    tail -n 5 "$work/data.log"
    failed=1
  fi
}
refusals=$(for i in $(seq 40 30 700); do printf ',plant_refuse_one@%s=ON' "$i"; done)
planted LOST plant_lose_batch@100=ON
planted DUPLICATE plant_forget_sequence@1+=ON,shard_crash_ack@60=CRASH 20 # what is stored and not acked is sent again
planted REORDERED "plant_take_gaps@1+=ON$refusals"
planted ABORTED_READ plant_abort_commits@20=ON
planted UNCOMMITTED_READ plant_prepare_commits@1+=ON
planted TORN plant_commit_forgotten@40=ON
planted OFFSET_BACK plant_end_back@60=ON
planted HOLE plant_skip_offset@100+=ON
planted STUCK plant_no_wake@500+=ON
planted INCONSISTENT plant_wrong_offset@20=ON
[ $failed = 0 ]
