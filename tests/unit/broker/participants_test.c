/* Participants: joining, asking, dropping what was refused, and what happens when messages of two ends cross. Shards on the
 * simulated disk; requests are left under way where their order is the point. */
#include "tests/unit/broker/group_fixture.h"
#include "tests/unit/broker/txn_fixture.h"

#include "base/log.h"
#include "broker/txn_job.h"

static struct shard_fixture *f;
static uint32_t topic_id;
#define PARTITIONS 12u

static void open_shards(void)
{
    f = malloc(sizeof(*f));
    shf_init(f, 31, 3);
    cr_assert_eq(shf_topic(f, OP_TOPIC_CREATE, "orders", PARTITIONS, &topic_id), PE_NONE);
}

static void free_shards(void)
{
    shf_free(f);
}
TestSuite(participants, .init = open_shards, .fini = free_shards, .timeout = 60);

static uint32_t partition_on(uint16_t shard)
{
    for (uint32_t partition = 0; partition < PARTITIONS; partition++)
        if (shard_of_partition(f->slot_shard, topic_id, partition) == shard)
            return partition;
    cr_assert_fail("no partition on shard %u", shard);
    abort();
}

static struct txn_client opened_for(uint16_t shard, uint32_t timeout_ms)
{
    struct txn_client client = txn_client_on(f, shard);
    cr_assert_eq(txn_init(f, &client), PE_NONE);
    cr_assert_eq(txn_begin_for(f, &client, timeout_ms), PE_NONE);
    return client;
}

static struct txn_client opened(uint16_t shard)
{
    return opened_for(shard, 900000);
}

static struct disk_txn_name name_of(const struct txn_client *client)
{
    return (struct disk_txn_name){.coordinator = le32_make(client->shard),
                                  .open_lsn = le64_make(client->open_lsn)};
}

/* The participant's state on a shard; TXN_PART_NONE: there is none. */
static uint8_t state_on(uint16_t shard, const struct txn_client *client)
{
    struct disk_txn_name name = name_of(client);
    uint32_t row = participants_find(f->shards[shard].participants, &name);
    return row == TABLE_ROW_NONE ? TXN_PART_NONE
                                 : participants_row(f->shards[shard].participants, row)->state;
}

static void send(struct request *request)
{
    cr_assert_eq(mailbox_send(&f->mailbox, request), 0);
}

static bool is_home(const struct request *request)
{
    return request->is_reply && !list_is_linked(&request->link);
}

static void wait_for(struct request *request)
{
    for (int i = 0; i < 20000 && !is_home(request); i++)
        shf_turn(f);
    cr_assert(is_home(request), "a request did not come home");
}

static struct request *stage_request(const struct txn_client *client, uint16_t shard,
                                     uint32_t sequence)
{
    return txn_stage_request(f, client, topic_id, partition_on(shard), sequence, 2, "x");
}

static struct request *end_request(uint16_t op, const struct txn_client *client,
                                   struct txn_place *places, uint32_t count)
{
    struct msg_txn txn = txn_ref(client);
    return txn_end_request(f, op, &txn, places, count);
}

static struct txn_place place_on(uint16_t shard, uint32_t batch_count)
{
    return (struct txn_place){topic_id, partition_on(shard), batch_count, 0};
}

static void crash(void)
{
    shf_crash(f);
    cr_assert_eq(shf_open(f), 0, "%s", f->text);
}

static bool is_durable(uint16_t shard)
{
    return store_committed_lsn(f->shards[shard].store) >=
           store_reserved_lsn(f->shards[shard].store);
}

/* ---- rows ---- */

Test(participants, a_row_lives_from_the_first_batch_to_the_end)
{
    struct txn_client client = opened(0);
    struct txn_place places[] = {place_on(0, 1), place_on(1, 2)};
    cr_assert_eq(state_on(1, &client), TXN_PART_NONE);
    cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, 0, 0))), PE_NONE);
    for (uint32_t sequence = 0; sequence < 4; sequence += 2)
        cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, 1, sequence))), PE_NONE);
    cr_assert_eq(state_on(0, &client), TXN_PART_STAGING);
    cr_assert_eq(state_on(1, &client), TXN_PART_STAGING);
    cr_assert_eq(state_on(2, &client), TXN_PART_NONE);
    cr_assert_eq(participants_count(f->shards[1].participants), 1);
    cr_assert_eq(txn_end(f, OP_TXN_PREPARE, &client, places, 2), PE_NONE);
    cr_assert_eq(state_on(1, &client), TXN_PART_PREPARED);
    cr_assert_eq(participants_prepared_count(f->shards[1].participants), 1);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 2), PE_NONE);
    cr_assert_eq(state_on(1, &client), TXN_PART_NONE);
    cr_assert_eq(participants_prepared_count(f->shards[1].participants), 0);
    cr_assert_eq(txn_visible(f, topic_id, places[1].partition), 4);
}

