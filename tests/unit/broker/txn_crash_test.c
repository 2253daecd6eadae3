/* Two-phase commit under power cuts: clients of four transactional ids at once over three shards on a simulated disk, the
 * power goes at any turn, what was not synced is lost in part.
 *
 * Each client has a partition of its own on each shard and puts two records into each of the three in every transaction, so
 * atomicity can be seen in the visible ends alone: they are equal, at least what was answered as committed, and at most that
 * and the commits whose answer was lost. */
#include "tests/unit/broker/txn_fixture.h"
#include "tests/unit/seeds.h"

#define CLIENTS 4u
#define PARTITIONS 64u
#define LIVES 5
#define RECORDS 2u

enum step { STEP_INIT, STEP_BEGIN, STEP_STAGE, STEP_PREPARE, STEP_COMMIT, STEP_ABORT };

struct worker {
    struct txn_client client;
    uint32_t partitions[3];
    uint32_t sequence;
    enum step step;
    struct request *requests[3];
    uint32_t committed; // answered
    uint32_t unknown;   // asked, the answer was lost
    uint32_t in_doubt_lsn_count;
    bool ended_by_init; // TXN_INIT says what is prepared: it is ended next
};

static struct shard_fixture *f;
static uint32_t topic_id;
static struct worker workers[CLIENTS];
static struct random chance;

TestSuite(txn_crash, .timeout = 120);

static uint64_t below(uint64_t n)
{
    return random_below(&chance, n);
}

static void send(struct worker *worker, uint32_t i, struct request *request)
{
    worker->requests[i] = request;
    cr_assert_eq(mailbox_send(&f->mailbox, request), 0);
}

static bool is_home(const struct request *request)
{
    return request->is_reply && !list_is_linked(&request->link);
}

static bool is_answered(const struct worker *worker)
{
    for (int i = 0; i < 3; i++)
        if (worker->requests[i] && !is_home(worker->requests[i]))
            return false;
    return true;
}

/* Exactly one partition on each shard, its own. */
static void choose_partitions(struct worker *worker, uint32_t number)
{
    for (uint16_t shard = 0; shard < 3; shard++) {
        uint32_t skip = number, partition = 0;
        while (shard_of_partition(f->slot_shard, topic_id, partition) != shard || skip-- > 0)
            partition++;
        cr_assert_lt(partition, PARTITIONS);
        worker->partitions[shard] = partition;
    }
}

static void send_end(struct worker *worker, uint16_t op)
{
    struct txn_place places[3];
    struct msg_txn txn = txn_ref(&worker->client);
    for (int i = 0; i < 3; i++)
        places[i] = (struct txn_place){topic_id, worker->partitions[i], 1, 0};
    send(worker, 0, txn_end_request(f, op, &txn, places, 3));
}

static void send_begin(struct worker *worker)
{
    struct request *request = shf_request(f, worker->client.shard, OP_TXN_BEGIN, 12);
    struct writer w = shf_writer(request);
    write_txn_begin(&w, &(struct msg_txn_begin){.id = slice_of_text(worker->client.id),
                                                .producer_id = worker->client.producer_id,
                                                .epoch = worker->client.epoch,
                                                .timeout_ms = 900000}); // a restart takes 100 s
    shf_seal(request, &w, 0);
    send(worker, 0, request);
}

/* What comes after the step that was answered. */
static void go_on(struct worker *worker)
{
    switch (worker->step) {
    case STEP_INIT:
        send(worker, 0, txn_init_request(f, &worker->client));
        return;
    case STEP_BEGIN:
        send_begin(worker);
        return;
    case STEP_STAGE:
        for (uint32_t i = 0; i < 3; i++)
            send(worker, i,
                 txn_stage_request(f, &worker->client, topic_id, worker->partitions[i],
                                   worker->sequence, RECORDS, "x"));
        return;
    case STEP_PREPARE:
        send_end(worker, OP_TXN_PREPARE);
        return;
    case STEP_COMMIT:
        send_end(worker, OP_TXN_COMMIT);
        return;
    case STEP_ABORT:
        send_end(worker, OP_TXN_ABORT);
        return;
    }
}

static enum step after_stage(void)
{
    uint64_t roll = below(10);
    return roll < 3 ? STEP_ABORT : roll < 5 ? STEP_PREPARE : STEP_COMMIT;
}

