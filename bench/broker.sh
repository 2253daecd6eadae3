# A broker to be measured, for the scripts of this folder: sourced, with `bin` set to where the programs are.
#
# One core (which it pins to processor 0), a full set of prepared log files, and topics that expire within the log's budget, unless the
# options say otherwise: a broker that waits for a file measures its preparation.

broker_pid= server=

# start_broker DIR [OPTION of sluiced...]: sets broker_pid and server; what it says goes to DIR.log
start_broker() {
  local data=$1 i
  shift
  server=
  : >"$data.log" # of this start alone
  "$bin/sluiced" --data-dir "$data" --listen 127.0.0.1:0 --http off --kafka off --cores 1 --set retention_bytes=64MiB "$@" 2>"$data.log" &
  broker_pid=$!
  for ((i = 0; i < 400; i++)); do
    server=$(sed -nE 's/^ready listen=([^ ]+).*/\1/p' "$data.log")
    [ -z "$server" ] || return 0
    kill -0 "$broker_pid" 2>/dev/null || break
    sleep 0.05
  done
  echo "the broker did not start:" >&2
  cat "$data.log" >&2
  stop_broker
  return 1
}

stop_broker() {
  [ -n "$broker_pid" ] || return 0
  kill "$broker_pid" 2>/dev/null
  wait "$broker_pid" 2>/dev/null
  broker_pid=
}

# Until their number has not changed for a second: then all that the budget allows are there.
wait_for_spares() {
  local spares=-1 before=-2 i
  for ((i = 0; i < 120; i++)); do
    before=$spares
    spares=$("$bin/sluicectl" --server "$server" status | awk '$1 == "segments_spare" {print $2}')
    [ -n "$spares" ] || return 0 # a broker that does not tell
    [ "$spares" -gt 1 ] && [ "$spares" = "$before" ] && return 0
    sleep 1
  done
  echo "log files are still being prepared after 120 s" >&2
}
