#!/usr/bin/env bash
# The checks themselves are checked: each must find a planted offence.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
mkdir -p "$temporary"/{base,proto,storage,broker,client/examples,tools,bench}

expect() { # expect CLEAN|FOUND SCRIPT
  if "$here/$2" "$temporary" >"$temporary/out" 2>&1; then got=CLEAN; else got=FOUND; fi
  [ "$got" = "$1" ] || { echo "$2: expected $1, got $got"; cat "$temporary/out"; exit 1; }
}
expect CLEAN layers.sh
echo '#include "broker/shard.h"' >"$temporary/storage/bad.c"
expect FOUND layers.sh
echo '#include "storage/wal.h"' >"$temporary/storage/bad.c"
expect CLEAN layers.sh
echo '#include "base/io.h"' >"$temporary/client/examples/bad.c"
expect FOUND layers.sh
rm "$temporary/client/examples/bad.c"
expect CLEAN seam.sh
echo 'int x = fsync(3);' >"$temporary/storage/bad.c"
expect FOUND seam.sh
echo 'int x = io_fsync(3);' >"$temporary/storage/bad.c"
expect CLEAN seam.sh
echo 'struct a { int b };' >"$temporary/base/bad.h"
expect FOUND headers.sh
echo "the checks find what is planted"
