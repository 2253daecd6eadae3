/* Transactions over real shards on a simulated disk: what clients see, and what they may not see. */
#include "tests/unit/broker/txn_fixture.h"

static struct shard_fixture *f;
static uint32_t topic_id;
#define PARTITIONS 12u

static void open_shards(void)
{
    f = malloc(sizeof(*f));
    shf_init(f, 3, 3);
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "orders", PARTITIONS, &topic_id), PE_NONE);
}

static void free_shards(void)
{
    shf_free(f);
}
TestSuite(txn, .init = open_shards, .fini = free_shards, .timeout = 60);

/* A partition that lives on this shard. */
static uint32_t partition_on(uint16_t shard)
{
    for (uint32_t partition = 0; partition < PARTITIONS; partition++)
        if (shard_of_partition(f->slot_shard, topic_id, partition) == shard)
            return partition;
    cr_assert_fail("no partition on shard %u", shard);
    abort();
}

static struct txn_client opened(uint16_t shard)
{
    struct txn_client client = txn_client_on(f, shard);
    cr_assert_eq(txn_init(f, &client), PE_NONE);
    cr_assert_eq(txn_begin(f, &client), PE_NONE);
    return client;
}

/* One batch of two records on each shard. */
static void stage_everywhere(struct txn_client *client, uint32_t sequence,
                             struct txn_place places[3])
{
    for (uint16_t shard = 0; shard < 3; shard++) {
        uint32_t partition = partition_on(shard);
        cr_assert_eq(txn_stage(f, client, topic_id, partition, sequence, 2, "x"), PE_NONE);
        places[shard] = (struct txn_place){topic_id, partition, 1, 0};
    }
}

static void expect_visible(uint64_t end)
{
    for (uint16_t shard = 0; shard < 3; shard++)
        cr_assert_eq(txn_visible(f, topic_id, partition_on(shard)), end, "shard %u", shard);
}

static void restart(void)
{
    uint64_t digests[3];
    for (int i = 0; i < 3; i++)
        digests[i] = shard_digest(&f->shards[i]);
    shf_turns(f, 200);
    shf_crash(f);
    cr_assert_eq(shf_open(f), 0, "%s", f->text);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(shard_digest(&f->shards[i]), digests[i], "shard %d replays to another state",
                     i);
}

Test(txn, of_one_shard_commits_with_dense_offsets)
{
    struct txn_client client = opened(1);
    uint32_t partition = partition_on(1);
    struct txn_place place = {topic_id, partition, 2, 0};
    cr_assert_eq(txn_stage(f, &client, topic_id, partition, 0, 2, "x"), PE_NONE);
    cr_assert_eq(txn_stage(f, &client, topic_id, partition, 2, 3, "y"), PE_NONE);
    cr_assert_eq(txn_visible(f, topic_id, partition), 0);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, &place, 1), PE_NONE);
    cr_assert_eq(place.base_offset, 0);
    cr_assert_eq(txn_visible(f, topic_id, partition), 5);
}

Test(txn, over_three_shards_is_visible_everywhere_when_it_is_answered)
{
    struct txn_client client = opened(0);
    struct txn_place places[3];
    stage_everywhere(&client, 0, places);
    expect_visible(0);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 3), PE_NONE);
    expect_visible(2);
    cr_assert_eq(txn_begin(f, &client), PE_NONE);
    stage_everywhere(&client, 2, places);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 3), PE_NONE);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(places[i].base_offset, 2);
    expect_visible(4);
    restart();
    expect_visible(4);
}

Test(txn, aborted_leaves_nothing_and_the_sequence_goes_on)
{
    struct txn_client client = opened(2);
    struct txn_place places[3];
    stage_everywhere(&client, 0, places);
    cr_assert_eq(txn_end(f, OP_TXN_ABORT, &client, NULL, 0), PE_NONE);
    expect_visible(0);
    cr_assert_eq(txn_begin(f, &client), PE_NONE);
    cr_assert_eq(txn_stage(f, &client, topic_id, places[0].partition, 0, 2, "again"),
                 PE_DUPLICATE_SEQUENCE);
    stage_everywhere(&client, 2, places);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 3), PE_NONE);
    expect_visible(2);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(participants_count(f->shards[i].participants), 0);
    restart();
}