/* ---- joining ---- */

Test(participants, several_requests_wait_for_one_join)
{
    struct txn_client client = opened(0);
    struct request *requests[5];
    for (uint32_t i = 0; i < ARRAY_COUNT(requests); i++)
        send(requests[i] = stage_request(&client, 1, 2 * i));
    for (uint32_t i = 0; i < ARRAY_COUNT(requests); i++) {
        wait_for(requests[i]);
        cr_assert_eq(txn_stage_take(f, requests[i]), PE_NONE);
    }
    struct txn_place place = place_on(1, ARRAY_COUNT(requests));
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, &place, 1), PE_NONE);
}

Test(participants, a_refused_join_is_told_to_all_who_wait_and_nothing_is_left)
{
    struct txn_client client = opened(0);
    struct request *requests[5];
    cr_assert_eq(txn_end(f, OP_TXN_ABORT, &client, NULL, 0), PE_NONE);
    for (uint32_t i = 0; i < ARRAY_COUNT(requests); i++)
        send(requests[i] = stage_request(&client, 1, 2 * i));
    for (uint32_t i = 0; i < ARRAY_COUNT(requests); i++) {
        wait_for(requests[i]);
        cr_assert_eq(txn_stage_take(f, requests[i]), PE_UNKNOWN_TRANSACTION);
    }
    cr_assert_eq(participants_count(f->shards[1].participants), 0);
    cr_assert_eq(staged_sum_all(store_staged(f->shards[1].store)).batch_count, 0);
}

Test(participants, a_batch_under_another_producers_name_is_refused_and_takes_nothing_with_it)
{
    struct txn_client victim = opened(0), liar = txn_client(f, "liar");
    cr_assert_eq(txn_init(f, &liar), PE_NONE);
    for (uint16_t shard = 0; shard < 3; shard++)
        cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&victim, shard, 0))), PE_NONE);
    liar.shard = victim.shard;
    liar.open_lsn = victim.open_lsn;
    for (uint16_t shard = 0; shard < 3; shard++)
        cr_assert_neq(txn_stage_take(f, shf_call(f, stage_request(&liar, shard, 0))), PE_NONE);
    struct txn_place places[] = {place_on(0, 1), place_on(1, 1), place_on(2, 1)};
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &victim, places, 3), PE_NONE);
}

/* ---- the name ---- */

static uint16_t send_offset(const struct txn_client *client, const char *group, uint64_t offset)
{
    struct request *request = shf_request(f, gf_shard(f, group), OP_TXN_OFFSETS, 14);
    struct writer w = shf_writer(request);
    write_txn_offsets_begin(&w, &(struct msg_txn_offsets){.group = slice_of_text(group),
                                                          .txn = txn_ref(client),
                                                          .item_count = 1});
    write_offset_item(&w, topic_id, 0, offset);
    shf_seal(request, &w, 0);
    shf_call(f, request);
    uint16_t error = request->error;
    shf_release(f, request);
    return error;
}

/* A group without members that has an offset. */
static const char *group_on(uint16_t shard)
{
    static char group[32];
    for (int i = 0; i < 1000; i++) {
        snprintf(group, sizeof(group), "group-%d", i);
        if (gf_shard(f, group) != shard)
            continue;
        cr_assert_eq(gf_commit_plain(f, group, topic_id, 0, 1, 0, NULL), PE_NONE);
        return group;
    }
    cr_assert_fail("no group on shard %u", shard);
    abort();
}

/* Offsets under this name would be plain ones in the log. */
Test(participants, the_name_0_is_no_transaction_on_any_shard)
{
    const char *group = group_on(1);
    struct txn_client client = {.id = "x", .producer_id = 5};
    for (uint16_t shard = 0; shard < 3; shard++) {
        client.shard = shard;
        cr_assert_eq(send_offset(&client, group, 100), PE_UNKNOWN_TRANSACTION, "shard %u", shard);
        for (uint16_t to = 0; to < 3; to++)
            cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, to, 0))),
                         PE_UNKNOWN_TRANSACTION, "shard %u to %u", shard, to);
    }
    cr_assert_eq(gf_fetch(f, group, topic_id, 0, NULL), 1);
    crash();
    cr_assert_eq(gf_fetch(f, group, topic_id, 0, NULL), 1);
}