static void take(struct worker *worker)
{
    struct request *request = worker->requests[0];
    uint16_t error;
    worker->requests[0] = NULL;
    switch (worker->step) {
    case STEP_INIT:
        cr_assert_eq(txn_init_take(f, &worker->client, request), PE_NONE);
        worker->sequence = 0;
        worker->step = worker->client.init_state != TXN_INIT_PREPARED ? STEP_BEGIN
                       : below(2)                                     ? STEP_COMMIT
                                                                      : STEP_ABORT;
        return;
    case STEP_BEGIN: {
        struct frame frame;
        struct msg_txn_begin_reply reply;
        cr_assert_eq(request->error, PE_NONE, "%s", proto_error_name(request->error));
        cr_assert_eq(frame_decode(request->reply->bytes, &frame), PE_NONE);
        cr_assert_eq(read_txn_begin_reply(&frame, &reply), PE_NONE);
        worker->client.open_lsn = reply.open_lsn;
        shf_release(f, request);
        worker->step = STEP_STAGE;
        return;
    }
    case STEP_STAGE:
        cr_assert_eq(txn_stage_take(f, request), PE_NONE);
        for (int i = 1; i < 3; i++) {
            cr_assert_eq(txn_stage_take(f, worker->requests[i]), PE_NONE);
            worker->requests[i] = NULL;
        }
        worker->sequence += RECORDS;
        worker->step = after_stage();
        return;
    case STEP_PREPARE:
        error = request->error;
        shf_release(f, request);
        cr_assert_eq(error, PE_NONE);
        worker->step = below(3) ? STEP_COMMIT : STEP_ABORT;
        return;
    case STEP_COMMIT:
        error = request->error;
        shf_release(f, request);
        cr_assert_eq(error, PE_NONE, "%s", proto_error_name(error));
        worker->committed++;
        worker->step = STEP_BEGIN;
        return;
    case STEP_ABORT:
        error = request->error;
        shf_release(f, request);
        cr_assert_eq(error, PE_NONE, "%s", proto_error_name(error));
        worker->step = STEP_BEGIN;
        return;
    }
}

static void work(int turns)
{
    while (turns-- > 0) {
        for (uint32_t i = 0; i < CLIENTS; i++) {
            if (!is_answered(&workers[i]))
                continue;
            if (workers[i].requests[0])
                take(&workers[i]);
            go_on(&workers[i]);
        }
        shf_turn(f);
    }
}

/* The broker is gone, and what was asked with it. */
static void lose_answers(void)
{
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct worker *worker = &workers[i];
        worker->unknown += worker->step == STEP_COMMIT && worker->requests[0];
        memset(worker->requests, 0, sizeof(worker->requests));
        worker->step = STEP_INIT;
    }
}

static bool is_settled(void)
{
    for (uint16_t i = 0; i < f->shard_count; i++) {
        struct participants *participants = f->shards[i].participants;
        struct table *table = participants_table(participants);
        for (uint32_t row = 0; row < table_row_count(table); row++)
            if (table_row_is_used(table, row) &&
                participants_row(participants, row)->state == TXN_PART_PREPARED &&
                !participants_row(participants, row)->is_explicit)
                return false;
    }
    return true;
}

static void check(const struct worker *worker, uint64_t seed, int life)
{
    uint64_t ends[3];
    for (int i = 0; i < 3; i++)
        ends[i] = txn_visible(f, topic_id, worker->partitions[i]);
    cr_assert(ends[0] == ends[1] && ends[1] == ends[2],
              "torn: seed %llu life %d %s: %llu %llu %llu", (unsigned long long)seed, life,
              worker->client.id, (unsigned long long)ends[0], (unsigned long long)ends[1],
              (unsigned long long)ends[2]);
    cr_assert_geq(ends[0], (uint64_t)worker->committed * RECORDS, "lost: seed %llu life %d %s",
                  (unsigned long long)seed, life, worker->client.id);
    cr_assert_leq(ends[0], (uint64_t)(worker->committed + worker->unknown) * RECORDS,
                  "aborted, but visible: seed %llu life %d %s", (unsigned long long)seed, life,
                  worker->client.id);
}

static void check_replay(uint64_t seed)
{
    uint64_t digests[3];
    shf_turns(f, 400); // idle: everything is durable
    for (int i = 0; i < 3; i++)
        digests[i] = shard_digest(&f->shards[i]);
    shf_crash(f);
    cr_assert_eq(shf_open(f), 0, "%s", f->text);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(shard_digest(&f->shards[i]), digests[i],
                     "seed %llu: shard %d replays to another state", (unsigned long long)seed, i);
}

static uint32_t run(uint64_t seed)
{
    f = malloc(sizeof(*f));
    memset(workers, 0, sizeof(workers));
    random_init(&chance, seed);
    shf_init(f, seed, 3);
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "ledger", PARTITIONS, &topic_id), PE_NONE);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        char id[32];
        snprintf(id, sizeof(id), "teller-%u", i);
        workers[i].client = txn_client(f, id);
        choose_partitions(&workers[i], i);
    }
    uint32_t committed = 0;
    for (int life = 0; life < LIVES; life++) {
        work(100 + (int)below(1500));
        lose_answers();
        shf_crash(f);
        cr_assert_eq(shf_open(f), 0, "seed %llu: %s", (unsigned long long)seed, f->text);
        for (int turns = 0; !is_settled(); turns++) {
            cr_assert_lt(turns, 5000, "seed %llu life %d: in doubt", (unsigned long long)seed,
                         life);
            shf_turn(f);
        }
        shf_turns(f, 200);
        for (uint32_t i = 0; i < CLIENTS; i++)
            check(&workers[i], seed, life);
    }
    check_replay(seed);
    for (uint32_t i = 0; i < CLIENTS; i++)
        committed += workers[i].committed;
    shf_free(f);
    return committed;
}

Test(txn_crash, a_power_cut_at_any_time_leaves_all_or_nothing)
{
    uint64_t count = seeds(15), committed = 0;
    for (uint64_t i = 0; i < count; i++)
        committed += run(first_seed(1) + i);
    cr_assert_gt(committed, count * 30, "only %llu commits: this tests nothing",
                 (unsigned long long)committed);
}