Test(txn, an_open_one_holds_back_nobody)
{
    struct txn_client client = opened(0);
    struct txn_place places[3];
    uint64_t offset;
    stage_everywhere(&client, 0, places);
    for (uint16_t shard = 0; shard < 3; shard++) {
        struct shf_publish plain = {topic_id, partition_on(shard), PRODUCER_NONE, 0, 0, 1, "plain"};
        cr_assert_eq(shf_publish(f, &plain, &offset), PE_NONE);
        cr_assert_eq(offset, 0);
    }
    expect_visible(1);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 3), PE_NONE);
    cr_assert_eq(places[1].base_offset, 1);
    expect_visible(3);
}

Test(txn, commit_and_abort_are_idempotent_and_exclude_each_other)
{
    struct txn_client client = opened(0);
    struct txn_place places[3];
    stage_everywhere(&client, 0, places);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 3), PE_NONE);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 3), PE_NONE);
    cr_assert_eq(places[0].base_offset, UINT64_MAX, "no longer known");
    cr_assert_eq(txn_end(f, OP_TXN_ABORT, &client, NULL, 0), PE_TRANSACTION_COMMITTED);
    cr_assert_eq(txn_begin(f, &client), PE_NONE);
    cr_assert_eq(txn_end(f, OP_TXN_ABORT, &client, NULL, 0), PE_NONE);
    cr_assert_eq(txn_end(f, OP_TXN_ABORT, &client, NULL, 0), PE_NONE);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, NULL, 0), PE_TRANSACTION_ABORTED);
    client.open_lsn += 8;
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, NULL, 0), PE_UNKNOWN_TRANSACTION);
    restart();
    client.open_lsn -= 8;
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, NULL, 0), PE_TRANSACTION_ABORTED);
    cr_assert_eq(txn_end(f, OP_TXN_ABORT, &client, NULL, 0), PE_NONE);
}

Test(txn, a_commit_that_names_other_than_what_is_staged_aborts)
{
    struct txn_place places[3], wrong[3];
    for (int variant = 0; variant < 5; variant++) {
        struct txn_client client = opened(0);
        uint32_t count = 3;
        stage_everywhere(&client, 0, places);
        memcpy(wrong, places, sizeof(wrong));
        if (variant == 0)
            wrong[1].batch_count = 2;
        else if (variant == 1)
            wrong[2].batch_count = 0;
        else if (variant == 2)
            count = 2;
        else if (variant == 3)
            wrong[2].topic_id += 1;
        else
            count = 0;
        cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, wrong, count), PE_STAGED_MISMATCH,
                     "variant %d", variant);
        cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 3), PE_TRANSACTION_ABORTED);
        expect_visible(0);
    }
}

Test(txn, a_commit_that_names_a_shard_where_nothing_is_staged_aborts)
{
    for (uint16_t only = 0; only < 3; only++) { // the coordinator's shard, or another one
        struct txn_client client = opened(0);
        struct txn_place places[2] = {{topic_id, partition_on(only), 1, 0},
                                      {topic_id, partition_on((uint16_t)((only + 1) % 3)), 1, 0}};
        cr_assert_eq(txn_stage(f, &client, topic_id, places[0].partition, 0, 2, "x"), PE_NONE);
        cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 2), PE_STAGED_MISMATCH);
        cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 1), PE_TRANSACTION_ABORTED);
        expect_visible(0);
    }
}

Test(txn, a_zombie_is_fenced_by_the_next_epoch)
{
    struct txn_client zombie = opened(1), next;
    struct txn_place places[3];
    stage_everywhere(&zombie, 0, places);
    next = zombie;
    cr_assert_eq(txn_init(f, &next), PE_NONE);
    cr_assert_eq(next.producer_id, zombie.producer_id);
    cr_assert_eq(next.epoch, zombie.epoch + 1);
    cr_assert_eq(next.init_state, TXN_INIT_NONE);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &zombie, places, 3), PE_FENCED_PRODUCER);
    cr_assert_eq(txn_begin(f, &zombie), PE_FENCED_PRODUCER);
    for (uint16_t shard = 0; shard < 3; shard++)
        cr_assert_eq(txn_stage(f, &zombie, topic_id, partition_on(shard), 2, 1, "late"),
                     PE_UNKNOWN_TRANSACTION);
    expect_visible(0);
    cr_assert_eq(txn_begin(f, &next), PE_NONE);
    zombie.open_lsn = next.open_lsn; // under the newer one's name, with the old epoch
    cr_assert_eq(txn_stage(f, &zombie, topic_id, places[0].partition, 3, 1, "late"),
                 PE_FENCED_PRODUCER);
    stage_everywhere(&next, 0, places);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &next, places, 3), PE_NONE);
    expect_visible(2);
    shf_turns(f, 100);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(participants_count(f->shards[i].participants), 0);
}