/* The producer of the first offsets was shown to the coordinator; another one's would slip in unseen. */
Test(participants, offsets_of_another_producer_do_not_slip_into_a_transaction)
{
    const char *group = group_on(1);
    struct txn_client victim = opened(0), liar = victim;
    cr_assert_eq(send_offset(&victim, group, 5), PE_NONE);
    liar.producer_id += 100;
    cr_assert_neq(send_offset(&liar, group, 50), PE_NONE);
    liar = victim;
    liar.epoch++;
    cr_assert_neq(send_offset(&liar, group, 50), PE_NONE);
    struct request *request = shf_request(f, victim.shard, OP_TXN_COMMIT, 13);
    struct msg_txn txn = txn_ref(&victim);
    struct writer w = shf_writer(request);
    write_txn_end_begin(&w, &txn, 0, 1);
    write_text(&w, group);
    shf_seal(request, &w, 0);
    shf_call(f, request);
    cr_assert_eq(request->error, PE_NONE);
    shf_release(f, request);
    cr_assert_eq(gf_fetch(f, group, topic_id, 0, NULL), 5);
}

/* ---- after a restart ---- */

static uint64_t shards_of(const struct txn_client *client)
{
    struct transactions *transactions = f->shards[client->shard].transactions;
    uint32_t row = transactions_find_open(transactions, client->open_lsn);
    cr_assert_neq(row, TABLE_ROW_NONE, "TXN_BEGIN was answered");
    return le64_get(transactions_row(transactions, row)->shards);
}

/* Staged durably on shard 1, while the coordinator's note of it is lost: the power goes between the two syncs, and the disk
 * may have kept the note nevertheless, so it takes some tries. */
static struct txn_client lose_join(void)
{
    for (int i = 0; i < 50; i++) {
        struct txn_client client = opened(0);
        struct request *request = stage_request(&client, 1, 0);
        send(request);
        while (!is_home(request) && !(state_on(1, &client) == TXN_PART_STAGING && is_durable(1)))
            shf_turn(f);
        crash();
        if (state_on(1, &client) == TXN_PART_STAGING && shards_of(&client) == 0)
            return client;
        cr_assert_eq(txn_end(f, OP_TXN_ABORT, &client, NULL, 0), PE_NONE);
        shf_turns(f, 200);
    }
    cr_assert_fail("the note is never lost");
    abort();
}

Test(participants, one_whose_join_was_lost_is_told_the_end_all_the_same)
{
    struct txn_client client = lose_join();
    shf_turns(f, 200); // it asks
    cr_assert_eq(txn_end(f, OP_TXN_ABORT, &client, NULL, 0), PE_NONE);
    shf_turns(f, 200);
    cr_assert_eq(state_on(1, &client), TXN_PART_NONE, "what it staged stays for ever");
    cr_assert_eq(participants_count(f->shards[1].participants), 0);
}

Test(participants, one_whose_join_was_lost_does_not_vote_unnamed)
{
    struct txn_client client = lose_join();
    struct txn_place places[] = {place_on(1, 1), place_on(2, 1)};
    shf_turns(f, 200);
    cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, 2, 0))), PE_NONE);
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places + 1, 1), PE_STAGED_MISMATCH,
                 "a batch that was never acked and is not named");
    shf_turns(f, 200);
    for (uint16_t shard = 0; shard < 3; shard++)
        cr_assert_eq(participants_count(f->shards[shard].participants), 0, "shard %u", shard);
}

Test(participants, each_asks_once_after_a_restart_and_goes_on)
{
    struct txn_client client = opened(0);
    struct txn_place places[] = {place_on(0, 1), place_on(1, 1), place_on(2, 1)};
    for (uint16_t shard = 0; shard < 3; shard++)
        cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, shard, 0))), PE_NONE);
    for (int life = 0; life < 3; life++) {
        crash();
        shf_turns(f, 100);
        for (uint16_t shard = 0; shard < 3; shard++)
            cr_assert_eq(state_on(shard, &client), TXN_PART_STAGING, "shard %u", shard);
    }
    cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 3), PE_NONE);
}

