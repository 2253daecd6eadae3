/* Offsets that transactions stage: which may be committed, which make a fetch wait, which is newer than which.
 *
 * Ends of transactions are applied by hand here, as their log entries would, so that every order can be tried; what decides about
 * transactions is tested with them. */
#include "tests/unit/broker/group_fixture.h"

static struct shard_fixture *f;
static uint32_t topic;
static struct gf_member member;

static void set_up(void)
{
    f = malloc(sizeof(*f));
    shf_init(f, 24, 1);
    topic = gf_topic(f, "t", 4);
    struct gf_join join = {
        .group = "g", .topics = {topic}, .topic_count = 1, .assignor = GROUP_STICKY};
    struct gf_member *members[] = {&member};
    cr_assert_eq(gf_join(f, &member, &join), PE_NONE);
    gf_settle(f, members, 1);
}

static void tear_down(void)
{
    shf_free(f);
}
TestSuite(group_staged, .init = set_up, .fini = tear_down, .timeout = 60);

static struct groups *groups(void)
{
    return f->shards[0].groups;
}

static struct group *group(void)
{
    return group_find(groups(), gf_slice("g"));
}

static struct disk_txn_name name_of(uint64_t txn)
{
    return (struct disk_txn_name){.coordinator = le32_make(0), .open_lsn = le64_make(txn)};
}

/* A view as the log would give it, with an LSN of our own. The shard's log knows nothing of it. */
static uint64_t next_lsn = 1000000;

static uint64_t apply_commit_of(uint64_t txn, const struct gf_member *m, uint32_t generation,
                                uint32_t partition, uint64_t offset)
{
    uint8_t payload[512] = {0};
    struct disk_offset_commit head = {.item_count = le32_make(1),
                                      .generation = le32_make(generation),
                                      .group_length = 1,
                                      .member_length = m ? GROUP_MEMBER_ID_BYTES : 0};
    head.name = name_of(txn);
    memcpy(payload, &head, sizeof(head));
    payload[sizeof(head)] = 'g';
    if (m)
        memcpy(payload + sizeof(head) + 1, m->id, GROUP_MEMBER_ID_BYTES);
    uint32_t at = (uint32_t)align_up(sizeof(head) + 1 + head.member_length, 8);
    struct offset_item item = {le32_make(topic), le32_make(partition), le64_make(offset)};
    memcpy(payload + at, &item, sizeof(item));
    struct wal_view view = {.lsn = next_lsn++,
                            .append_time_ms = 1700000000000,
                            .type = ENTRY_OFFSET_COMMIT,
                            .payload = payload,
                            .payload_bytes = at + (uint32_t)sizeof(item)};
    cr_assert_eq(groups_apply_offset_commit(groups(), &view), 0);
    return view.lsn;
}

static uint64_t stage(uint64_t txn, uint32_t partition, uint64_t offset)
{
    return apply_commit_of(txn, &member, member.generation, partition, offset);
}

static void plain(uint32_t partition, uint64_t offset)
{
    apply_commit_of(0, &member, member.generation, partition, offset);
}

static void end(uint64_t txn, bool committed)
{
    struct disk_txn_name name = name_of(txn);
    groups_apply_txn_end(groups(), &name, committed);
}

static void prepare(uint64_t txn)
{
    struct disk_txn_name name = name_of(txn);
    groups_apply_prepare(groups(), &name);
}

static uint16_t vote(uint64_t txn)
{
    struct disk_txn_name name = name_of(txn);
    char text[72];
    return groups_vote(groups(), &name, text);
}

static uint64_t offset_of(uint32_t partition)
{
    const struct disk_group_offset *row = group_offset_find(groups(), group(), topic, partition);
    return row ? le64_get(row->offset) : UINT64_MAX;
}

static bool is_pending(uint32_t partition)
{
    uint16_t error;
    gf_fetch(f, "g", topic, partition, &error);
    cr_assert(error == PE_NONE || error == PE_OFFSETS_PENDING);
    return error == PE_OFFSETS_PENDING;
}