Test(txn, a_late_batch_does_not_join_the_next_transaction)
{
    struct txn_client client = opened(0), late;
    struct txn_place places[3];
    stage_everywhere(&client, 0, places);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 3), PE_NONE);
    late = client;
    cr_assert_eq(txn_begin(f, &client), PE_NONE);
    for (uint16_t shard = 0; shard < 3; shard++)
        cr_assert_eq(txn_stage(f, &late, topic_id, partition_on(shard), 2, 1, "late"),
                     PE_UNKNOWN_TRANSACTION, "shard %u", shard);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, NULL, 0), PE_NONE);
    expect_visible(2);
}

Test(txn, survives_a_restart_and_can_then_be_committed)
{
    struct txn_client client = txn_client_on(f, 2);
    struct txn_place places[3];
    cr_assert_eq(txn_init(f, &client), PE_NONE);
    cr_assert_eq(txn_begin_for(f, &client, 900000), PE_NONE); // a restart takes 100 s here
    stage_everywhere(&client, 0, places);
    restart();
    shf_turns(f, 200);
    expect_visible(0);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 3), PE_NONE);
    expect_visible(2);
}

Test(txn, is_aborted_at_its_deadline_and_its_commit_told_so)
{
    struct txn_client client = txn_client_on(f, 0);
    struct txn_place places[3];
    cr_assert_eq(txn_init(f, &client), PE_NONE);
    cr_assert_eq(txn_begin_for(f, &client, 900001), PE_INVALID_ARGUMENT);
    cr_assert_eq(txn_begin_for(f, &client, 200), PE_NONE);
    stage_everywhere(&client, 0, places);
    uint64_t until = io_sim_now_ns(f->io) + 400 * NS_PER_MS;
    while (io_sim_now_ns(f->io) < until)
        shf_turn(f);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 3), PE_TRANSACTION_ABORTED);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(staged_sum_all(store_staged(f->shards[i].store)).batch_count, 0);
    expect_visible(0);
}

Test(txn, prepared_survives_restart_deadline_and_a_new_epoch)
{
    struct txn_client client = txn_client_on(f, 1);
    struct txn_place places[3];
    cr_assert_eq(txn_init(f, &client), PE_NONE);
    cr_assert_eq(txn_begin_for(f, &client, 100), PE_NONE);
    stage_everywhere(&client, 0, places);
    cr_assert_eq(txn_end(f, OP_TXN_PREPARE, &client, places, 3), PE_NONE);
    cr_assert_eq(txn_end(f, OP_TXN_PREPARE, &client, places, 3), PE_NONE);
    cr_assert_eq(txn_stage(f, &client, topic_id, places[0].partition, 2, 1, "late"),
                 PE_TRANSACTION_PREPARED);
    cr_assert_eq(txn_begin(f, &client), PE_TRANSACTION_PREPARED);
    uint64_t until = io_sim_now_ns(f->io) + 400 * NS_PER_MS;
    while (io_sim_now_ns(f->io) < until)
        shf_turn(f);
    restart();
    shf_turns(f, 400);
    struct txn_client next = client;
    next.open_lsn = 0;
    cr_assert_eq(txn_init(f, &next), PE_NONE);
    cr_assert_eq(next.init_state, TXN_INIT_PREPARED);
    cr_assert_eq(next.open_lsn, client.open_lsn);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 3), PE_FENCED_PRODUCER);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &next, places, 3), PE_NONE);
    expect_visible(2);
    cr_assert_eq(txn_begin(f, &next), PE_NONE);
}

Test(txn, a_prepared_one_has_no_offsets_where_it_has_no_batches)
{
    struct txn_client client = opened(1);
    struct txn_place places[4];
    stage_everywhere(&client, 0, places);
    cr_assert_eq(txn_end(f, OP_TXN_PREPARE, &client, places, 3), PE_NONE);
    uint32_t other = 0;
    while (other == partition_on(0) || other == partition_on(1) || other == partition_on(2))
        other++;
    places[3] = (struct txn_place){topic_id, other, 1, 0};
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 4), PE_NONE);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(places[i].base_offset, 0);
    cr_assert_eq(places[3].base_offset, UINT64_MAX);
}

