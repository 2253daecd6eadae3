#!/usr/bin/env bash
# Holds every include against the arrows between the folders (ARCHITECTURE.md), so that a
# dependency in the wrong direction fails the build and not a review.
#   layers.sh [ROOT]     prints each offence as FILE:LINE: text; exit 0 clean, 1 offences
set -euo pipefail
root=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
cd "$root"

declare -A may=(
  [base]="base"
  [proto]="proto base"
  [storage]="storage proto base"
  [broker]="broker storage proto base"
  [client]="client proto base"
  [tools]="tools client proto storage base"
  [bench]="bench client proto base"
)
offences=0
for folder in "${!may[@]}"; do
  [ -d "$folder" ] || continue
  while IFS=: read -r file line text; do
    target=${text#*\"}; target=${target%%/*}
    case $file:$target in bench/micro/*:storage) continue ;; esac # no part of sluice-bench: measures what nobody may call
    case " ${may[$folder]} " in
    *" $target "*) ;;
    *) echo "$file:$line: $folder may not include $target/ (allowed: ${may[$folder]})"; offences=1 ;;
    esac
  done < <(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"[a-z_]+/' "$folder" --include='*.[ch]' || true)
done

# Examples see what a user sees.
if grep -rnE '#[[:space:]]*include[[:space:]]+"' client/examples --include='*.c' 2>/dev/null; then
  echo "client/examples: only <sluice.h> and system headers"; offences=1
fi
exit $offences