static uint32_t staged_count(uint64_t txn)
{
    struct disk_txn_name name = name_of(txn);
    return groups_staged_count(groups(), &name);
}

/* ---- commit and abort ---- */

Test(group_staged, a_staged_offset_shows_only_when_its_transaction_commits)
{
    plain(1, 5);
    stage(7, 1, 10);
    cr_assert_eq(offset_of(1), 5);
    cr_assert_eq(staged_count(7), 1);
    end(7, true);
    cr_assert_eq(offset_of(1), 10);
    cr_assert_eq(staged_count(7), 0);
    cr_assert_eq(group()->staged_count, 0);
    stage(8, 1, 20);
    end(8, false);
    cr_assert_eq(offset_of(1), 10);
    end(9, true); // nothing is staged: nothing happens
}

Test(group_staged, the_last_offset_that_a_transaction_staged_counts)
{
    stage(7, 1, 10);
    stage(7, 1, 12);
    stage(7, 2, 3);
    cr_assert_eq(staged_count(7), 2);
    end(7, true);
    cr_assert_eq(offset_of(1), 12);
    cr_assert_eq(offset_of(2), 3);
}

Test(group_staged, transactions_do_not_mix)
{
    stage(7, 1, 10);
    stage(8, 1, 11);
    stage(8, 2, 4);
    end(7, false);
    cr_assert_eq(staged_count(8), 2);
    end(8, true);
    cr_assert_eq(offset_of(1), 11);
    cr_assert_eq(offset_of(2), 4);
}

Test(group_staged, the_entry_of_the_higher_lsn_wins_whatever_ends_first)
{
    stage(7, 1, 10);
    plain(1, 20);
    end(7, true);
    cr_assert_eq(offset_of(1), 20, "staged before, ended after");
    plain(2, 5);
    stage(8, 2, 20);
    end(8, true);
    cr_assert_eq(offset_of(2), 20);
    stage(9, 3, 30);
    plain(3, 20); // newer, and lower
    end(9, true);
    cr_assert_eq(offset_of(3), 20);
    stage(10, 0, 10);
    stage(11, 0, 12);
    end(11, true);
    end(10, true);
    cr_assert_eq(offset_of(0), 12);
}

Test(group_staged, a_commit_never_makes_an_offset_go_back)
{
    plain(1, 50);
    stage(7, 1, 40);
    end(7, true);
    cr_assert_eq(offset_of(1), 50);
}

Test(group_staged, a_reset_is_newer_than_what_was_staged_before)
{
    uint64_t stands;
    plain(1, 50);
    stage(7, 1, 60);
    cr_assert_eq(gf_leave(f, &member, true), PE_NONE);
    /* The real log's LSNs lie below those of this test: the row would refuse an older entry. */
    cr_assert_eq(gf_commit_plain(f, "g", topic, 2, 9, OFFSET_COMMIT_RESET, &stands), PE_NONE);
    cr_assert_eq(stands, 9);
    struct group_offset reset = {
        .topic_id = topic, .partition = 1, .offset = 3, .lsn = next_lsn++, .may_go_back = true};
    group_offset_apply(groups(), group(), &reset);
    end(7, true);
    cr_assert_eq(offset_of(1), 3);
}

/* ---- who may ---- */

Test(group_staged, a_vote_is_yes_while_the_member_holds_the_partition)
{
    cr_assert_eq(vote(7), PE_NONE, "nothing is staged");
    stage(7, 1, 10);
    cr_assert_eq(vote(7), PE_NONE);
    cr_assert(is_pending(1));
    cr_assert_not(is_pending(2));
    end(7, true);
    cr_assert_not(is_pending(1));
}