Test(txn, prepared_can_be_ended_by_name_an_open_one_only_aborted)
{
    struct txn_client client = opened(1);
    struct txn_place places[3];
    stage_everywhere(&client, 0, places);
    struct msg_txn by_name = txn_ref(&client);
    by_name.producer_id = TXN_BY_NAME;
    cr_assert_eq(
        txn_end_take(f, shf_call(f, txn_end_request(f, OP_TXN_COMMIT, &by_name, NULL, 0)), NULL, 0),
        PE_INVALID_ARGUMENT);
    cr_assert_eq(txn_end(f, OP_TXN_PREPARE, &client, places, 3), PE_NONE);
    cr_assert_eq(
        txn_end_take(f, shf_call(f, txn_end_request(f, OP_TXN_COMMIT, &by_name, NULL, 0)), NULL, 0),
        PE_NONE);
    expect_visible(2);
    cr_assert_eq(txn_begin(f, &client), PE_NONE);
    by_name.open_lsn = client.open_lsn;
    cr_assert_eq(
        txn_end_take(f, shf_call(f, txn_end_request(f, OP_TXN_ABORT, &by_name, NULL, 0)), NULL, 0),
        PE_NONE);
}

Test(txn, wrong_names_are_answered_with_what_is_wrong)
{
    struct txn_client client = opened(0), other = client;
    snprintf(other.id, sizeof(other.id), "nobody-knows");
    other.shard = shard_of_name(f->slot_shard, slice_of_text(other.id));
    cr_assert_eq(txn_begin(f, &other), PE_UNKNOWN_TRANSACTIONAL_ID);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &other, NULL, 0), PE_UNKNOWN_TRANSACTIONAL_ID);
    other = client;
    other.producer_id += 7;
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &other, NULL, 0), PE_UNKNOWN_PRODUCER);
    other = client;
    other.epoch += 1;
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &other, NULL, 0), PE_INVALID_ARGUMENT);
    other = client;
    other.shard = 7; // no such coordinator
    cr_assert_eq(txn_stage(f, &other, topic_id, 0, 0, 1, "x"), PE_INVALID_ARGUMENT);
    uint16_t error = txn_stage(f, &client, topic_id, PARTITIONS + 5, 0, 1, "x");
    cr_assert(error == PE_UNKNOWN_PARTITION || error == PE_UNKNOWN_TOPIC, "error %u", error);
    cr_assert_eq(txn_begin(f, &client), PE_NONE, "asked again with nothing staged");
    cr_assert_eq(txn_stage(f, &client, topic_id, 0, 0, 1, "x"), PE_NONE);
    cr_assert_eq(txn_begin(f, &client), PE_TRANSACTION_OPEN);
}

Test(txn, batches_of_a_dropped_topic_vanish_and_the_rest_commits)
{
    uint32_t other_id;
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "gone", 6, &other_id), PE_NONE);
    struct txn_client client = opened(0);
    struct txn_place places[4];
    stage_everywhere(&client, 0, places);
    cr_assert_eq(txn_stage(f, &client, other_id, 1, 0, 1, "x"), PE_NONE);
    places[3] = (struct txn_place){other_id, 1, 1, 0};
    cr_assert_eq(shf_topic(f, OP_TOPIC_DELETE, "gone", 0, &other_id), PE_NONE);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 4), PE_NONE);
    cr_assert_eq(places[3].base_offset, UINT64_MAX);
    expect_visible(2);
}

Test(txn, too_large_a_one_is_refused_and_can_be_aborted)
{
    static char big[8001];
    memset(big, 'x', sizeof(big) - 1);
    struct txn_client client = opened(0);
    uint32_t partition = partition_on(1), sequence = 0;
    uint16_t error = PE_NONE;
    for (; !error && sequence < 1000; sequence += !error)
        error = txn_stage(f, &client, topic_id, partition, sequence, 1, big);
    cr_assert_eq(error, PE_TRANSACTION_TOO_LARGE);
    cr_assert_gt(sequence, 200u);
    cr_assert_eq(txn_end(f, OP_TXN_ABORT, &client, NULL, 0), PE_NONE);
    cr_assert_eq(staged_sum_all(store_staged(f->shards[1].store)).bytes, 0);
}

Test(txn, a_repeated_batch_is_staged_once)
{
    struct txn_client client = opened(0);
    struct txn_place place = {topic_id, partition_on(2), 1, 0};
    for (int i = 0; i < 3; i++)
        cr_assert_eq(txn_stage(f, &client, topic_id, place.partition, 0, 2, "x"), PE_NONE);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, &place, 1), PE_NONE);
    cr_assert_eq(txn_visible(f, topic_id, place.partition), 2);
}

/* ---- what is forgotten ---- */

