#!/usr/bin/env bash
# What users and scripts rely on: options, outputs, exit codes, error messages.
. "$(dirname "$0")/lib.sh"

# ---- the broker's command line and configuration
expect_exit 0 "$bin/sluiced" --version
expect_exit 0 "$bin/sluiced" --help
expect_exit 2 "$bin/sluiced" --no-such-option
expect_exit 2 "$bin/sluiced" --data-dir "$work/none" --set no_such_key=1 --check
expect_text "$work/err" 'no_such_key'
expect_exit 2 "$bin/sluiced" --data-dir "$work/none" --set connections_max=banana --check
expect_text "$work/err" 'connections_max.*allowed'
printf 'log_level = "info";\nsurprise = 7;\n' >"$work/bad.conf"
expect_exit 2 "$bin/sluiced" --config "$work/bad.conf" --check
expect_text "$work/err" 'bad.conf:2: unknown key "surprise"'
printf 'connections_max = -4;\n' >"$work/bad.conf"
expect_exit 2 "$bin/sluiced" --config "$work/bad.conf" --check
expect_text "$work/err" 'bad.conf:1: connections_max: value -4, allowed [0-9]+\.\.[0-9]+'
expect_exit 2 "$bin/sluiced" --config "$work/missing.conf" --check
expect_exit 2 "$bin/sluiced" --data-dir "$work/none" --listen 0.0.0.0:0 --check
expect_text "$work/err" 'allow_unauthenticated'
expect_exit 0 "$bin/sluiced" --data-dir "$work/none" --check
[ ! -e "$work/none" ] || fail "--check made the data directory"

# ---- directories that are refused
if [ -d /dev/shm ] && [ "$(stat -f -c %T /dev/shm)" = tmpfs ]; then
  memory=$(mktemp -d /dev/shm/sluice.XXXXXX)
  cleanup_more() { rm -rf "$memory"; }
  expect_exit 3 "$bin/sluiced" --data-dir "$memory/data" --listen 127.0.0.1:0 --http off --kafka off
  expect_text "$work/err" 'development'
fi
mkdir "$work/foreign"; echo hello >"$work/foreign/letter"
expect_exit 3 "$bin/sluiced" --data-dir "$work/foreign" --listen 127.0.0.1:0 --http off --kafka off

start
expect_exit 3 "$bin/sluiced" --data-dir "$work/data" --listen 127.0.0.1:0 --http off --kafka off