Test(group_staged, removing_a_member_dooms_what_it_has_not_prepared)
{
    stage(7, 1, 10);
    stage(8, 2, 10);
    prepare(8);
    cr_assert_eq(gf_leave(f, &member, true), PE_NONE);
    cr_assert_eq(vote(7), PE_UNKNOWN_MEMBER);
    cr_assert_eq(vote(8), PE_NONE, "it has voted");
    cr_assert_not(is_pending(1), "nobody waits for what can't be committed");
    cr_assert(is_pending(2));
    end(8, true);
    cr_assert_eq(offset_of(2), 10);
    cr_assert_not(is_pending(2));
}

Test(group_staged, moving_a_partition_away_dooms_it_too_and_not_the_others)
{
    struct gf_member b, *both[] = {&member, &b};
    struct gf_join join = {
        .group = "g", .topics = {topic}, .topic_count = 1, .assignor = GROUP_STICKY};
    stage(7, 0, 10);
    stage(8, 3, 10);
    cr_assert_eq(gf_join(f, &b, &join), PE_NONE);
    gf_wait_ms(f, 5);
    cr_assert_eq(gf_heartbeat(f, &member), PE_NONE);
    cr_assert_eq(vote(7), PE_NONE, "told to give up, and has not");
    cr_assert_eq(vote(8), PE_NONE);
    gf_settle(f, both, 2);
    bool lost_0 = gf_has(&b, topic, 0), lost_3 = gf_has(&b, topic, 3);
    cr_assert(lost_0 || lost_3);
    cr_assert_eq(vote(7), lost_0 ? PE_STALE_GENERATION : PE_NONE);
    cr_assert_eq(vote(8), lost_3 ? PE_STALE_GENERATION : PE_NONE);
    cr_assert_eq(is_pending(0), !lost_0);
    cr_assert_eq(is_pending(3), !lost_3);
    /* It comes back: another may have read it in between. */
    cr_assert_eq(gf_leave(f, &b, true), PE_NONE);
    both[0] = &member;
    gf_settle(f, both, 1);
    cr_assert_eq(member.item_count, 4);
    cr_assert_eq(vote(7), lost_0 ? PE_STALE_GENERATION : PE_NONE);
    cr_assert_eq(vote(8), lost_3 ? PE_STALE_GENERATION : PE_NONE);
}

Test(group_staged, a_replaced_static_member_can_commit_nothing)
{
    struct gf_member a, b, *members[] = {&a};
    struct gf_join join = {.group = "s", .instance = "i", .topics = {topic}, .topic_count = 1};
    cr_assert_eq(gf_join(f, &a, &join), PE_NONE);
    gf_settle(f, members, 1);
    struct offset_item item = {le32_make(topic), le32_make(0), le64_make(3)};
    struct msg_txn_offsets m = {.group = gf_slice("s"),
                                .member = gf_slice(a.id),
                                .generation = a.generation,
                                .txn = {.open_lsn = 7},
                                .item_count = 1,
                                .items = &item};
    char text[72];
    cr_assert_eq(groups_check_stage(groups(), &m, text), PE_NONE);
    cr_assert_eq(gf_join(f, &b, &join), PE_NONE);
    cr_assert_eq(groups_check_stage(groups(), &m, text), PE_FENCED_MEMBER);
    m.member = gf_slice(b.id);
    m.generation = b.generation;
    cr_assert_eq(groups_check_stage(groups(), &m, text), PE_NONE);
}

static uint16_t check(const char *group_name, const char *id, uint32_t generation,
                      uint32_t partition)
{
    struct offset_item item = {le32_make(topic), le32_make(partition), le64_make(3)};
    struct msg_txn_offsets m = {.group = gf_slice(group_name),
                                .member = gf_slice(id),
                                .generation = generation,
                                .txn = {.open_lsn = 7},
                                .item_count = 1,
                                .items = &item};
    char text[72];
    return groups_check_stage(groups(), &m, text);
}

