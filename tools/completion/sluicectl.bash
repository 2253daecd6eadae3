# bash completion for sluicectl
_sluicectl() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local commands="status topic produce consume group txn wal help" i command="" sub=""
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
    --server) i=$((i + 1)) ;;
    -*) ;;
    *) if [ -z "$command" ]; then command=${COMP_WORDS[i]}
       elif [ -z "$sub" ]; then sub=${COMP_WORDS[i]}; fi ;;
    esac
  done

  case $previous in
  --file) COMPREPLY=($(compgen -f -- "$word")); return ;;
  --compression) COMPREPLY=($(compgen -W "none lz4" -- "$word")); return ;;
  --framing) COMPREPLY=($(compgen -W "length" -- "$word")); return ;;
  --from) COMPREPLY=($(compgen -W "beginning end @" -- "$word")); return ;;
  --set) COMPREPLY=($(compgen -S = -W "retention_ms retention_bytes batch_bytes_max validation timestamp_type" -- "$word"))
    compopt -o nospace 2>/dev/null; return ;;
  --group) COMPREPLY=($(compgen -W "$(sluicectl group list 2>/dev/null | cut -f1)" -- "$word")); return ;;
  --topic) COMPREPLY=($(compgen -W "$(sluicectl topic list 2>/dev/null | cut -f1)" -- "$word")); return ;;
  --server | --partitions | --partition | --count | --key | --key-separator | --header | \
    --delimiter | --format | --shard | --to) return ;;
  esac

  local options="--server --json --help"
  case $command in
  "") COMPREPLY=($(compgen -W "$commands $options --version" -- "$word")); return ;;
  topic)
    case $sub in
    "") COMPREPLY=($(compgen -W "create list describe alter delete $options" -- "$word")); return ;;
    create | alter) options+=" --partitions --set" ;;
    esac
    if [[ $word != -* && $sub != list && $sub != create ]]; then
      COMPREPLY=($(compgen -W "$(sluicectl topic list 2>/dev/null | cut -f1)" -- "$word")); return
    fi ;;
  group)
    case $sub in
    "") COMPREPLY=($(compgen -W "list describe reset delete $options" -- "$word")); return ;;
    reset) options+=" --to --topic --partition --dry-run" ;;
    esac
    if [[ $word != -* && $sub != list ]]; then
      COMPREPLY=($(compgen -W "$(sluicectl group list 2>/dev/null | cut -f1)" -- "$word")); return
    fi ;;
  txn)
    case $sub in
    "") COMPREPLY=($(compgen -W "list describe commit abort $options" -- "$word")); return ;;
    commit | abort) options+=" --force" ;;
    esac
    if [[ $word != -* && $sub != list ]]; then
      COMPREPLY=($(compgen -W "$(sluicectl txn list 2>/dev/null | cut -f1)" -- "$word")); return
    fi ;;
  wal)
    case $sub in
    "") COMPREPLY=($(compgen -W "inspect salvage $options" -- "$word")); return ;;
    inspect) options+=" --shard --verify --groups" ;;
    salvage) options+=" --shard --from --to --yes" ;;
    esac
    if [[ $word != -* ]]; then COMPREPLY=($(compgen -d -- "$word")); return; fi ;;
  produce) options+=" --file --key --key-separator --header --delimiter --framing --partition --compression --transaction" ;;
  consume) options+=" --from --group --partition --count --until-end --format --delimiter --framing" ;;
  esac
  if [[ ($command == produce || $command == consume) && $word != -* && -z $sub ]]; then
    COMPREPLY=($(compgen -W "$(sluicectl topic list 2>/dev/null | cut -f1)" -- "$word")); return
  fi
  COMPREPLY=($(compgen -W "$options" -- "$word"))
}
complete -F _sluicectl sluicectl
