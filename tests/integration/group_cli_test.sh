#!/usr/bin/env bash
# Consumer groups and transactions on the command line: consume --group, produce --transaction, group, txn.
. "$(dirname "$0")/lib.sh"

# ---- usage
expect_exit 2 ctl group
expect_exit 2 ctl group describe
expect_exit 2 ctl group reset g
expect_text "$work/err" 'missing: --to'
expect_exit 2 ctl group reset g --to nowhere
expect_exit 2 ctl group reset g --to end --partition 1
expect_exit 2 ctl txn
expect_exit 2 ctl txn commit
expect_exit 2 ctl txn list surprise
expect_exit 2 ctl consume t --group g --partition 0
expect_exit 2 ctl consume t --group g --from 5
for command in 'group list' 'group describe' 'group reset' 'group delete' \
  'txn list' 'txn describe' 'txn commit' 'txn abort'; do
  expect_exit 0 ctl $command --help
done

start --set shards=3
expect_exit 0 ctl topic create t --partitions 4
expect_exit 0 ctl group list
[ ! -s "$work/out" ] || fail "a new broker has groups"
expect_exit 1 ctl group describe g
expect_text "$work/err" 'UNKNOWN_GROUP'
expect_exit 1 ctl group delete g
expect_exit 1 ctl txn describe nobody
expect_text "$work/err" 'UNKNOWN_TRANSACTION'

# ---- produce --transaction: all or nothing
seq 1 20000 >"$work/in"
printf 'good=1\nbad\n' >"$work/half"
expect_exit 1 ctl produce t --file "$work/half" --transaction --key-separator =
expect_text "$work/err" 'no key separator'
expect_text "$work/out" '^0 records acked$'
expect_exit 0 ctl consume t --from beginning --until-end
[ ! -s "$work/out" ] || fail "a transaction that failed left records"
expect_exit 0 ctl produce t --file "$work/in" --transaction
expect_text "$work/out" '^20000 records acked$'
expect_exit 0 ctl consume t --from beginning --until-end
sort -n "$work/out" >"$work/sorted"
same "$work/in" "$work/sorted"

# ---- consume --group: each goes on where the last one stopped
expect_exit 0 ctl consume t --group g --from beginning --count 7000
cp "$work/out" "$work/first"
expect_exit 0 ctl consume t --group g --from beginning --until-end
sort -n "$work/first" "$work/out" >"$work/sorted"
same "$work/in" "$work/sorted"
expect_exit 0 ctl consume t --group g --from beginning --until-end
[ ! -s "$work/out" ] || fail "a group reads again what it has committed"
expect_exit 0 ctl group list
expect_text "$work/out" '^g	empty	0	[1-4]$'
expect_exit 0 ctl group describe g
expect_text "$work/out" '^t	[0-3]	[0-9]+	[0-9]+	0$'
expect_exit 0 ctl --json group describe g
expect_text "$work/out" '"offsets":\[\{"topic":"t","topic_id":[0-9]+,"partition":[0-3],"offset":[0-9]+,"pending":false,"visible_end":[0-9]+,"lag":0\}'

# ---- reset
expect_exit 0 ctl group reset g --to beginning --dry-run
expect_text "$work/out" '^t	[0-3]	[0-9]+	0$'
expect_text "$work/out" '^[1-4] offsets would be set$'
expect_exit 0 ctl consume t --group g --from beginning --until-end
[ ! -s "$work/out" ] || fail "a dry run has set offsets"
expect_exit 0 ctl group reset g --to beginning
expect_exit 0 ctl consume t --group g --from beginning --until-end
sort -n "$work/out" >"$work/sorted"
same "$work/in" "$work/sorted"
expect_exit 1 ctl group reset g --to 99999999 --topic t
expect_text "$work/err" 'OFFSET_OUT_OF_RANGE'
expect_exit 0 ctl --json group reset fresh --to end --topic t --partition 2
expect_text "$work/out" '"topic":"t","partition":2,"offset":[0-9]+,"dry_run":false'
expect_exit 1 ctl group reset nobody --to end

# ---- while it is active
"$bin/sluicectl" consume t --group g --from beginning >"$work/live" 2>"$work/live.err" & consumer=$!
for _ in $(seq 100); do ctl group list | grep -q '^g	stable	1' && break; sleep 0.1; done
expect_exit 0 ctl group describe g
expect_text "$work/out" '^member [0-9a-f]+, idle [0-9]+ ms: t/0 t/1 t/2 t/3$'
expect_exit 1 ctl group reset g --to beginning
expect_text "$work/err" 'GROUP_NOT_EMPTY'
expect_exit 1 ctl group delete g
expect_text "$work/err" 'GROUP_NOT_EMPTY'
echo live | ctl produce t >/dev/null
for _ in $(seq 50); do grep -q live "$work/live" && break; sleep 0.1; done
expect_text "$work/live" '^live$'
kill -INT $consumer
wait $consumer || fail "SIGINT: exit $?"
expect_exit 0 ctl consume t --group g --from beginning --until-end
[ ! -s "$work/out" ] || fail "what was printed before SIGINT was not committed"
expect_exit 0 ctl group delete g
expect_exit 0 ctl group list
expect_text "$work/out" '^fresh	empty	0	1$'

# ---- txn: an open one is seen and aborted
mkfifo "$work/pipe"
"$bin/sluicectl" produce t --transaction --file "$work/pipe" >"$work/producer" 2>&1 & producer=$!
exec 9>"$work/pipe"
echo staged >&9
for _ in $(seq 100); do ctl txn list | grep -q '	open	' && break; sleep 0.1; done
id=$(ctl txn list | awk '$2 == "open" { print $1 }')
[ -n "$id" ] || fail "no open transaction is listed"
for _ in $(seq 50); do ctl txn describe "$id" | grep -q '^t	' && break; sleep 0.1; done
expect_exit 0 ctl txn describe "$id"
expect_text "$work/out" '^state           open$'
expect_exit 0 ctl --json txn describe "$id"
expect_text "$work/out" '"state":"open".*"partitions":\[\{"topic":"t"'
expect_exit 1 ctl txn commit "$id"
expect_text "$work/err" 'only its program knows'
expect_exit 0 ctl txn abort "$id"
expect_exit 1 ctl txn abort "$id"
expect_text "$work/err" 'no transaction is open'
exec 9>&-
status=0; wait $producer || status=$?
[ $status -eq 1 ] || fail "the producer of an aborted transaction: exit $status"
expect_text "$work/producer" '^0 records acked$'
expect_exit 0 ctl consume t --from beginning --until-end
if grep -q staged "$work/out"; then fail "an aborted record is visible"; fi
stop || fail "stop: exit $?"

# A broker that grants less than a quarter of an hour gives what it gives by itself.
start --set shards=3 --set txn_timeout_max=120s
echo short | ctl produce t --transaction >"$work/out"
expect_text "$work/out" '^1 records acked$'
stop || fail "stop: exit $?"
