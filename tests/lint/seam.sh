#!/usr/bin/env bash
# Nothing but the I/O backends, and the few files named here with their reason, calls the kernel for files,
# sockets, time, randomness or threads: else a simulator could not own the world.
#   seam.sh [ROOT]       prints each offence; exit 0 clean, 1 offences
set -euo pipefail
root=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
cd "$root"

calls='open|openat|creat|read|pread|readv|write|pwrite|writev|fsync|fdatasync|rename|unlink|mkdir|opendir|socket|connect|accept|accept4|send|sendmsg|recv|recvmsg|listen|bind|epoll_wait|poll|time|gettimeofday|clock_gettime|rand|random|srand|getrandom|pthread_create|usleep|nanosleep|sleep'
offences=0
while IFS=: read -r file line text; do
  case "$file" in
  base/io_*|base/io.c|base/fd_table.c|base/file_pool.c) continue ;;   # the backends
  base/address.c) continue ;;                      # makes and names sockets for the backends
  base/clock.c|base/random.c) continue ;;          # the system's clock and randomness, behind interfaces
  base/process.c) continue ;;                      # reads /proc/self for metrics
  base/log.c|base/check.c|base/fault.c) continue ;; # standard error, and the log's own thread
  base/arena.c|base/hash*.c) continue ;;
  esac
  echo "$file:$line: calls the system outside base/io.h: ${text## }"; offences=1
done < <(grep -rnE "(^|[^a-zA-Z0-9_.>])($calls)[[:space:]]*\(" base proto storage broker --include='*.c' |
           grep -vE '^[^:]+:[0-9]+:[[:space:]]*(/?\*|//)' | grep -vE "seam: " || true)
exit $offences
