/* Changes to a store's files, as an input writes them down, and checksums made right afterwards.
 *
 * An input is a list of changes, each a byte that says which and then its fields; numbers are
 * little-endian, fields behind the input's end are 0:
 *
 *     0 WRITE    file, place, u8 length, bytes        6 EXTEND  file, u8 in KiB
 *     1 CUT      file, u16 size in 512 bytes          7 GROUP   behind the last one of the log: u8 type,
 *     2 REMOVE   file                                           u8 entries, each: u8 type, u8 flags,
 *     3 MOVE     file, u8 number                                u8 topic, u8 partition, u16 length, bytes
 *     4 COPY     file, place, file, place, u8 blocks  8 REPLACE group (u8) by one written as in GROUP
 *     5 ZERO     file, place, u8 blocks               9 NUMBER  file, place, u8 bytes (1..8), u64 value
 *
 *     file: u8, which one in order of names
 *     place: u8 kind and a number: 0 u24 offset; 1 u8 group, u8 offset in its header; 2 u8 group, u16 offset in its
 *     payload; 3 u8 offset in the header block's fields; 4 u16 offset behind the last group */
#ifndef SLUICE_TESTS_FUZZ_STORE_EDIT_H
#define SLUICE_TESTS_FUZZ_STORE_EDIT_H

#include "tests/fuzz/fuzz.h"
#include "tests/sim/sim_disk.h"

void store_edit(struct sim_disk *disk, struct input_reader *input);

/* Gives groups, headers, indexes and checkpoints right checksums, and groups their chain: what lies
 * behind them is reached then. */
void store_seal(struct sim_disk *disk);

#endif
