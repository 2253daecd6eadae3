/* One or two shards on one core, on the simulated disk, spoken to with real frames: requests go in as from a connection, answers
 * and deliveries are taken where a connection would take them. */
#ifndef SLUICE_TESTS_SHARD_FIXTURE_H
#define SLUICE_TESTS_SHARD_FIXTURE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"
#include "broker/shard.h"
#include "broker/topic_job.h"
#include "tests/sim/io_sim.h"

#define SHF_SHARDS_MAX 3
#define SHF_DELIVERIES_MAX 64

struct shard_fixture {
    struct sim_disk *disk;
    struct io *io;
    struct arena arena;
    struct random random;
    uint64_t seed, life, now_ns;
    uint16_t shard_count;
    uint32_t batch_bytes_max;
    struct shard shards[SHF_SHARDS_MAX];
    struct store_identity identity;
    int lock_fd;
    uint16_t slot_shard[SLOT_COUNT], shard_core[SHARDS_MAX];
    struct mesh *mesh;
    struct mailbox mailbox;
    struct buffers buffers;
    struct pool requests;
    char text[512];
    /* what came back */
    struct request *reply; // the last of a client's
    struct request *deliveries[SHF_DELIVERIES_MAX];
    uint32_t delivery_count;
    bool hold_deliveries; // keep them, as a slow connection does; else they go home at once
    uint8_t delivered[4 << 20];
    uint32_t delivered_bytes;
};

static inline void shf_on_request(void *context, struct request *request)
{
    struct shard_fixture *f = context;
    if (request->kind != REQUEST_DELIVER) {
        shard_enqueue(&f->shards[request->shard], request);
        return;
    }
    cr_assert_leq(f->delivered_bytes + request->frame_bytes, sizeof(f->delivered));
    memcpy(f->delivered + f->delivered_bytes, request->frames, request->frame_bytes);
    f->delivered_bytes += request->frame_bytes;
    if (f->hold_deliveries)
        f->deliveries[f->delivery_count++] = request;
    else
        mailbox_reply(&f->mailbox, request);
}

static inline void shf_on_reply(void *context, struct request *request)
{
    struct shard_fixture *f = context;
    if (request->kind == REQUEST_DELIVER)
        shard_on_delivered(&f->shards[request->shard], request);
    else if (request->kind == REQUEST_SHARD)
        shard_on_mail_reply(&f->shards[request->from_shard], request);
    else
        f->reply = request;
}

static inline int shf_turn(struct shard_fixture *f)
{
    struct mailbox_handler handler = {
        .context = f, .on_request = shf_on_request, .on_reply = shf_on_reply};
    int work = mailbox_drain(&f->mailbox, &handler);
    for (uint16_t i = 0; i < f->shard_count; i++)
        work += shard_step(&f->shards[i], io_sim_now_ns(f->io), io_sim_now_wall_ms(f->io));
    uint64_t deadline = UINT64_MAX, now = io_sim_now_ns(f->io);
    for (uint16_t i = 0; i < f->shard_count; i++)
        deadline = min_u64(deadline, shard_deadline_ns(&f->shards[i]));
    uint64_t wait = deadline <= now ? 0 : min_u64(deadline - now, NS_PER_MS);
    return work + io_poll(f->io, work ? 0 : wait);
}

static inline void shf_turns(struct shard_fixture *f, int count)
{
    while (count-- > 0)
        shf_turn(f);
}