# ---- health
if command -v curl >/dev/null; then
  [ "$(curl -s -o /dev/null -w '%{http_code}' "http://$http/healthz")" = 200 ] || fail "healthz"
  [ "$(curl -s -o /dev/null -w '%{http_code}' "http://$http/readyz")" = 200 ] || fail "readyz"
fi

# ---- sluicectl
expect_exit 0 ctl --help
expect_exit 0 ctl --version
expect_exit 2 ctl
expect_exit 2 ctl frobnicate
expect_exit 2 ctl topic
expect_exit 2 ctl topic create
expect_exit 2 ctl topic create a b
expect_exit 2 ctl topic create a --partitions 0
expect_exit 2 ctl consume
expect_exit 2 ctl consume a --from nowhere
expect_exit 2 ctl consume a --format '%z'
expect_exit 2 ctl produce a --compression brotli
for command in status 'topic create' 'topic list' produce consume 'wal inspect' 'wal salvage'; do
  expect_exit 0 ctl $command --help
done
expect_exit 0 ctl status
expect_exit 0 ctl --json status
expect_text "$work/out" '"can_produce":true'

expect_exit 0 ctl topic create orders --partitions 3 --set retention_ms=1h
expect_exit 1 ctl topic create orders
expect_text "$work/err" 'TOPIC_EXISTS'
for name in '' '.' '..' 'a/b' "$(printf 'x%.0s' $(seq 250))" $'bad\xff' 'sp ace'; do
  expect_exit 1 ctl topic create "$name"
  expect_text "$work/err" 'INVALID_TOPIC_NAME'
done
expect_exit 1 ctl topic create other --set nonsense=1
expect_text "$work/err" 'INVALID_SETTING.*nonsense'
expect_exit 1 ctl topic create other --set retention_ms=5
expect_text "$work/err" 'retention_ms'
expect_exit 0 ctl topic list
expect_text "$work/out" '^orders	3$'
expect_exit 0 ctl --json topic describe orders
expect_text "$work/out" '"retention_ms":"3600000"'
expect_exit 0 ctl topic alter orders --partitions 5 --set retention_bytes=1GiB
expect_exit 0 ctl topic describe orders
expect_text "$work/out" 'partitions  5'
expect_exit 1 ctl topic alter orders --partitions 2
expect_exit 1 ctl topic alter nobody --partitions 2
expect_exit 1 ctl topic delete nobody
expect_text "$work/err" 'UNKNOWN_TOPIC'

printf 'one\ntwo\nthree' | ctl produce orders --partition 0 >"$work/out"
expect_text "$work/out" '^3 records acked$'
printf 'a=1\nb\n' >"$work/in"
expect_exit 1 ctl produce orders --file "$work/in" --key-separator =
expect_text "$work/err" 'record 2 has no key separator'
expect_exit 1 ctl produce nobody --file "$work/in"
expect_text "$work/err" 'UNKNOWN_TOPIC'
expect_exit 1 ctl produce orders --file "$work/in" --partition 99
expect_exit 1 ctl produce orders --file "$work/missing"
expect_exit 1 ctl consume nobody --from beginning --until-end
expect_exit 1 ctl consume orders --from 12345 --partition 0 --until-end
expect_text "$work/err" 'OFFSET_OUT_OF_RANGE'
printf 'x\0y\0' | ctl produce orders --partition 1 --delimiter '\0' --key k --header h=v >/dev/null
expect_exit 0 ctl consume orders --partition 1 --from beginning --until-end --format '%t %p %o %k %v %h\n'
printf 'orders 1 0 k x h=v\norders 1 1 k y h=v\n' >"$work/expected"
same "$work/expected" "$work/out"
expect_exit 0 ctl --json consume orders --partition 1 --from beginning --count 1
expect_text "$work/out" '"key":"k","value":"x","headers":\[\{"key":"h","value":"v"\}\]'

# SIGINT ends a consumer well.
"$bin/sluicectl" consume orders >"$work/live" & consumer=$!
sleep 0.5
printf 'live\n' | ctl produce orders >/dev/null
for _ in $(seq 50); do grep -q live "$work/live" && break; sleep 0.1; done
expect_text "$work/live" '^live$'
kill -INT $consumer
wait $consumer || fail "SIGINT: exit $?"

expect_exit 0 ctl topic delete orders
expect_exit 1 ctl topic describe orders
expect_exit 0 ctl topic create orders
expect_exit 0 ctl consume orders --from beginning --until-end
[ ! -s "$work/out" ] || fail "a new topic shows records of the deleted one"

stop || fail "stop: exit $?"
expect_exit 1 ctl --server "$address" status
expect_text "$work/err" 'Is sluiced running'

# ---- wal inspect and damage
expect_exit 0 ctl wal inspect "$work/data"
expect_exit 0 ctl wal inspect "$work/data" --verify
expect_exit 2 ctl wal inspect
expect_exit 1 ctl wal inspect "$work/nothing-here"
expect_exit 2 ctl wal inspect "$work/data" --shard 64
expect_exit 2 ctl wal salvage "$work/data" --shard 0 --from 0
expect_text "$work/err" '--shard, --from and --to are needed'
expect_exit 2 ctl wal salvage "$work/data" --shard 0 --from 0 --to many
expect_text "$work/err" '--to many: allowed'

# A group in the middle of what was acked is damaged: the broker refuses to start and says where, inspect says the
# same, and salvage gives up exactly these records.
data=$work/damaged address=127.0.0.1:0 start --set shards=1
expect_exit 0 ctl topic create t
for n in 1 2 3 4 5; do echo "$n" | ctl produce t >/dev/null; done # a batch and a group each
sleep 0.1 # a MARK has proven all of it
expect_exit 1 ctl wal inspect "$work/damaged"
expect_text "$work/err" 'in use'
kill9
expect_exit 0 ctl --json wal inspect "$work/damaged" --groups
group=$(grep '"kind":"group"' "$work/out" | grep -v '"entries":0' | tail -n 3 | head -n 1)
value() { sed -E "s/.*\"$1\":\"?([^,\"}]*).*/\1/" <<<"$group"; }
range=(--shard 0 --from "$(value lsn_from)" --to "$(value lsn_to)")
before=$(sha256sum "$(value path)")
expect_exit 1 ctl wal salvage "$work/damaged" --shard 0 --from 1000000000 --to 1000004096 --yes
printf 'damage' | dd of="$(value path)" bs=1 seek=$(($(value offset_bytes) + 200)) conv=notrunc status=none
[ "$before" != "$(sha256sum "$(value path)")" ] || fail "nothing was damaged"
before=$(sha256sum "$(value path)")
expect_exit 3 ctl wal inspect "$work/damaged"
expect_text "$work/out" "lsn $(value lsn_from)\.\.$(value lsn_to).*DAMAGED: CORRUPT .*at offset $(value offset_bytes)\$"
expect_exit 3 ctl --json wal inspect "$work/damaged"
expect_text "$work/out" '"kind":"log".*"damaged":true.*"damage":"bad_group"'
expect_exit 3 "$bin/sluiced" --data-dir "$work/damaged" --listen 127.0.0.1:0 --http off --kafka off
expect_text "$work/err" '0000000000000001.wal'
expect_exit 1 ctl wal salvage "$work/damaged" "${range[@]}"
expect_text "$work/err" 'nothing was written'
[ "$before" = "$(sha256sum "$(value path)")" ] || fail "inspection, a refused start or a dry run wrote"
expect_exit 0 ctl wal salvage "$work/damaged" "${range[@]}" --yes
expect_text "$work/out" 'given up'
data=$work/damaged address=127.0.0.1:0 start
expect_exit 0 ctl consume t --from beginning --until-end
printf '1\n2\n4\n5\n' >"$work/expected"
same "$work/expected" "$work/out"
echo 6 | ctl produce t >/dev/null
expect_exit 0 ctl consume t --from 5 --until-end
echo 6 >"$work/expected"
same "$work/expected" "$work/out"
stop || fail "stop: exit $?"
echo "command lines behave"
