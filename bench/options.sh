# The command lines of this folder's scripts: sourced.

# take_options "NAME..." [ARGUMENT...]: BIN_DIR becomes bin, --NAME VALUE becomes $NAME, a lone --NAME- of the list becomes NAME=1. Then bin
# has been looked at, out (set before, or by --out) is there, and work is an empty folder in it.
take_options() {
  local known=" $1 " name
  shift
  bin=
  while [ $# -gt 0 ]; do
    name=${1#--}
    case $1 in
    --*)
      if [[ $known == *" $name- "* ]]; then
        printf -v "$name" 1
      elif [[ $known == *" $name "* ]] && [ -n "${2:-}" ]; then
        printf -v "$name" %s "$2"
        shift
      else
        usage "$1"
      fi
      ;;
    *)
      [ -z "$bin" ] && [ -d "$1" ] || usage "$1"
      bin=$(realpath "$1")
      ;;
    esac
    shift
  done
  [ -n "$bin" ] || usage
  [ -x "$bin/sluiced" ] && [ -x "$bin/sluice-bench" ] || usage "$bin: no sluiced and sluice-bench there"
  mkdir -p "$out" || exit 1
  out=$(realpath "$out")
  work=$(mktemp -d "$out/run.XXXXXX") || exit 1
}

# usage [WHAT]: the lines of the script's head that begin with its name, and what was wrong
usage() {
  [ $# -eq 0 ] || echo "${0##*/}: $1" >&2
  (cd "$OLDPWD" && sed -n '/^#   [a-z]*\.sh /s/^#  */usage: /p' "$0") >&2 # the script went to the repository's root
  exit 2
}