static inline int shf_open_shard(struct shard_fixture *f, uint16_t id)
{
    struct shard_options options = {
        .id = id,
        .mailbox = &f->mailbox,
        .buffers = &f->buffers,
        .requests = &f->requests,
        .slot_shard = f->slot_shard,
        .shard_core = f->shard_core,
        .shard_count = f->shard_count,
        .limits = {.batch_bytes_max = f->batch_bytes_max, .record_bytes_max = 256 * KIB},
        .topic_defaults = {.retention_ms = le64_make(UINT64_MAX),
                           .retention_bytes = le64_make(UINT64_MAX),
                           .batch_bytes_max = le32_make(f->batch_bytes_max),
                           .validation = 1},
        .producer_retention_ms = UINT64_MAX,
        .txn = {.timeout_ms = 60000,
                .timeout_ms_max = 900000,
                .staged_bytes_max = 2 * MIB,
                .id_retention_ms = UINT64_MAX},
        .group_session_timeout_ms = 10000,
        .group_offsets_retention_ms = UINT64_MAX,
        .store = {.io = f->io,
                  .random = &f->random,
                  .arena = &f->arena,
                  .dir = "data",
                  .segment_bytes = f->identity.segment_bytes,
                  .batch_bytes_max = f->batch_bytes_max,
                  .group_slot_count = 4,
                  .wal_bytes_budget = 32 * (uint64_t)f->batch_bytes_max,
                  .index_cache_bytes = 4 * MIB,
                  .read_slot_count = 2,
                  .partition_count_max = 1024,
                  .disk_free_throttle_percent = 5,
                  .disk_free_refuse_percent = 2},
    };
    memcpy(options.store.store_id, f->identity.store_id, 16);
    struct recover_result result = {0};
    return shard_open(&f->shards[id], &options, &result, f->text);
}

static inline size_t shf_arena_bytes(const struct shard_fixture *f)
{
    struct store_options options = {.segment_bytes = 4 * MIB,
                                    .batch_bytes_max = f->batch_bytes_max,
                                    .group_slot_count = 4,
                                    .read_slot_count = 2};
    return SHF_SHARDS_MAX * (store_arena_bytes(&options) + MIB) + buffers_arena_bytes(MIB + 65536) +
           (size_t)1024 * 512 + 4 * MIB;
}

/* Starts a life on the disk as it is. */
static inline int shf_open(struct shard_fixture *f)
{
    f->life++;
    f->io =
        io_sim_new(f->disk, &(struct io_sim_options){.seed = f->seed * 1000 + f->life,
                                                     .start_ns = NS_PER_S * f->life,
                                                     .wall_ms = 1700000000000 + f->life * 100000});
    random_init(&f->random, f->seed * 77 + f->life);
    cr_assert_eq(arena_init(&f->arena, shf_arena_bytes(f), false), 0);
    f->identity.shard_count = f->shard_count;
    f->identity.segment_bytes = 4 * f->batch_bytes_max;
    int status = store_dir_open(f->io, "data", false, &f->identity, &f->lock_fd, f->text);
    if (status)
        return status;
    f->mesh = mesh_new(1);
    mesh_set_io(f->mesh, 0, f->io);
    cr_assert_eq(mailbox_init(&f->mailbox, f->mesh, 0), 0);
    buffers_init(&f->buffers, 0, MIB + 65536, &f->arena);
    pool_init(&f->requests, &f->arena, 1024, sizeof(struct request), 64);
    f->reply = NULL;
    f->delivery_count = 0;
    f->delivered_bytes = 0;
    for (uint16_t i = 0; i < f->shard_count && status == 0; i++)
        status = shf_open_shard(f, i);
    if (status == 0)
        shard_slot_table(&f->shards[0], f->slot_shard);
    for (uint16_t i = 0; i < f->shard_count && status == 0; i++)
        status = shard_check_partitions(&f->shards[i], &f->shards[0], f->text);
    for (uint16_t i = 0; i < f->shard_count && status == 0; i++)
        status = shard_check_decisions(&f->shards[i], f->shards, f->text);
    return status;
}

static inline void shf_init_with(struct shard_fixture *f, uint64_t seed, uint16_t shard_count,
                                 uint32_t batch_bytes_max)
{
    memset(f, 0, sizeof(*f));
    f->seed = seed;
    f->shard_count = shard_count;
    f->batch_bytes_max = batch_bytes_max;
    f->disk = sim_disk_new(seed, 512 * MIB);
    cr_assert_eq(shf_open(f), 0, "%s", f->text);
}

static inline void shf_init(struct shard_fixture *f, uint64_t seed, uint16_t shard_count)
{
    shf_init_with(f, seed, shard_count, MIB);
}

static inline void shf_end_life(struct shard_fixture *f)
{
    mailbox_deinit(&f->mailbox);
    mesh_free(f->mesh);
    arena_deinit(&f->arena);
    io_free(f->io);
}

/* The power goes: nothing of this life comes back but what the disk kept. */
static inline void shf_crash(struct shard_fixture *f)
{
    io_sim_crash(f->io);
    for (uint16_t i = 0; i < f->shard_count; i++) {
        f->shards[i].state = SHARD_FAILED; // so that closing writes nothing
        cr_assert_eq(shard_close(&f->shards[i], 0), E_CLOSED);
    }
    shf_end_life(f);
}