/* What has voted yes while its coordinator knows nothing: aborted by a logged decision, with a line for people. */
Test(participants, one_that_is_prepared_and_unknown_at_its_coordinator_is_aborted)
{
    struct txn_client client = opened(0);
    cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, 1, 0))), PE_NONE);
    struct disk_prepare prepare = {.name = name_of(&client)};
    struct wal_entry entry = {
        .type = ENTRY_PREPARE, .pieces = {{&prepare, sizeof(prepare)}}, .piece_count = 1};
    struct wal_view view;
    struct disk_txn_name name = name_of(&client);
    cr_assert_eq(store_append(f->shards[1].store, &entry, &view, NULL), 0);
    cr_assert_eq(store_append_abort(f->shards[0].store, &name, TXN_END_DECIDES, &view), 0);
    shf_turns(f, 200);
    cr_assert_eq(state_on(1, &client), TXN_PART_PREPARED, "nobody has told it");
    crash();
    shf_turns(f, 200);
    cr_assert_eq(state_on(1, &client), TXN_PART_NONE);
    cr_assert_eq(participants_prepared_count(f->shards[1].participants), 0);
}

/* ---- messages that cross ---- */

/* A second batch, staged in the first life of the process that has not joined yet, is counted by the vote that comes before
 * its JOIN is answered: it is part of what is committed. */
static void stage_and_commit_at_once(uint16_t coordinator, uint16_t participant, int turns_between)
{
    struct txn_client client = opened(coordinator);
    struct txn_place place = place_on(participant, 2);
    uint64_t before = txn_visible(f, topic_id, place.partition);
    cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, participant, 0))), PE_NONE);
    crash();
    shf_turns(f, 100);
    struct request *stage = stage_request(&client, participant, 2);
    struct request *commit = end_request(OP_TXN_COMMIT, &client, &place, 1);
    if (turns_between >= 0) {
        send(stage);
        shf_turns(f, turns_between);
        send(commit);
    } else {
        send(commit);
        shf_turns(f, -turns_between);
        send(stage);
    }
    wait_for(stage);
    wait_for(commit);
    uint16_t error = txn_end_take(f, commit, &place, 1), staged = txn_stage_take(f, stage);
    uint64_t records = txn_visible(f, topic_id, place.partition) - before;
    cr_assert_eq(records, error ? 0 : 4, "commit: %s, the batch: %s, %llu records visible",
                 proto_error_name(error), proto_error_name(staged), (unsigned long long)records);
    shf_turns(f, 100);
    for (uint16_t shard = 0; shard < 3; shard++)
        cr_assert_eq(participants_count(f->shards[shard].participants), 0, "shard %u", shard);
}

Test(participants, a_commit_that_overtakes_the_ack_of_a_batch_is_whole_or_not_at_all)
{
    for (int turns = -6; turns <= 6; turns++)
        for (uint16_t coordinator = 0; coordinator < 3; coordinator++)
            stage_and_commit_at_once(coordinator, (uint16_t)((coordinator + 1) % 3), turns);
}

Test(participants, batches_that_wait_for_a_join_come_home_when_the_transaction_is_aborted)
{
    for (int turns = -4; turns <= 8; turns++) {
        struct txn_client client = opened(0);
        struct request *stage = stage_request(&client, 1, 0), *again = stage_request(&client, 1, 2);
        struct request *abort_request = end_request(OP_TXN_ABORT, &client, NULL, 0);
        if (turns < 0)
            send(abort_request);
        shf_turns(f, turns < 0 ? -turns : 0);
        send(stage);
        send(again);
        shf_turns(f, turns > 0 ? turns : 0);
        if (turns >= 0)
            send(abort_request);
        wait_for(stage);
        wait_for(again);
        wait_for(abort_request);
        cr_assert_eq(txn_end_take(f, abort_request, NULL, 0), PE_NONE);
        (void)txn_stage_take(f, stage); // acked before the abort, or refused
        (void)txn_stage_take(f, again);
        shf_turns(f, 100);
        cr_assert_eq(participants_count(f->shards[1].participants), 0, "%d turns", turns);
    }
}

/* ---- the table ---- */

