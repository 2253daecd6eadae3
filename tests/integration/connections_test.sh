#!/usr/bin/env bash
# 5,000 connections at once, each publishes and is acked.
. "$(dirname "$0")/lib.sh"
start
"$bin/sluice-connections" "$address" 5000 many
rss=$(awk '/VmHWM/ {print $2}' "/proc/$broker_pid/status")
[ "$rss" -lt 512000 ] || fail "resident set peaked at $rss KiB, the bound is 500 MB"
stop || fail "stop: exit $?"
