/* Everything at once, without regard to what a client should do: ids opened while they commit, ends that cross ends, deadlines,
 * topics that go, batches under old names, a log that is full now and then. Whatever the order: each
 * request comes home once, the promise of all or nothing holds, and in the end nothing is left over. */
#include "tests/unit/broker/txn_fixture.h"

#include "broker/cursor.h"
#include "broker/txn_job.h"

#define CLIENTS 5u
#define PARTITIONS 48u
#define UNDER_WAY_MAX 14u
#define STEPS 4000
#define RECORDS 2u
#define SIDE 3 // a topic that is deleted and made again, and again

struct actor { // a transactional id; several requests of it may be under way
    struct txn_client client;
    uint32_t partitions[3]; // its own, one on each shard
    uint32_t sequences[3];
    uint32_t staged[4]; // acked in what is open; the last: in the topic that goes
    uint32_t side_id; // the topic that goes, as it was when something was staged there; 0: nothing
    uint32_t side_sequence;
};

struct flight { // a request under way
    struct request *request;
    struct actor *actor;
    uint16_t place;    // of a staged batch; SIDE: in the topic that goes
    uint64_t open_lsn; // of its transaction
};

static struct shard_fixture *f;
static uint32_t topic_id, side_id; // 0: it is gone
static bool side_changes;
static struct actor actors[CLIENTS];
static struct flight flights[UNDER_WAY_MAX];
static struct random chance;

TestSuite(txn_chaos, .timeout = 110);

static uint32_t below(uint32_t n)
{
    return (uint32_t)random_below(&chance, n);
}

static bool is_home(const struct request *request)
{
    return request->is_reply && !list_is_linked(&request->link);
}

static struct flight *free_flight(void)
{
    for (uint32_t i = 0; i < UNDER_WAY_MAX; i++)
        if (!flights[i].request)
            return &flights[i];
    return NULL;
}

static void send(struct actor *actor, struct request *request, uint16_t place)
{
    struct flight *flight = free_flight();
    cr_assert_not_null(flight);
    *flight = (struct flight){request, actor, place, actor ? actor->client.open_lsn : 0};
    cr_assert_eq(mailbox_send(&f->mailbox, request), 0);
}

/* ---- what is asked ---- */

static void send_begin(struct actor *actor)
{
    struct request *request = shf_request(f, actor->client.shard, OP_TXN_BEGIN, 12);
    struct writer w = shf_writer(request);
    write_txn_begin(&w, &(struct msg_txn_begin){.id = slice_of_text(actor->client.id),
                                                .producer_id = actor->client.producer_id,
                                                .epoch = actor->client.epoch,
                                                .timeout_ms = below(4) ? 60000 : 1 + below(20)});
    shf_seal(request, &w, 0);
    send(actor, request, 0);
}

/* One topic id in a transaction, and a partition for each actor. */
static void send_side(struct actor *actor, const struct txn_client *client)
{
    uint32_t partition = (uint32_t)(actor - actors);
    if (side_id == 0 || (actor->side_id != 0 && actor->side_id != side_id))
        return;
    if (actor->side_id == 0)
        actor->side_sequence = 0;
    actor->side_id = side_id;
    send(actor,
         txn_stage_request(f, client, side_id, partition, actor->side_sequence, RECORDS, "x"),
         SIDE);
}

static void send_topic(void)
{
    struct request *request = shf_request(f, 0, side_id ? OP_TOPIC_DELETE : OP_TOPIC_CREATE, 5);
    struct writer w = shf_writer(request);
    if (side_id) {
        write_topic_delete(&w, slice_of_text("side"));
    } else {
        write_topic_change(&w, slice_of_text("side"), CLIENTS);
        write_settings_begin(&w, 0);
    }
    shf_seal(request, &w, 0);
    side_changes = true;
    send(NULL, request, 0);
}

static void send_stage(struct actor *actor)
{
    uint16_t place = (uint16_t)below(SIDE + 1);
    struct txn_client client = actor->client;
    if (below(12) == 0)
        client.open_lsn -= 8 * below(400); // an old name, or none
    if (place == SIDE) {
        send_side(actor, &client);
        return;
    }
    send(actor,
         txn_stage_request(f, &client, topic_id, actor->partitions[place], actor->sequences[place],
                           RECORDS, "x"),
         place);
}

