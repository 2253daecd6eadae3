# The command lines of this folder's scripts: sourced. They are called from anywhere and work in the repository's root.

# take_options "NAME..." [ARGUMENT...]: BIN_DIR becomes bin, --NAME VALUE becomes $NAME, a lone --NAME- of the list becomes NAME=1. Then bin
# has been looked at, out (set before, or by --out) is there, and work is an empty folder in it. --only names some of $choices.
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
        take_value "$name" "$2"
        shift
      else
        usage "$1"
      fi
      ;;
    *)
      [ -z "$bin" ] || usage "$1"
      bin=$(caller_path "$1")
      ;;
    esac
    shift
  done
  [ -n "$bin" ] || usage
  [ -x "$bin/sluiced" ] && [ -x "$bin/sluice-bench" ] || usage "$bin: no sluiced and sluice-bench there"
  mkdir -p "$out" || exit 1
  out=$(realpath "$out")
  work=$(mktemp -d "$out/run.XXXXXX") || exit 1
  trap 'kill ${watched_pid:-} 2>/dev/null; exit 143' INT TERM
}

take_value() { # take_value NAME VALUE
  local choice
  case $1 in
  seconds) [[ $2 =~ ^([0-9]+|[0-9]*\.[0-9]+)$ && $2 =~ [1-9] ]] || usage "--seconds $2: a number above 0" ;;
  repeat | rounds) [[ $2 =~ ^[1-9][0-9]*$ ]] || usage "--$1 $2: a number, at least 1" ;;
  only)
    for choice in ${2//,/ }; do
      [[ " $choices " == *" $choice "* ]] || usage "--only $choice: one of $choices"
    done
    ;;
  out)
    out=$(caller_path "$2")
    return
    ;;
  esac
  printf -v "$1" %s "$2"
}

# A path that is relative is so to where the script was called; it went to the repository's root.
caller_path() { (cd "${OLDPWD:-.}" && realpath -m -- "$1"); }

is_wanted() { [ -z "$only" ] || [[ ",$only," == *",$1,"* ]]; } # is_wanted CHOICE

times() { awk -v a="$1" -v b="$2" 'BEGIN { print a * b }'; }

# watched COMMAND...: it ends with the script.
watched() {
  "$@" &
  watched_pid=$!
  wait "$watched_pid"
}

# usage [WHAT]: the lines of the script's head that begin with its name, and what was wrong
usage() {
  [ $# -eq 0 ] || echo "${0##*/}: $1" >&2
  sed -n '/^#   [a-z]*\.sh /s/^#  */usage: /p' "$(caller_path "$0")" >&2
  exit 2
}
