/* A log on the simulated disk, and a naive model of it: a list of what was appended.
 *
 * fixture_open() replays into the model's check: what comes back must be what was appended, in
 * order, without a hole, nothing else, and at least as far as it was committed. What did not come
 * back is taken out of the model. */
#ifndef SLUICE_TESTS_WAL_FIXTURE_H
#define SLUICE_TESTS_WAL_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "storage/recover.h"
#include "storage/segment.h"
#include "storage/wal_private.h"
#include "tests/sim/io_sim.h"

#define FIXTURE_DIR "wal"

struct model_entry {
    uint64_t lsn;
    uint64_t seed; // of its content
    uint32_t len;
};

struct fixture {
    struct sim_disk *disk;
    struct io *io;
    struct arena arena;
    struct random random;
    struct wal_options options;
    struct recover_options recover;
    struct recover_result result;
    struct wal *wal;
    struct model_entry *entries;
    uint32_t count, capacity;
    uint32_t replay_at; // next entry that replay must bring
    const char *replay_error;
    uint64_t committed; // highest ever told
    uint64_t next_seed;
    uint8_t entry_type; // 0: ENTRY_BATCH (of content that is no batch)
    uint32_t on_committed, on_room, on_closed, on_failed;
    struct wal_failure failure;
    struct recover_options older; // the checkpoint before the last
    uint64_t now_ns;              // survives lives
    uint64_t life;
    uint8_t *payload;
};

static inline void fixture_content(uint8_t *bytes, uint32_t len, uint64_t seed)
{
    for (uint32_t i = 0; i < len; i += 8) {
        uint64_t word = (seed + i) * 0x9e3779b97f4a7c15ull;
        memcpy(bytes + i, &word, len - i < 8 ? len - i : 8);
    }
}

static void fixture_on_committed(void *context, uint64_t lsn)
{
    struct fixture *f = context;
    f->on_committed++;
    f->committed = max_u64(f->committed, lsn);
}

static void fixture_on_room(void *context)
{
    ((struct fixture *)context)->on_room++;
}

static void fixture_on_closed(void *context, struct segment *segment)
{
    struct fixture *f = context;
    cr_assert_eq(segment->state, SEGMENT_CLOSED);
    cr_assert_leq(segment->end_lsn, wal_marks(f->wal).durable);
    f->on_closed++;
}

static void fixture_on_failed(void *context, const struct wal_failure *failure)
{
    struct fixture *f = context;
    f->on_failed++;
    f->failure = *failure;
}

static int fixture_apply(void *context, const struct wal_view *view)
{
    struct fixture *f = context;
    if (f->replay_error)
        return 0;
    if (f->replay_at == f->count) {
        f->replay_error = "an entry that was never appended";
        return 0;
    }
    const struct model_entry *entry = &f->entries[f->replay_at++];
    fixture_content(f->payload, entry->len, entry->seed);
    if (view->lsn != entry->lsn || view->payload_bytes != entry->len)
        f->replay_error = "an entry at another place or of another length";
    else if (memcmp(view->payload, f->payload, entry->len) != 0)
        f->replay_error = "an entry with other content";
    return 0;
}

static inline void fixture_io(struct fixture *f, uint64_t seed)
{
    f->io = io_sim_new(f->disk,
                       &(struct io_sim_options){.seed = seed * 1000 + f->life++,
                                                .start_ns = f->now_ns,
                                                .wall_ms = 1700000000000 + f->now_ns / NS_PER_MS});
    f->options.io = f->io;
}

static inline void fixture_init(struct fixture *f, uint64_t seed)
{
    memset(f, 0, sizeof(*f));
    log_set_level(LOG_LEVEL_ERROR);
    f->disk = sim_disk_new(seed, 256 * MIB);
    random_init(&f->random, seed);
    f->now_ns = NS_PER_S;
    f->options = (struct wal_options){
        .random = &f->random,
        .arena = &f->arena,
        .dir = FIXTURE_DIR,
        .store_id = "fixture-store-1",
        .shard_id = 3,
        .segment_bytes = 4 * MIB,
        .batch_bytes_max = 1 * MIB,
        .group_slot_count = 8,
        .bytes_budget = 32 * MIB,
        .context = f,
        .on_committed = fixture_on_committed,
        .on_room = fixture_on_room,
        .on_segment_closed = fixture_on_closed,
        .on_failed = fixture_on_failed,
    };
    f->recover = (struct recover_options){.apply = fixture_apply, .context = f};
    f->payload = malloc(2 * MIB);
    fixture_io(f, seed);
    cr_assert_eq(io_mkdir(f->io, FIXTURE_DIR), 0);
    cr_assert_eq(io_sync_dir_wait(f->io, ""), E_NOT_FOUND);
    sim_disk_settle(f->disk);
    cr_assert_eq(wal_create(&f->options), 0);
}

/* What a checkpoint at this very moment would let replay skip. */
static inline uint32_t fixture_index_at(const struct fixture *f, uint64_t lsn)
{
    uint32_t i = 0;
    while (i < f->count && f->entries[i].lsn < lsn)
        i++;
    return i;
}