static void send_end(struct actor *actor)
{
    static const uint16_t ops[] = {OP_TXN_COMMIT, OP_TXN_COMMIT, OP_TXN_COMMIT, OP_TXN_ABORT,
                                   OP_TXN_PREPARE};
    struct txn_place places[4];
    uint32_t count = 0;
    struct msg_txn txn = txn_ref(&actor->client);
    for (int i = 0; i < 3; i++)
        if (actor->staged[i] > 0)
            places[count++] =
                (struct txn_place){topic_id, actor->partitions[i], actor->staged[i], 0};
    if (actor->staged[SIDE] > 0)
        places[count++] =
            (struct txn_place){actor->side_id, (uint32_t)(actor - actors), actor->staged[SIDE], 0};
    if (below(8) == 0) {
        txn.producer_id = TXN_BY_NAME;
        count = 0;
    }
    send(actor, txn_end_request(f, ops[below(ARRAY_COUNT(ops))], &txn, places, count), 0);
}

/* Entries of a type that says nothing, until the log takes no more: what comes next is blocked. */
static void fill_log(void)
{
    static uint8_t bytes[100 * KIB];
    struct wal_entry entry = {.type = 200,
                              .flags = ENTRY_IGNORABLE,
                              .pieces = {{bytes, sizeof(bytes)}},
                              .piece_count = 1};
    struct wal_view view;
    struct shard *shard = &f->shards[below(3)];
    int status = 0;
    for (int i = 0; i < 1000 && status == 0; i++)
        status = store_append(shard->store, &entry, &view, NULL);
    cr_assert_eq(status, E_FULL);
}

static void ask_something(void)
{
    struct actor *actor = &actors[below(CLIENTS)];
    uint32_t what = below(20);
    if (what == 0)
        send(actor, txn_init_request(f, &actor->client), 0);
    else if (what < 4)
        send_begin(actor);
    else if (what < 10)
        send_stage(actor);
    else if (what < 13)
        send_end(actor);
    else if (what == 13 && below(3) == 0)
        fill_log();
    else if (what == 14 && !side_changes && below(3) == 0)
        send_topic();
}

/* ---- what is answered ---- */

static void take_begin(struct actor *actor, const struct request *request)
{
    struct frame frame;
    struct msg_txn_begin_reply reply;
    if (request->error)
        return;
    cr_assert_eq(frame_decode(request->reply->bytes, &frame), PE_NONE);
    cr_assert_eq(read_txn_begin_reply(&frame, &reply), PE_NONE);
    if (reply.open_lsn > actor->client.open_lsn) {
        actor->client.open_lsn = reply.open_lsn;
        memset(actor->staged, 0, sizeof(actor->staged));
        actor->side_id = 0;
    }
}

static void take_topic(const struct request *request)
{
    struct frame frame;
    struct msg_topic_reply reply = {0};
    cr_assert_eq(request->error, PE_NONE);
    if (request->op == OP_TOPIC_CREATE) {
        cr_assert_eq(frame_decode(request->reply->bytes, &frame), PE_NONE);
        cr_assert_eq(read_topic_reply(&frame, &reply), PE_NONE);
    }
    side_id = reply.topic_id;
    side_changes = false;
}

static void take_stage(struct actor *actor, struct flight *flight)
{
    struct produce_outcome outcome;
    memcpy(&outcome,
           flight->request->frames + FRAME_HEADER_SIZE + PRODUCE_META_FIXED + PRODUCE_META_STAGED,
           sizeof(outcome));
    uint16_t error = le16_get(outcome.error);
    actor->staged[flight->place] += error == PE_NONE && flight->open_lsn == actor->client.open_lsn;
    if (error != PE_NONE && error != PE_DUPLICATE_SEQUENCE && error != PE_UNKNOWN_TRANSACTION)
        return;
    uint32_t *sequence =
        flight->place == SIDE ? &actor->side_sequence : &actor->sequences[flight->place];
    *sequence += RECORDS; // used, or it will be found to be
}

static void take(struct flight *flight)
{
    struct request *request = TAKE(flight->request);
    struct flight taken = *flight;
    taken.request = request;
    if (request->op == OP_TXN_INIT) {
        txn_init_take(f, &taken.actor->client, request);
        memset(taken.actor->sequences, 0, sizeof(taken.actor->sequences));
        return;
    }
    if (request->op == OP_TOPIC_CREATE || request->op == OP_TOPIC_DELETE)
        take_topic(request);
    else if (request->op == OP_TXN_BEGIN)
        take_begin(taken.actor, request);
    else if (request->op == OP_PRODUCE && taken.actor)
        take_stage(taken.actor, &taken);
    shf_release(f, request);
}

