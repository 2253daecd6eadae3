#!/usr/bin/env bash
# The main job on Debian's own package catalogue (apt-cache dumpavail).
#   main_job.sh BIN_DIR
set -euo pipefail
bin=$(cd "${1:?usage: main_job.sh BIN_DIR}" && pwd)
base=${SLUICE_TEST_DIR:-$bin/../run}
mkdir -p "$base"
work=$(mktemp -d "$base/main-job.XXXXXX")
trap 'rm -rf "$work"' EXIT

apt-cache dumpavail >"$work/catalogue"
if [ "$(grep -c '^Package: ' "$work/catalogue")" -lt 10000 ]; then
  echo "fetching Debian's package lists" >&2
  as_root=(); [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  apt-cache dumpavail >"$work/catalogue"
fi
if ! "$bin/sluice-main-job" "$bin" "$work/data" "$work/catalogue"; then
  echo "--- the broker's log" >&2
  tail -n 40 "$work/data.log" >&2
  exit 1
fi