/* Opens; the model is checked against what was replayed. */
static inline int fixture_open(struct fixture *f)
{
    cr_assert_null(f->wal);
    cr_assert_eq(arena_init(&f->arena, wal_arena_bytes(&f->options) + MIB, false), 0);
    f->replay_at = f->recover.has_checkpoint ? fixture_index_at(f, f->recover.from.lsn) : 0;
    f->replay_error = NULL;
    f->on_failed = 0; // of the life before: its end cancels what was in flight
    int status = wal_open(&f->options, &f->recover, &f->result, &f->wal);
    if (status < 0) {
        arena_deinit(&f->arena);
        return status;
    }
    cr_assert_null(f->replay_error, "replay brought %s", f->replay_error);
    uint32_t committed = fixture_index_at(f, f->committed);
    cr_assert_geq(f->replay_at, committed, "%u entries were committed, %u came back", committed,
                  f->replay_at);
    f->count = f->replay_at;
    f->committed = wal_marks(f->wal).committed; // what came back is shown, so it must stay
    return 0;
}

static inline int fixture_append(struct fixture *f, uint32_t len)
{
    struct wal_view view;
    uint64_t seed = f->next_seed++ * 1000003;
    fixture_content(f->payload, len, seed);
    struct wal_entry entry = {
        .type = f->entry_type ? f->entry_type : ENTRY_BATCH,
        .topic_id = 7,
        .partition = (uint32_t)seed % 5,
        .pieces = {{f->payload, len / 3}, {f->payload + len / 3, len - len / 3}},
        .piece_count = 2};
    int status = wal_append(f->wal, &entry, &view);
    if (status < 0)
        return status;
    cr_assert_eq(memcmp(view.payload, f->payload, len), 0);
    if (f->count == f->capacity) {
        f->capacity = f->capacity * 2 + 256;
        f->entries = realloc(f->entries, f->capacity * sizeof(*f->entries));
    }
    f->entries[f->count++] = (struct model_entry){.lsn = view.lsn, .seed = seed, .len = len};
    return 0;
}

static inline void fixture_turn(struct fixture *f)
{
    f->now_ns = io_sim_now_ns(f->io);
    (void)wal_turn(f->wal, f->now_ns, io_sim_now_wall_ms(f->io));
    (void)io_poll(f->io, 100 * NS_PER_US);
}

/* Until everything appended is durable, or the log has failed. */
static inline void fixture_flush(struct fixture *f)
{
    for (int i = 0; i < 100000 && !wal_is_failed(f->wal); i++) {
        if (wal_marks(f->wal).durable >= wal_marks(f->wal).reserved)
            return;
        fixture_turn(f);
    }
    cr_assert(wal_is_failed(f->wal), "not durable after 100,000 turns");
}

/* Lets time pass: MARKs, zeroing. */
static inline void fixture_idle(struct fixture *f, uint64_t ns)
{
    uint64_t until = io_sim_now_ns(f->io) + ns;
    while (io_sim_now_ns(f->io) < until)
        fixture_turn(f);
}

static inline void fixture_free_wal(struct fixture *f)
{
    (void)wal_close(f->wal);
    wal_free(f->wal);
    f->wal = NULL;
    arena_deinit(&f->arena);
}

static inline void fixture_end_life(struct fixture *f, uint64_t seed)
{
    f->now_ns = io_sim_now_ns(f->io);
    if (f->wal)
        fixture_free_wal(f);
    io_free(f->io);
    fixture_io(f, seed);
}

static inline void fixture_crash(struct fixture *f, uint64_t seed)
{
    io_sim_crash(f->io);
    fixture_end_life(f, seed);
}

/* kill -9: the machine goes on, and what the process had written is there, durable or not. */
static inline void fixture_kill(struct fixture *f, uint64_t seed)
{
    io_sim_kill(f->io);
    fixture_end_life(f, seed);
}

static inline void fixture_deinit(struct fixture *f)
{
    if (f->wal)
        fixture_free_wal(f);
    io_free(f->io);
    sim_disk_free(f->disk);
    free(f->entries);
    free(f->payload);
}

/* Remembers the log's place as a checkpoint would, once everything below is durable, and gives back
 * what the older of two checkpoints doesn't need. */
static inline void fixture_checkpoint(struct fixture *f)
{
    struct wal_position position = wal_position(f->wal);
    fixture_flush(f);
    if (wal_is_failed(f->wal))
        return;
    f->older = f->recover;
    f->recover.has_checkpoint = true;
    f->recover.from = position;
    f->recover.first_file = wal_segment_at(f->wal, 0)->number;
    while (wal_segment_count(f->wal) > 1) {
        struct segment *segment = wal_segment_at(f->wal, 0);
        if (segment->state != SEGMENT_CLOSED || !f->older.has_checkpoint ||
            segment->end_lsn > f->older.from.lsn)
            break;
        f->recover.first_file = wal_segment_at(f->wal, 1)->number;
        wal_recycle_oldest(f->wal);
    }
}

#endif
