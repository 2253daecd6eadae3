#!/usr/bin/env bash
# Left-overs that must not be in the repository: open ends in code, and editors' or machines' traces.
set -euo pipefail
root=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
cd "$root"
failed=0
mark='\b(TO''DO|FIX''ME|XX''X|HA''CK)\b'
if git grep -nIE "$mark" -- '*.c' '*.h' '*.sh' dev 'CMakeLists.txt' '*.cmake' '*.md'; then
  echo "open ends in the code"; failed=1
fi
if git grep -nIE '[[:space:]]+$' -- '*.c' '*.h' '*.def' '*.sh' dev '*.md' '*.txt' '*.cmake'; then
  echo "trailing white space"; failed=1
fi
exit $failed