Test(participants, a_full_table_answers_overloaded_and_has_room_again, .timeout = 110)
{
    struct shard *shard = &f->shards[1];
    struct disk_txn_name name = {.coordinator = le32_make(1)};
    struct batch_info info = {.producer_id = 9};
    char text[72];
    for (uint32_t i = 0; i < PARTICIPANTS_PER_SHARD; i++) {
        name.open_lsn = le64_make(8 * (i + 1ull));
        cr_assert_eq(participants_apply_staged(shard->participants, &name, &info, 0), 0);
    }
    cr_assert(participants_is_full(shard->participants));
    name.open_lsn = le64_make(8 * (PARTICIPANTS_PER_SHARD + 1ull));
    cr_assert_eq(participants_apply_staged(shard->participants, &name, &info, 0), E_FULL);
    name.coordinator = le32_make(0);
    cr_assert_eq(participants_check(shard, &name, 9, 0, text), PE_OVERLOADED);
    struct txn_client client = opened(0);
    cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, 1, 0))), PE_OVERLOADED);
    cr_assert_eq(participants_count(shard->participants), PARTICIPANTS_PER_SHARD);
    name.coordinator = le32_make(1);
    for (uint32_t i = 0; i < PARTICIPANTS_PER_SHARD; i++) {
        name.open_lsn = le64_make(8 * (i + 1ull));
        participants_apply_end(shard->participants, &name);
    }
    cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, 1, 0))), PE_NONE);
}

/* ---- the vote ---- */

Test(participants, a_partition_that_never_was_makes_the_vote_no)
{
    for (uint16_t shard = 0; shard < 3; shard++) {
        struct txn_client client = opened(shard);
        for (uint16_t to = 0; to < 3; to++)
            cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, to, 0))), PE_NONE);
        struct txn_place places[] = {
            place_on(0, 1), place_on(1, 1), place_on(2, 1), {topic_id + 77, 0, 1, 0}};
        cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places, 4), PE_STAGED_MISMATCH);
        cr_assert_eq(txn_begin(f, &client), PE_NONE);
        cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, shard, 2))), PE_NONE);
        places[3] = place_on(shard, 1);
        places[2] = (struct txn_place){topic_id, PARTITIONS + 5, 1, 0};
        cr_assert_eq(txn_end(f, OP_TXN_COMMIT, &client, places + 2, 2), PE_STAGED_MISMATCH);
        for (uint16_t to = 0; to < 3; to++)
            cr_assert_eq(txn_visible(f, topic_id, partition_on(to)), 0);
    }
}

/* ---- jobs ---- */

Test(participants, who_waited_for_a_job_is_handled_when_one_is_free_whoever_frees_it)
{
    struct txn_client client = opened(0);
    struct request *requests[4];
    for (uint32_t i = 0; i < ARRAY_COUNT(requests);
         i++) { // all but the first need no job in the end
        requests[i] = end_request(OP_TXN_ABORT, &client, NULL, 0);
        requests[i]->target_core = 0;
        txn_jobs_wait(f->shards[0].txn_jobs, requests[i]);
    }
    for (uint32_t i = 0; i < ARRAY_COUNT(requests); i++) {
        wait_for(requests[i]);
        cr_assert_eq(txn_end_take(f, requests[i], NULL, 0), PE_NONE);
    }
}

static void fill_log(uint16_t shard)
{
    static uint8_t bytes[100 * KIB];
    struct wal_entry entry = {.type = 200, // one that says nothing
                              .flags = ENTRY_IGNORABLE,
                              .pieces = {{bytes, sizeof(bytes)}},
                              .piece_count = 1};
    struct wal_view view;
    int status = 0;
    for (int i = 0; i < 1000 && status == 0; i++)
        status = store_append(f->shards[shard].store, &entry, &view, NULL);
    cr_assert_eq(status, E_FULL);
}

/* True: the transaction has been answered, and is not over because its last entry finds no room. */
static bool end_waits(struct txn_client *client, struct request **first)
{
    *client = opened(0);
    for (uint16_t shard = 1; shard < 3; shard++)
        cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(client, shard, 0))), PE_NONE);
    send(*first = end_request(OP_TXN_ABORT, client, NULL, 0));
    for (int i = 0; i < 20000 && state_on(1, client) + state_on(2, client) > 0; i++)
        shf_turn(f);
    for (int i = 0; i < 1000 && !is_home(*first); i++) {
        fill_log(0);
        shf_turn(f);
    }
    cr_assert(is_home(*first));
    return transactions_open_count(f->shards[0].transactions) == 1;
}