static inline void shf_close(struct shard_fixture *f)
{
    for (uint16_t i = 0; i < f->shard_count; i++)
        shard_drain(&f->shards[i]);
    shf_turns(f, 50);
    for (uint16_t i = 0; i < f->shard_count; i++)
        cr_assert_eq(shard_close(&f->shards[i], UINT64_MAX), 0);
    io_close_wait(f->io, f->lock_fd);
    shf_end_life(f);
}

/* A clean stop, and the end of the test. */
static inline void shf_free(struct shard_fixture *f)
{
    shf_close(f);
    sim_disk_free(f->disk);
    free(f);
}

/* ---- speaking to a shard ---- */

/* A request whose frame is built by the caller in buffer->bytes (frame_bytes set). */
static inline struct request *shf_request(struct shard_fixture *f, uint16_t shard, uint16_t op,
                                          uint64_t correlation)
{
    struct request *request = request_acquire(&f->requests, REQUEST_CLIENT, 0);
    cr_assert(request);
    request->op = op;
    request->shard = shard;
    request->conn = (struct conn_id){.slot = 1, .life = 1};
    request->correlation = correlation;
    request->buffer = buffer_acquire(&f->buffers, BUFFER_LARGE_BYTES);
    request->frames = request->buffer->bytes;
    request->frame_count = 1;
    if (op != OP_PRODUCE && op != OP_FETCH)
        request->reply = buffer_acquire(&f->buffers, BUFFER_MEDIUM_BYTES);
    return request;
}

static inline struct writer shf_writer(struct request *request)
{
    return writer_make(request->frames + FRAME_HEADER_SIZE,
                       request->buffer->capacity - FRAME_HEADER_SIZE);
}

static inline void shf_seal(struct request *request, const struct writer *w, uint32_t data_bytes)
{
    cr_assert_not(w->failed);
    request->frame_bytes = frame_seal(request->frames, request->op, 0, request->correlation,
                                      writer_length(w), data_bytes);
}

static inline void shf_send(struct shard_fixture *f, struct request *request)
{
    f->reply = NULL;
    cr_assert_eq(mailbox_send(&f->mailbox, request), 0);
}

/* Runs until it is answered. */
static inline struct request *shf_call(struct shard_fixture *f, struct request *request)
{
    shf_send(f, request);
    for (int i = 0; i < 20000 && !f->reply; i++)
        shf_turn(f);
    cr_assert_eq(f->reply, request, "no answer");
    return request;
}

static inline void shf_release(struct shard_fixture *f, struct request *request)
{
    if (request->buffer) // a publish has given it back
        buffer_unref(&f->buffers, request->buffer);
    if (request->reply)
        buffer_unref(&f->buffers, request->reply);
    request_release(&f->requests, request);
}

static inline uint16_t shf_topic(struct shard_fixture *f, uint16_t op, const char *name,
                                 uint32_t partitions, uint32_t *topic_id)
{
    struct request *request = shf_request(f, 0, op, 5);
    struct writer w = shf_writer(request);
    if (op == OP_TOPIC_DELETE) {
        write_topic_delete(&w, slice_of_text(name));
    } else {
        write_topic_change(&w, slice_of_text(name), partitions);
        write_settings_begin(&w, 0);
    }
    shf_seal(request, &w, 0);
    shf_call(f, request);
    uint16_t error = request->error;
    struct frame frame;
    struct msg_topic_reply reply;
    if (!error) {
        cr_assert_eq(frame_decode(request->reply->bytes, &frame), PE_NONE);
        cr_assert_eq(read_topic_reply(&frame, &reply), PE_NONE);
        *topic_id = reply.topic_id;
    }
    shf_release(f, request);
    return error;
}

struct shf_publish {
    uint32_t topic_id, partition;
    uint64_t producer_id; // PRODUCER_NONE
    uint16_t epoch;
    uint32_t sequence;
    uint32_t records;
    const char *value;
};