static uint32_t take_all(void)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < UNDER_WAY_MAX; i++) {
        if (flights[i].request && is_home(flights[i].request))
            take(&flights[i]);
        left += flights[i].request != NULL;
    }
    return left;
}

static void settle(void)
{
    for (int i = 0; i < 40000 && take_all() > 0; i++)
        shf_turn(f);
    for (uint32_t i = 0; i < UNDER_WAY_MAX; i++)
        cr_assert_null(flights[i].request, "op %u did not come home", flights[i].request->op);
    shf_turns(f, 300);
}

/* ---- the checks ---- */

/* Opening an id anew ends what it had; what was prepared is ended by name. */
static void end_all(void)
{
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct txn_client *client = &actors[i].client;
        cr_assert_eq(txn_init(f, client), PE_NONE);
        if (client->init_state != TXN_INIT_PREPARED)
            continue;
        struct msg_txn by_name = txn_ref(client);
        by_name.producer_id = TXN_BY_NAME;
        uint16_t op = below(2) ? OP_TXN_COMMIT : OP_TXN_ABORT;
        cr_assert_eq(
            txn_end_take(f, shf_call(f, txn_end_request(f, op, &by_name, NULL, 0)), NULL, 0),
            PE_NONE);
    }
    shf_turns(f, 300);
}

static void nothing_is_left(uint64_t requests_free)
{
    for (uint16_t i = 0; i < 3; i++) {
        struct shard *shard = &f->shards[i];
        cr_assert_eq(participants_count(shard->participants), 0, "shard %u", i);
        cr_assert_eq(transactions_open_count(shard->transactions), 0, "shard %u", i);
        cr_assert_eq(staged_sum_all(store_staged(shard->store)).batch_count, 0, "shard %u", i);
        cr_assert(txn_jobs_are_idle(shard->txn_jobs), "shard %u", i);
        cr_assert(list_is_empty(&shard->queue) && list_is_empty(&shard->waiting), "shard %u", i);
        shard_check(shard);
    }
    cr_assert_eq(f->requests.free_count, requests_free, "requests are lost");
}

static void start(uint64_t seed)
{
    f = malloc(sizeof(*f));
    random_init(&chance, seed);
    side_id = 0;
    side_changes = false;
    memset(actors, 0, sizeof(actors));
    memset(flights, 0, sizeof(flights));
    shf_init(f, seed, 3);
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "orders", PARTITIONS, &topic_id), PE_NONE);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        char id[32];
        snprintf(id, sizeof(id), "actor-%u", i);
        actors[i].client = txn_client(f, id);
        cr_assert_eq(txn_init(f, &actors[i].client), PE_NONE);
        for (uint16_t shard = 0; shard < 3; shard++) {
            uint32_t skip = i, partition = 0;
            while (shard_of_partition(f->slot_shard, topic_id, partition) != shard || skip-- > 0)
                partition++;
            cr_assert_lt(partition, PARTITIONS);
            actors[i].partitions[shard] = partition;
        }
    }
}

static void run(uint64_t seed)
{
    start(seed);
    uint64_t requests_free = f->requests.free_count, blocked = 0, committed = 0, aborted = 0;
    for (int step = 0; step < STEPS; step++) {
        if (take_all() < UNDER_WAY_MAX)
            ask_something();
        if (below(2) == 0)
            shf_turns(f, (int)below(8));
    }
    settle();
    end_all();
    nothing_is_left(requests_free);
    uint64_t digests[3];
    for (uint16_t i = 0; i < 3; i++) {
        digests[i] = shard_digest(&f->shards[i]);
        blocked += counter_get(&f->shards[i].counters.blocked_total);
        committed += counter_get(&f->shards[i].counters.transactions_committed_total);
        aborted += counter_get(&f->shards[i].counters.transactions_aborted_total);
    }
    cr_log_info("seed %llu: %llu committed, %llu aborted, blocked %llu times",
                (unsigned long long)seed, (unsigned long long)committed,
                (unsigned long long)aborted, (unsigned long long)blocked);
    cr_assert_gt(blocked, 0, "the log was never full");
    cr_assert_gt(committed, 10);
    cr_assert_gt(aborted, 10);
    shf_crash(f);
    cr_assert_eq(shf_open(f), 0, "%s", f->text);
    for (uint16_t i = 0; i < 3; i++)
        cr_assert_eq(shard_digest(&f->shards[i]), digests[i], "shard %u replays to another state",
                     i);
    shf_free(f);
}

Test(txn_chaos, every_request_comes_home_and_nothing_is_left_over)
{
    for (uint64_t seed = 171; seed <= 176; seed++)
        run(seed);
}
