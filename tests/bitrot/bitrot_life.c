/* A store's life on a disk that something has happened to. The happy path: open it, read batch by batch, each read exactly as long
 * as its batch, and compare with what was sent. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/status.h"
#include "storage/index.h"
#include "tests/bitrot/bitrot.h"

struct one_read {
    struct store_read read;
    bool done;
};

static void read_done(struct store_read *read)
{
    CONTAINER_OF(read, struct one_read, read)->done = true;
}

int bitrot_open(struct bitrot_life *life, const struct bitrot *rot, struct sim_disk *disk)
{
    *life = (struct bitrot_life){.rot = rot, .disk = disk, .options = rot->options};
    life->io = io_sim_new(disk, &(struct io_sim_options){.seed = 4,
                                                         .start_ns = 100 * NS_PER_S,
                                                         .wall_ms = rot->wall_ms + 100000});
    random_init(&life->random, 5);
    life->options.io = life->io;
    life->options.clock = io_sim_clock(life->io);
    life->options.random = &life->random;
    life->options.arena = &life->arena;
    life->result = calloc(1, sizeof(*life->result));
    life->buffer = malloc(rot->options.batch_bytes_max);
    if (!life->result || !life->buffer ||
        arena_init(&life->arena, store_arena_bytes(&life->options) + MIB, false) < 0)
        bitrot_fail("no memory");
    int status = store_open(&life->options, life->result, life->text, &life->store);
    if (status < 0)
        life->store = NULL;
    return status;
}

void bitrot_close(struct bitrot_life *life)
{
    io_sim_kill(life->io);
    if (life->store)
        store_free(life->store);
    arena_deinit(&life->arena);
    io_free(life->io);
    free(life->result);
    free(life->buffer);
}

void bitrot_turns(struct bitrot_life *life, uint64_t ns)
{
    uint64_t until = io_sim_now_ns(life->io) + ns;
    while (io_sim_now_ns(life->io) < until) {
        (void)store_turn(life->store, io_sim_now_ns(life->io), io_sim_now_wall_ms(life->io));
        (void)io_poll(life->io, 100 * NS_PER_US);
    }
}

int bitrot_read(struct bitrot_life *life, const struct bitrot_batch *batch, bool *is_same,
                struct store_damage *damage)
{
    struct partition *partition = store_partition(life->store, batch->topic_id, batch->partition);
    *is_same = false;
    if (!partition || batch->base_offset >= partition->visible_end)
        return E_NOT_FOUND;
    struct one_read one = {.read = {.partition = partition,
                                    .offset = batch->base_offset,
                                    .buffer = life->buffer,
                                    .capacity = batch->size,
                                    .done = read_done,
                                    .hint = INDEX_NONE}};
    list_init(&one.read.link);
    int started = store_read(life->store, &one.read);
    for (int i = 0; started == 0 && !one.done && i < 10000; i++) {
        if (io_poll(life->io, 100 * NS_PER_US) == 0) // an index that is made anew needs turns
            (void)store_turn(life->store, io_sim_now_ns(life->io), io_sim_now_wall_ms(life->io));
    }
    if (started != 1 && !one.done)
        bitrot_fail("a read did not end");
    if (damage)
        *damage = one.read.damage;
    *is_same = one.read.status == 0 && one.read.bytes == batch->size &&
               hash_xxh3(life->buffer, batch->size) == batch->digest;
    return one.read.status;
}

const struct bitrot_batch *bitrot_read_all(struct bitrot_life *life, int *status)
{
    for (uint32_t i = 0; i < life->rot->batch_count; i++) {
        bool is_same;
        *status = bitrot_read(life, &life->rot->batches[i], &is_same, NULL);
        if (!is_same)
            return &life->rot->batches[i];
    }
    *status = 0;
    return NULL;
}
