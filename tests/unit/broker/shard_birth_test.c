/* The first moments of a store. */
#include <criterion/criterion.h>

#include "tests/unit/broker/shard_fixture.h"

/* The cut that ends such a log takes the spare; a start that then refused would do so for ever. */
Test(shard_birth, a_new_store_whose_first_entry_was_torn_starts_again)
{
    struct shard_fixture *f = malloc(sizeof(*f));
    shf_init(f, 70, 1);
    shf_turns(f, 3);
    shf_crash(f);
    sim_disk_flip(f->disk, "data/shard-000/wal/0000000000000001.wal", DISK_SEGMENT_DATA + 200, 1);
    cr_assert_eq(shf_open(f), 0, "%s", f->text);
    uint16_t slots[SLOT_COUNT];
    shard_slot_table(&f->shards[0], slots);
    cr_assert_eq(slots[SLOT_COUNT - 1], 0);
    shf_free(f);
}