/* Writes a PRODUCE frame with one batch. */
static inline void shf_write_publish(struct shard_fixture *f, struct request *request,
                                     const struct shf_publish *publish)
{
    uint8_t bytes[8192], *batch;
    struct batch_builder builder;
    batch_builder_init(&builder, bytes, sizeof(bytes));
    for (uint32_t i = 0; i < publish->records; i++) {
        struct record record = {.timestamp_ms = 1000 + i, .value = slice_of_text(publish->value)};
        cr_assert_eq(batch_builder_add(&builder, &record), 0);
    }
    uint32_t size = batch_builder_finish(&builder, CODEC_NONE, publish->producer_id, publish->epoch,
                                         publish->sequence, NULL, 0, &batch);
    struct writer w = shf_writer(request);
    write_produce_begin(&w, 1, 0);
    write_produce_item(&w, publish->topic_id, publish->partition, size);
    memcpy(w.at, batch, size);
    shf_seal(request, &w, size);
    struct produce_outcome *outcome =
        (struct produce_outcome *)(request->frames + FRAME_HEADER_SIZE + PRODUCE_META_FIXED);
    outcome->shard = le16_make(request->shard);
}

static inline struct produce_outcome shf_outcome(const struct request *request)
{
    struct produce_outcome outcome;
    memcpy(&outcome, request->frames + FRAME_HEADER_SIZE + PRODUCE_META_FIXED, sizeof(outcome));
    return outcome;
}

/* Publishes and waits. Returns the error; *offset on success. */
static inline uint16_t shf_publish(struct shard_fixture *f, const struct shf_publish *publish,
                                   uint64_t *offset)
{
    uint16_t shard = shard_of_partition(f->slot_shard, publish->topic_id, publish->partition);
    struct request *request = shf_request(f, shard, OP_PRODUCE, 1);
    shf_write_publish(f, request, publish);
    shf_call(f, request);
    struct produce_outcome outcome = shf_outcome(request);
    *offset = le64_get(outcome.base_offset);
    shf_release(f, request);
    return le16_get(outcome.error);
}

static inline uint16_t shf_subscribe(struct shard_fixture *f, uint64_t id, uint32_t topic_id,
                                     uint32_t partition, enum start_kind start, uint64_t value,
                                     uint64_t credit)
{
    uint16_t shard = shard_of_partition(f->slot_shard, topic_id, partition);
    struct request *request = shf_request(f, shard, OP_SUBSCRIBE, id);
    struct writer w = shf_writer(request);
    write_fetch_begin(&w, 0, 0, credit, 1);
    write_fetch_item(&w, topic_id, partition, start, 0, value);
    shf_seal(request, &w, 0);
    shf_call(f, request);
    uint16_t error = request->error;
    shf_release(f, request);
    return error;
}

static inline void shf_credit(struct shard_fixture *f, uint16_t shard, uint16_t op, uint64_t id,
                              uint64_t bytes, uint16_t error)
{
    struct request *request = shf_request(f, shard, op, 99);
    struct writer w = shf_writer(request);
    write_credit(&w, &(struct msg_credit){.subscription = id, .bytes = bytes});
    shf_seal(request, &w, 0);
    shf_call(f, request);
    cr_assert_eq(request->error, error);
    shf_release(f, request);
}

/* Counts the records in what was delivered so far, checks every frame, and empties it. */
static inline uint32_t shf_take_records(struct shard_fixture *f, uint64_t *next_offset,
                                        uint16_t *error)
{
    uint32_t records = 0, at = 0;
    *error = PE_NONE;
    while (at < f->delivered_bytes) {
        struct frame frame;
        struct msg_deliver deliver;
        cr_assert_eq(frame_decode(f->delivered + at, &frame), PE_NONE);
        cr_assert_eq(read_deliver(&frame, &deliver), PE_NONE);
        const uint8_t *batch = deliver.batches;
        for (uint32_t i = 0; i < deliver.item_count; i++) {
            uint32_t bytes = le32_get(deliver.items[i].bytes);
            if (le16_get(deliver.items[i].error))
                *error = le16_get(deliver.items[i].error);
            while (bytes > 0) {
                struct batch_info info;
                cr_assert(batch_peek(batch, bytes, &info));
                cr_assert(batch_is_intact(batch, info.size));
                cr_assert_eq(info.base_offset, *next_offset);
                *next_offset += info.record_count;
                records += info.record_count;
                batch += info.size;
                bytes -= info.size;
            }
        }
        at += frame.length;
    }
    f->delivered_bytes = 0;
    return records;
}

#endif
