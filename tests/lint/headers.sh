#!/usr/bin/env bash
# Every header compiles alone, from the repository root, with both compilers.
set -euo pipefail
root=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
cd "$root"
failed=0
for compiler in gcc clang; do
  command -v "$compiler" >/dev/null || continue
  while read -r header; do
    if ! printf '#include "%s"\n' "$header" |
      "$compiler" -std=gnu17 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused-parameter \
        -Wno-missing-field-initializers -I. -fsyntax-only -x c - 2>/tmp/header.$$; then
      echo "$header: does not compile alone ($compiler)"; sed 's/^/    /' /tmp/header.$$; failed=1
    fi
  done < <(find base proto storage broker client tools bench -name '*.h' | sort)
done
rm -f /tmp/header.$$
exit $failed
