/* What a start makes of the open segment's groups below the checkpoint. They are not replayed, only
 * indexed; so what they hold must be what the checkpoint counts with. */
#include "storage/disk_header.h"
#include "storage/group.h"
#include "tests/unit/storage/store_fixture.h"

#define WAL_PATH SF_DIR "/shard-002/wal/0000000000000001.wal"
#define GROUP_MAX ((uint32_t)(64 * KIB))

struct lead { // a store that crashed behind a checkpoint: batches of one partition, one a group
    struct store_fixture f;
    struct sf_partition *p;
    struct sim_file *wal;
};

/* goes_on: there is a batch behind the checkpoint, too, which nothing proves yet. */
static void lead_init(struct lead *lead, bool goes_on)
{
    struct store_fixture *f = &lead->f;
    store_fixture_init(f, 73);
    cr_assert_eq(store_fixture_open(f), 0, "%s", f->text);
    sf_idle(f, NS_PER_S);
    cr_assert_eq(sf_open_partition(f, 1, 0), 0);
    lead->p = &f->partitions[0];
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(sf_produce(f, lead->p, 5, 3000), 0);
        sf_flush(f);
    }
    sf_checkpoint(f);
    if (goes_on)
        cr_assert_eq(sf_produce(f, lead->p, 5, 3000), 0);
    sf_flush(f);
    store_fixture_crash(f);
    lead->wal = sim_disk_find(f->disk, WAL_PATH);
    cr_assert_not_null(lead->wal);
}

/* The group of a batch is written anew: intact, as long as it was, and its batch has become an entry that a
 * reader steps over, or, with an offset, one at that. Returns its chain. */
static uint64_t change_group(struct lead *lead, uint32_t batch, uint64_t chain_before,
                             const uint64_t *base_offset)
{
    static uint8_t bytes[GROUP_MAX];
    struct disk_group group;
    uint64_t at = DISK_SEGMENT_DATA + align_down(lead->p->batches[batch].lsn, DISK_BLOCK);
    sim_file_read(lead->wal, (uint8_t *)&group, at, sizeof(group));
    uint32_t payload = le32_get(group.payload_bytes);
    sim_file_read(lead->wal, bytes, at, group_total_bytes(payload));
    struct disk_entry *entry = (struct disk_entry *)(bytes + GROUP_HEADER_BYTES);
    cr_assert_eq(entry->type, ENTRY_BATCH);
    if (base_offset)
        batch_set_head((uint8_t *)(entry + 1), *base_offset, STORED_LEADER_EPOCH);
    else
        *entry = (struct disk_entry){
            .type = 200, .flags = ENTRY_IGNORABLE, .payload_bytes = entry->payload_bytes};
    struct group_head head = {.type = group.type,
                              .payload_bytes = payload,
                              .entry_count = le32_get(group.entry_count),
                              .lsn = le64_get(group.lsn),
                              .number = le64_get(group.number),
                              .append_time_ms = le64_get(group.append_time_ms),
                              .chain = chain_before};
    uint64_t chain = group_stamp_replicated(bytes, &head, group_payload_checksum(bytes, payload));
    group_stamp_local(bytes, le64_get(group.generation), le64_get(group.durable_lsn));
    sim_disk_put(lead->f.disk, WAL_PATH, bytes, at, group_total_bytes(payload));
    return chain;
}

static uint64_t chain_of(const struct lead *lead, uint32_t batch)
{
    struct disk_group group;
    sim_file_read(lead->wal, (uint8_t *)&group,
                  DISK_SEGMENT_DATA + align_down(lead->p->batches[batch].lsn, DISK_BLOCK),
                  sizeof(group));
    return le64_get(group.chain);
}

/* The last group below the checkpoint is another one, and the checkpoint says so, too. */
static void change_last(struct lead *lead, const uint64_t *base_offset)
{
    struct sim_disk *disk = lead->f.disk;
    uint8_t block[DISK_BLOCK];
    uint64_t chain = change_group(lead, 3, chain_of(lead, 2), base_offset);
    for (uint32_t i = 0; i < disk->seen.count; i++) {
        struct sim_name *name = &disk->seen.names[i];
        struct disk_checkpoint *head = (struct disk_checkpoint *)block;
        if (strstr(name->path, ".ckpt") == NULL)
            continue;
        sim_file_read(name->file, block, 0, sizeof(block));
        if (le64_get(head->lsn) < lead->p->batches[3].lsn)
            continue;
        head->chain = le64_make(chain);
        disk_header_seal(block);
        sim_disk_put(disk, name->path, block, 0, sizeof(block));
    }
}

static uint64_t group_lsn(const struct lead *lead, uint32_t batch)
{
    return align_down(lead->p->batches[batch].lsn, DISK_BLOCK);
}

/* The start refuses with the place, and has written nothing. */
static void expect_refusal(struct lead *lead, uint64_t from_lsn)
{
    struct store_fixture *f = &lead->f;
    char lsn[64];
    uint64_t before = f->disk->sequence;
    snprintf(lsn, sizeof(lsn), "offset %llu, LSN %llu..",
             (unsigned long long)(DISK_SEGMENT_DATA + from_lsn), (unsigned long long)from_lsn);
    cr_assert_eq(store_fixture_open(f), E_CORRUPT);
    cr_assert_eq(f->disk->sequence, before);
    cr_assert_not_null(strstr(f->text, WAL_PATH), "%s", f->text);
    cr_assert_not_null(strstr(f->text, lsn), "%s names no %s", f->text, lsn);
}

Test(segment_index, a_start_refuses_an_intact_group_below_the_checkpoint_that_breaks_the_chain)
{
    struct lead lead;
    lead_init(&lead, true);
    change_group(&lead, 1, chain_of(&lead, 0) + 1, NULL);
    expect_refusal(&lead, group_lsn(&lead, 1));
    store_fixture_deinit(&lead.f);
}

/* A file that is longer than a segment is of no use; it goes when the start is sure. */
Test(segment_index, a_start_that_refuses_deletes_no_leftover)
{
    static const char leftover[] = SF_DIR "/shard-002/wal/recycled-00000000000000ab.tmp";
    struct lead lead;
    lead_init(&lead, false);
    change_group(&lead, 1, chain_of(&lead, 0) + 1, NULL);
    sim_disk_put(lead.f.disk, leftover, "long", lead.f.options.segment_bytes + MIB, 4);
    expect_refusal(&lead, group_lsn(&lead, 1));
    cr_assert_not_null(sim_disk_find(lead.f.disk, leftover));
    store_fixture_deinit(&lead.f);
}

Test(segment_index, a_start_refuses_groups_that_do_not_lead_to_the_checkpoint)
{
    struct lead lead;
    lead_init(&lead, false);
    change_group(&lead, 3, chain_of(&lead, 2), NULL);
    expect_refusal(&lead, 0);
    store_fixture_deinit(&lead.f);
}

Test(segment_index, a_start_refuses_a_log_without_a_batch_that_its_checkpoint_counts)
{
    struct lead lead;
    lead_init(&lead, false);
    change_last(&lead, NULL);
    expect_refusal(&lead, 0);
    store_fixture_deinit(&lead.f);
}

Test(segment_index, a_start_refuses_batches_below_the_checkpoint_that_do_not_follow_each_other)
{
    for (int i = 0; i < 3; i++) {
        static const uint64_t offsets[] = {14, 16, UINT64_MAX / 2}; // 15 would be right
        struct lead lead;
        lead_init(&lead, false);
        change_last(&lead, &offsets[i]);
        expect_refusal(&lead, group_lsn(&lead, 3));
        store_fixture_deinit(&lead.f);
    }
}