Test(group_staged, staging_is_checked_as_a_commit_is)
{
    cr_assert_eq(check("g", member.id, member.generation, 1), PE_NONE);
    cr_assert_eq(check("nobody", member.id, 1, 1), PE_UNKNOWN_GROUP);
    cr_assert_eq(check("g", "nobody", 1, 1), PE_UNKNOWN_MEMBER);
    cr_assert_eq(check("g", "", 0, 1), PE_UNKNOWN_MEMBER, "the group has members");
    cr_assert_eq(check("g", member.id, member.generation - 1, 1), PE_STALE_GENERATION);
    cr_assert_eq(check("g", member.id, member.generation, 4), PE_NOT_OWNER);
    cr_assert_eq(gf_commit_plain(f, "h", topic, 0, 1, 0, NULL), PE_NONE);
    cr_assert_eq(check("h", "", 0, 1), PE_NONE, "one that assigns its partitions itself");
}

Test(group_staged, what_nobody_owns_by_name_is_lost_when_members_come)
{
    struct gf_member a;
    cr_assert_eq(gf_leave(f, &member, true), PE_NONE);
    gf_wait_ms(f, 5);
    apply_commit_of(7, NULL, 0, 1, 10);
    cr_assert_eq(vote(7), PE_NONE);
    struct gf_join join = {
        .group = "g", .topics = {topic}, .topic_count = 1, .assignor = GROUP_STICKY};
    cr_assert_eq(gf_join(f, &a, &join), PE_NONE);
    cr_assert_eq(vote(7), PE_UNKNOWN_MEMBER);
}

/* ---- retention and limits ---- */

Test(group_staged, a_group_with_staged_offsets_is_neither_forgotten_nor_deleted)
{
    stage(7, 1, 10);
    prepare(7);
    cr_assert_eq(gf_leave(f, &member, true), PE_NONE);
    f->shards[0].group_offsets_retention_ms = 60000;
    groups()->opened_ns = 0;
    gf_wait_ms(f, 130000);
    cr_assert_eq(gf_delete(f, "g"), PE_GROUP_NOT_EMPTY);
    cr_assert_eq(staged_count(7), 1);
    end(7, true);
    cr_assert_eq(offset_of(1), 10);
    cr_assert_eq(gf_delete(f, "g"), PE_NONE);
}

Test(group_staged, staged_offsets_keep_room_for_their_commit)
{
    enum { PARTITIONS = 1024 };
    for (uint32_t i = 0; i < STAGED_OFFSETS_PER_SHARD; i++) {
        cr_assert_eq(check("g", member.id, member.generation, 1), PE_NONE);
        apply_commit_of(100 + i, &member, member.generation, i % PARTITIONS, i);
    }
    cr_assert_eq(check("g", member.id, member.generation, 1), PE_LIMIT_REACHED);
    for (uint32_t i = 0; group_offsets_have_room(groups(), 1); i++)
        apply_commit_of(0, &member, member.generation, 2 * PARTITIONS + i, 1);
    cr_assert_eq(table_used_count(groups()->offsets),
                 GROUP_OFFSETS_PER_SHARD - STAGED_OFFSETS_PER_SHARD);
    uint64_t stands;
    cr_assert_eq(gf_commit_plain(f, "h", topic, 0, 1, 0, &stands), PE_LIMIT_REACHED);
    for (uint32_t i = 0; i < STAGED_OFFSETS_PER_SHARD; i++)
        end(100 + i, true);
    cr_assert_eq(table_used_count(groups()->staged), 0);
    cr_assert_eq(offset_of(1), STAGED_OFFSETS_PER_SHARD - PARTITIONS + 1);
}

Test(group_staged, a_partition_has_a_limit_of_transactions)
{
    for (uint32_t i = 0; i < GROUP_STAGED_PER_PARTITION; i++) {
        cr_assert_eq(check("g", member.id, member.generation, 1), PE_NONE);
        stage(100 + i, 1, i);
    }
    cr_assert_eq(check("g", member.id, member.generation, 1), PE_LIMIT_REACHED);
    cr_assert_eq(check("g", member.id, member.generation, 2), PE_NONE);
    end(100, false);
    cr_assert_eq(check("g", member.id, member.generation, 1), PE_NONE);
}