static void pass_wall_time(uint64_t ms)
{
    for (int i = 0; i < 3; i++)
        f->shards[i].idle_look_ns = 0;
    uint64_t until = io_sim_now_ns(f->io) + ms * NS_PER_MS;
    while (io_sim_now_ns(f->io) < until)
        shf_turn(f);
    shf_turns(f, 200);
}

Test(txn, an_idle_id_is_forgotten_and_an_open_one_is_not)
{
    struct txn_client idle = txn_client_on(f, 0), busy = txn_client(f, "busy");
    for (int i = 0; i < 3; i++)
        f->shards[i].txn.id_retention_ms = 200;
    cr_assert_eq(txn_init(f, &idle), PE_NONE);
    cr_assert_eq(txn_init(f, &busy), PE_NONE);
    cr_assert_eq(txn_begin(f, &busy), PE_NONE);
    pass_wall_time(2500);
    cr_assert_eq(txn_begin(f, &idle), PE_UNKNOWN_TRANSACTIONAL_ID);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &busy, NULL, 0), PE_NONE);
    uint64_t producer_id = idle.producer_id;
    cr_assert_eq(txn_init(f, &idle), PE_NONE);
    cr_assert_neq(idle.producer_id, producer_id, "a new one, which no batch of before can have");
    restart();
}

Test(txn, an_idle_producer_is_forgotten_and_told_so)
{
    uint64_t offset;
    struct shf_publish publish = {topic_id, partition_on(0), 77, 0, 0, 2, "x"};
    for (int i = 0; i < 3; i++)
        f->shards[i].producer_retention_ms = 200;
    cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    publish.sequence = 2;
    cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    pass_wall_time(2500);
    publish.sequence = 4;
    cr_assert_eq(shf_publish(f, &publish, &offset), PE_UNKNOWN_PRODUCER);
    publish.epoch = 1;
    publish.sequence = 0;
    cr_assert_eq(shf_publish(f, &publish, &offset), PE_NONE);
    cr_assert_eq(offset, 4);
    restart();
}

Test(txn, an_id_whose_epochs_are_used_up_gets_a_new_producer_id)
{
    struct txn_client client = txn_client_on(f, 2);
    cr_assert_eq(txn_init(f, &client), PE_NONE);
    uint64_t producer_id = client.producer_id;
    struct disk_producer_open payload = {.producer_id = le64_make(producer_id),
                                         .epoch = le16_make(EPOCH_MAX - 1)};
    struct wal_entry entry = {
        .type = ENTRY_PRODUCER_OPEN,
        .pieces = {{&payload, sizeof(payload)}, {client.id, (uint32_t)strlen(client.id)}},
        .piece_count = 2};
    struct wal_view view;
    cr_assert_eq(store_append(f->shards[2].store, &entry, &view, NULL), 0);
    cr_assert_eq(txn_init(f, &client), PE_NONE);
    cr_assert_eq(client.producer_id, producer_id);
    cr_assert_eq(client.epoch, EPOCH_MAX);
    struct txn_client before = client;
    cr_assert_eq(txn_init(f, &client), PE_NONE);
    cr_assert_gt(client.producer_id, producer_id);
    cr_assert_eq(client.epoch, 0);
    cr_assert_eq(txn_begin(f, &before), PE_FENCED_PRODUCER);
    cr_assert_eq(txn_begin(f, &client), PE_NONE);
}

/* ---- several at once ---- */

/* The earlier one may be of a process that is gone: were it the last, it would fence the one that took its place. */
static void expect_epochs_in_order(struct txn_client *client)
{
    struct request *requests[3];
    for (int i = 0; i < 3; i++) {
        requests[i] = txn_init_request(f, client);
        cr_assert_eq(mailbox_send(&f->mailbox, requests[i]), 0);
    }
    for (int i = 0; i < 2000; i++)
        shf_turn(f);
    uint16_t epochs[3];
    for (int i = 0; i < 3; i++) {
        cr_assert(requests[i]->is_reply);
        cr_assert_eq(txn_init_take(f, client, requests[i]), PE_NONE);
        epochs[i] = client->epoch;
    }
    cr_assert_lt(epochs[0], epochs[1]);
    cr_assert_lt(epochs[1], epochs[2]);
}

Test(txn, who_opens_an_id_later_gets_the_later_epoch)
{
    struct txn_client unknown = txn_client_on(f, 1);
    expect_epochs_in_order(&unknown); // each waits for a producer id from shard 0
    struct txn_client client = opened(0);
    struct txn_place places[3];
    stage_everywhere(&client, 0, places);
    expect_epochs_in_order(&client); // each waits for the abort of what is open
}
