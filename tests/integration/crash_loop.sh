#!/usr/bin/env bash
# The crash loop for as long as one likes.   crash_loop.sh BIN_DIR --minutes M
bin=$(cd "${1:?}" && pwd)
shift
mkdir -p "$bin/../run"
work=$(mktemp -d "$bin/../run/soak.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$bin/sluice-crash-loop" "$bin" "$work/data" "$@" || { tail -n 40 "$work/data.log"; exit 1; }
