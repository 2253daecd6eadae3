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

# Texts: one planted sentence at a time, in a tree where everything else is right.
mkdir -p "$temporary"/docs/man "$temporary"/client/include
echo 'int shard_step(struct shard *shard)' >"$temporary/broker/shard.c"
text() { # text CLEAN|FOUND SENTENCE
  printf '# A heading: `x`\n%s\n' "$2" >"$temporary/README.md"
  expect "$1" docs.sh
}
text CLEAN 'See [shard](broker/shard.c), [above](#a-heading-x), [there](https://example.org/none).'
text FOUND 'See [shard](broker/shards.c).'
text FOUND 'See [above](#another-heading).'
text CLEAN '`shard_step()` in `broker/shard.c` or `shard.c`'
text FOUND '`shard_stop()`'
text FOUND '`storage/shard.c`'
text FOUND '`hard.c`'
echo 'KEY(COUNT, cores, "all", 1, 64, "all", CONFIG_OPTION, "")' >"$temporary/broker/config.def"
page() { # page NAME LINE...: a man page
  printf '.Dd November 21, 2026\n.Dt X %s\n.Os\n.Sh NAME\n.Nm x\n.Nd y\n' "${1#*.}" >"$temporary/docs/man/$1"
  printf '%s\n' "${@:2}" >>"$temporary/docs/man/$1"
}
common=('.Fl -config , Fl -check , Fl -set' '.Fl -version' '.Fl -help')
page sluiced.8 '.Fl -cores Ar n' "${common[@]}"
text CLEAN ''
page sluiced.8 '.Fl -cpus Ar n' 'No cores.' "${common[@]}"
text FOUND ''
rm "$temporary/docs/man/sluiced.8"
echo 'SLUICE_API int sluice_client_wait(struct sluice_client *client);' >"$temporary/client/include/sluice.h"
page libsluice.3 '.Fn sluice_client_wait "struct sluice_client *client"'
text CLEAN ''
page libsluice.3 '.Fn sluice_client_new "struct sluice_client *client"'
text FOUND ''
rm "$temporary/docs/man/libsluice.3"
if command -v mandoc >/dev/null; then
  page other.1 '.Bl -bullet'
  text FOUND ''
fi
echo "the checks find what is planted"
