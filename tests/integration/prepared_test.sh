#!/usr/bin/env bash
# Prepared transactions outlive their program and the broker, hold their records back, and are ended by their next life or
# by hand; by hand only with --force.
. "$(dirname "$0")/lib.sh"
prepared() { "$bin/sluice-prepared" "$@"; }
values() { ctl consume t --from beginning --until-end | sort | uniq -c | awk '{ print $2 $1 }' | paste -sd' '; }
expect_values() { [ "$(values)" = "$1" ] || fail "visible: $(values), expected: $1"; }

start --set shards=3
ctl topic create t --partitions 4 >/dev/null
expect_exit 0 prepared one t a
name=$(sed -n 's/^prepared //p' "$work/out")
expect_exit 0 ctl txn describe one
expect_text "$work/out" '^state           prepared$'
expect_text "$work/out" "^name            ${name#one }\$"
for end in commit abort; do
  expect_exit 1 ctl txn $end one
  expect_text "$work/err" 'other systems may have decided'
done

# After a crash of the broker it is what it was.
kill9
start --set shards=3
expect_values ""
expect_exit 4 prepared one t b
expect_exit 0 prepared one commit
expect_text "$work/out" "^waits $name\$"
expect_values "a10"
expect_exit 1 prepared one commit
expect_text "$work/err" 'UNKNOWN_TRANSACTION'

expect_exit 0 prepared one t b
expect_exit 0 prepared one abort
expect_exit 0 prepared one t c
expect_exit 0 ctl txn commit one --force
expect_exit 0 prepared one t d
kill9
start --set shards=3
expect_exit 0 ctl txn abort one --force
expect_exit 1 ctl txn abort one --force
expect_text "$work/err" 'no transaction is open'
expect_values "a10 c10"
expect_exit 0 ctl txn list
expect_text "$work/out" '^one	empty	'
stop || fail "stop: exit $?"
echo "prepared transactions wait"