/* The decision is carried out and answered: who asks again while its end waits for the log is not forgotten. */
Test(participants, who_asks_again_while_the_end_waits_for_the_log_is_answered)
{
    struct txn_client client;
    struct request *first, *again;
    int tries = 0;
    while (!end_waits(&client, &first)) {
        cr_assert_lt(++tries, 50, "the log was never full");
        cr_assert_eq(txn_end_take(f, first, NULL, 0), PE_NONE);
    }
    send(again = end_request(OP_TXN_ABORT, &client, NULL, 0));
    wait_for(again);
    cr_assert_eq(txn_end_take(f, first, NULL, 0), PE_NONE);
    cr_assert_eq(txn_end_take(f, again, NULL, 0), PE_NONE);
    shf_turns(f, 100);
    cr_assert_eq(transactions_open_count(f->shards[0].transactions), 0);
}

/* Half as many again as there are jobs, over two shards each, all overdue at once; and somebody asks for one by hand. */
Test(participants, more_transactions_than_jobs_end_at_the_same_deadline, .timeout = 110)
{
    enum { COUNT = TXN_JOBS_MAX + TXN_JOBS_MAX / 2 };
    struct txn_client last = {0};
    for (uint32_t i = 0, number = 0; i < COUNT; number++) {
        char id[32];
        snprintf(id, sizeof(id), "worker-%u", number);
        struct txn_client client = txn_client(f, id);
        if (client.shard != 0)
            continue;
        cr_assert_eq(txn_init(f, &client), PE_NONE);
        cr_assert_eq(txn_begin_for(f, &client, 100000), PE_NONE);
        cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, 1, 0))), PE_NONE);
        last = client;
        i++;
    }
    cr_assert_eq(participants_count(f->shards[1].participants), COUNT);
    gf_wait_ms(f, 100000);
    struct request *request = end_request(OP_TXN_COMMIT, &last, NULL, 0);
    send(request);
    wait_for(request);
    cr_assert_eq(txn_end_take(f, request, NULL, 0), PE_TRANSACTION_ABORTED);
    shf_turns(f, 5000);
    cr_assert_eq(participants_count(f->shards[1].participants), 0);
    cr_assert_eq(transactions_open_count(f->shards[0].transactions), 0);
    cr_assert(txn_jobs_are_idle(f->shards[0].txn_jobs));
    cr_assert_eq(counter_get(&f->shards[0].counters.transactions_timed_out_total), COUNT);
}

/* ---- limits ---- */

/* Its ack was lost: it is staged, so no limit is in its way. */
Test(participants, a_repeated_batch_is_known_also_when_no_more_may_be_staged)
{
    for (uint16_t coordinator = 0; coordinator < 2; coordinator++) {
        struct txn_client client = opened(coordinator);
        struct shard *shard = &f->shards[1];
        shard->txn.staged_bytes_max = 2 * MIB;
        cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, 1, 0))), PE_NONE);
        shard->txn.staged_bytes_max = 1;
        cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, 1, 0))), PE_NONE);
        cr_assert_eq(txn_stage_take(f, shf_call(f, stage_request(&client, 1, 2))),
                     PE_TRANSACTION_TOO_LARGE);
        cr_assert_eq(txn_end(f, OP_TXN_ABORT, &client, NULL, 0), PE_NONE);
    }
}

/* ---- what a start loads ---- */

static int rebuilt_with(uint8_t state, uint64_t open_lsn, uint64_t other_open_lsn)
{
    struct participants *participants = participants_new(8);
    const uint64_t lsns[] = {open_lsn, other_open_lsn};
    const char *why = NULL;
    cr_assert_not_null(participants);
    for (int i = 0; i < 2 && lsns[i] != 0; i++) {
        uint32_t row;
        struct disk_participant *disk = table_row_new(participants_table(participants), &row);
        disk->open_lsn = le64_make(lsns[i]);
        disk->state = i == 0 ? state : TXN_PART_STAGING;
    }
    int status = participants_rebuild(participants, &why);
    cr_assert_eq(why != NULL, status < 0);
    participants_free(participants);
    return status;
}

Test(participants_table, a_state_that_can_not_be_is_refused_at_the_start)
{
    for (unsigned state = 0; state <= UINT8_MAX; state++) {
        bool is_possible = state == TXN_PART_STAGING || state == TXN_PART_PREPARED;
        cr_assert_eq(rebuilt_with((uint8_t)state, 4096, 0), is_possible ? 0 : E_CORRUPT, "state %u",
                     state);
    }
}

Test(participants_table, two_of_one_transaction_are_refused_at_the_start)
{
    cr_assert_eq(rebuilt_with(TXN_PART_PREPARED, 4096, 8192), 0);
    cr_assert_eq(rebuilt_with(TXN_PART_PREPARED, 4096, 4096), E_CORRUPT);
}
