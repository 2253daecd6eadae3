#!/usr/bin/env bash
# Holds the texts against the tree: what they link to and what they name must exist, and what users type or
# call must be in the man pages.
#   docs.sh [ROOT]       prints each offence as FILE: text; exit 0 clean, 1 offences
set -euo pipefail
root=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
cd "$root"
offences=0
offence() { echo "$1: $2"; offences=1; }

texts() { find . -name '*.md' -not -path './build/*' -not -path './.git/*' | sed 's|^\./||' | sort; }

# prose FILE: without code blocks, in which brackets and names mean something else.
prose() { awk '/^ *```/ { inside = !inside; next } !inside' "$1"; }

# anchors FILE: what its headings can be linked as.
anchors() {
  prose "$1" | sed -nE 's/^#+ +//p' | sed -E 's/\[([^]]*)\]\([^)]*\)/\1/g' | tr 'A-Z' 'a-z' |
    sed -E 's/[^a-z0-9 _-]//g; s/ /-/g'
}

# ---- links

while read -r text; do
  while read -r target; do
    case $target in *://* | mailto:*) continue ;; esac
    path=${target%%#*} anchor=""
    [[ $target == *#* ]] && anchor=${target#*#}
    if [ -n "$path" ]; then path=$(dirname "$text")/$path; else path=$text; fi
    if [ ! -e "$path" ]; then
      offence "$text" "link to $target: there is no such file"
    elif [ -n "$anchor" ] && ! grep -qxF -- "$anchor" <<<"$(anchors "$path")"; then
      offence "$text" "link to $target: there is no such heading"
    fi
  done < <(prose "$text" | grep -oE '\]\([^) ]+\)' | sed -E 's/^\]\(//; s/\)$//' || true)
done < <(texts)

# ---- files and functions named in backticks; NAME, FOLDER, MODULE stand for any

sources=$(mktemp)
trap 'rm -f "$sources" "$sources.names"' EXIT
find . -not -path './build/*' -not -path './.git/*' -type f | sed 's|^\./||' >"$sources"
# A function is known by a line at the left margin that has its name and a bracket, or by a #define.
find . -name '*.[ch]' -not -path './build/*' -print0 | xargs -0 -r cat |
  { grep -E '^(#define )?[A-Za-z_]' || true; } | { grep -oE '[A-Za-z_][A-Za-z0-9_]*\(' || true; } |
  sort -u >"$sources.names"

while read -r text; do
  while read -r name; do
    grep -qE "(^|/)${name//./\\.}\$" "$sources" || offence "$text" "\`$name\`: there is no such file"
  done < <(prose "$text" | grep -oE '`[A-Za-z0-9_./-]+\.(c|h|def|sh|md)`' | tr -d '`' |
    grep -vE 'NAME|FOLDER|MODULE' | sort -u || true)
  while read -r name; do
    grep -qxF -- "$name(" "$sources.names" || offence "$text" "\`$name()\`: there is no such function"
  done < <(prose "$text" | grep -oE '`[a-z][a-z0-9]*_[a-z0-9_]*\(\)`' | tr -d '`()' | sort -u || true)
done < <(texts)

# ---- man pages: every option and every function

in_page() { # in_page PAGE WORD...: options are written "Fl -name" there, functions "Fn name" or "Fo name"
  local page=$1 word written
  shift
  [ -f "$page" ] || return 0
  written=$({ grep -oE '(Fl -|F[no] )[a-z0-9_-]+' "$page" || true; } | sed -E 's/^(Fl -|F[no] )//')
  for word in "$@"; do
    grep -qxF -- "$word" <<<"$written" || offence "$page" "lacks $word"
  done
}
words() { # words FILE EXPRESSION: the first group of each match
  [ -f "$1" ] || return 0
  grep -oE "$2" "$1" | sed -E "s/$2/\\1/"
}
in_page docs/man/sluiced.8 config check set version help \
  $(words broker/config.def '^KEY\([A-Z]+, ([a-z_]+), .*CONFIG_OPTION' | tr _ -)
in_page docs/man/sluicectl.1 $(cat tools/*.c 2>/dev/null | grep -oE '\{"[a-z-]+", (required|no)_argument' |
  cut -d'"' -f2 | sort -u)
in_page docs/man/sluice-bench.1 help $(words bench/options.c '\{"([a-z-]+)", [A-Z]+, (ALL|BENCH).*')
in_page docs/man/libsluice.3 $(words client/include/sluice.h '^SLUICE_API [a-z_0-9 *]*[ *](sluice_[a-z_]+)\(.*')
if command -v mandoc >/dev/null; then
  for page in docs/man/*.[138]; do
    [ ! -f "$page" ] || mandoc -T lint -W warning "$page" || offences=1
  done
fi
exit $offences
