/* Indexes: the open one and its images against a sorted array, images from disk with every kind of damage, and the
 * cache. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/random.h"
#include "base/status.h"
#include "storage/index.h"

#define PARTITIONS 40u

static const struct index_identity identity = {.store_id = "index-test",
                                               .shard_id = 4,
                                               .number = 17,
                                               .generation = 0x1234567,
                                               .base_lsn = 1000,
                                               .end_lsn = 99000000,
                                               .append_ms_last = 555};

struct world {
    struct random random;
    struct partitions *partitions;
    struct partition *all[PARTITIONS];
    struct index_open *open;
    struct index_entry *model[PARTITIONS]; // sorted by offset, as they were added
    uint32_t count[PARTITIONS];
    uint64_t lsn;
};

static void world_init(struct world *w, uint64_t seed, uint32_t entry_count_max)
{
    memset(w, 0, sizeof(*w));
    random_init(&w->random, seed);
    w->partitions = partitions_new(PARTITIONS);
    w->open = index_open_new(entry_count_max);
    w->lsn = identity.base_lsn;
    struct disk_partition_open settings = {.revision = le64_make(1)};
    for (uint32_t i = 0; i < PARTITIONS; i++) {
        w->all[i] = partitions_apply_open(w->partitions, 1 + (i * 7) % 5, i, &settings);
        w->all[i]->next_offset = random_below(&w->random, 1000000);
        w->model[i] = calloc(entry_count_max * 2, sizeof(struct index_entry));
    }
}

static void world_deinit(struct world *w)
{
    index_open_free(w->open);
    partitions_free(w->partitions);
    for (uint32_t i = 0; i < PARTITIONS; i++)
        free(w->model[i]);
}

static uint32_t world_add(struct world *w, uint32_t i)
{
    struct partition *partition = w->all[i];
    struct index_entry entry = {.base_offset = partition->next_offset,
                                .position = w->lsn,
                                .max_timestamp = (int64_t)random_below(&w->random, 1000) - 500,
                                .size = 61 + (uint32_t)random_below(&w->random, 1000),
                                .record_count = 1 + (uint32_t)random_below(&w->random, 20)};
    partition->next_offset += entry.record_count;
    w->lsn += entry.size + 16;
    w->model[i][w->count[i]++] = entry;
    return index_open_add(w->open, partition, &entry, entry.position);
}

/* A few partitions get most of the batches, others almost none. */
static void world_fill(struct world *w, uint32_t count)
{
    for (uint32_t n = 0; n < count; n++) {
        uint32_t i = (uint32_t)random_below(&w->random, PARTITIONS);
        if (random_below(&w->random, 3))
            i = i % 3;
        cr_assert_eq(world_add(w, i), n);
    }
}

static bool entries_equal(struct index_entry a, struct index_entry b)
{
    return a.base_offset == b.base_offset && a.position == b.position &&
           a.max_timestamp == b.max_timestamp && a.size == b.size &&
           a.record_count == b.record_count;
}

/* What a sorted array says: the first entry that ends behind `offset`. */
static const struct index_entry *model_find(const struct world *w, uint32_t i, uint64_t offset)
{
    for (uint32_t n = 0; n < w->count[i]; n++)
        if (w->model[i][n].base_offset + w->model[i][n].record_count > offset)
            return &w->model[i][n];
    return NULL;
}

static const struct index_entry *model_find_time(const struct world *w, uint32_t i, int64_t time)
{
    for (uint32_t n = 0; n < w->count[i]; n++)
        if (w->model[i][n].max_timestamp >= time)
            return &w->model[i][n];
    return NULL;
}

static uint64_t random_offset(struct world *w, uint32_t i)
{
    uint64_t first = w->count[i] ? w->model[i][0].base_offset : 5;
    uint64_t from = first - min_u64(first, 3);
    return from + random_below(&w->random, w->all[i]->next_offset + 6 - from);
}

/* ---- the open index ---- */

Test(index_open, random_lookups_agree_with_a_sorted_array)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world w;
        world_init(&w, seed, 3000);
        world_fill(&w, 1 + (uint32_t)random_below(&w.random, 3000));
        for (int n = 0; n < 2000; n++) {
            uint32_t i = (uint32_t)random_below(&w.random, PARTITIONS);
            uint64_t offset = random_offset(&w, i);
            uint32_t hint = (uint32_t)random_below(&w.random, 4000);
            uint32_t found = index_open_find(w.open, w.all[i], offset, hint);
            const struct index_entry *expected = model_find(&w, i, offset);
            cr_assert_eq(found == INDEX_NONE, expected == NULL, "seed %lu", seed);
            if (expected)
                cr_assert(entries_equal(index_open_at(w.open, found), *expected), "seed %lu", seed);
            int64_t time = (int64_t)random_below(&w.random, 1200) - 600;
            found = index_open_find_time(w.open, w.all[i], time);
            expected = model_find_time(&w, i, time);
            cr_assert_eq(found == INDEX_NONE, expected == NULL);
            if (expected)
                cr_assert(entries_equal(index_open_at(w.open, found), *expected));
        }
        world_deinit(&w);
    }
}

Test(index_open, next_walks_one_partition_in_order)
{
    struct world w;
    world_init(&w, 5, 2000);
    world_fill(&w, 2000);
    for (uint32_t i = 0; i < PARTITIONS; i++) {
        uint32_t n = 0;
        for (uint32_t at = w.all[i]->open_first; at != INDEX_NONE;
             at = index_open_next(w.open, at)) {
            cr_assert(entries_equal(index_open_at(w.open, at), w.model[i][n]));
            cr_assert_eq(index_open_partition(w.open, at), w.all[i]);
            n++;
        }
        cr_assert_eq(n, w.count[i]);
    }
    world_deinit(&w);
}

Test(index_open, says_when_it_is_full_and_grows_for_a_replay)
{
    struct world w;
    world_init(&w, 6, 100);
    world_fill(&w, 99);
    cr_assert_not(index_open_is_full(w.open));
    world_add(&w, 0);
    cr_assert(index_open_is_full(w.open));
    for (uint32_t n = 0; n < 50; n++)
        cr_assert_eq(world_add(&w, 1), 100 + n);
    cr_assert(
        entries_equal(index_open_at(w.open, w.all[1]->open_last), w.model[1][w.count[1] - 1]));
    index_open_detach(w.open);
    index_open_clear(w.open);
    cr_assert_eq(index_open_count(w.open), 0);
    for (uint32_t i = 0; i < PARTITIONS; i++)
        cr_assert_eq(w.all[i]->open_first, INDEX_NONE);
    world_deinit(&w);
}

Test(index_open, entries_of_a_dropped_partition_are_dead)
{
    struct world w;
    world_init(&w, 7, 100);
    uint32_t mine = world_add(&w, 3), other = world_add(&w, 4);
    partitions_apply_drop(w.partitions, w.all[3]);
    struct disk_partition_open settings = {.revision = le64_make(1)};
    struct partition *heir = partitions_apply_open(w.partitions, 99, 0, &settings);
    cr_assert_eq(heir, w.all[3], "the same place");
    cr_assert_null(index_open_partition(w.open, mine));
    cr_assert_eq(index_open_partition(w.open, other), w.all[4]);
    cr_assert_eq(index_open_find(w.open, heir, 0, mine), INDEX_NONE);
    struct index_image image;
    cr_assert_eq(index_open_image(w.open, &identity, &image), 0);
    cr_assert_eq(image.entry_count, 1);
    index_image_free(&image);
    world_deinit(&w);
}

/* ---- images ---- */

static void check_image(struct world *w, const struct index_image *image)
{
    uint32_t entry_count = 0, partition_count = 0;
    for (uint32_t i = 0; i < PARTITIONS; i++) {
        entry_count += w->count[i];
        partition_count += w->count[i] > 0;
        const struct disk_index_partition *p =
            index_image_partition(image, w->all[i]->topic_id, w->all[i]->partition);
        cr_assert_eq(p == NULL, w->count[i] == 0);
        for (int n = 0; p && n < 200; n++) {
            uint64_t offset = random_offset(w, i);
            uint32_t found = index_image_find(image, p, offset);
            const struct index_entry *expected = model_find(w, i, offset);
            cr_assert_eq(found == INDEX_NONE, expected == NULL);
            if (expected)
                cr_assert(entries_equal(index_image_at(image, found), *expected));
            int64_t time = (int64_t)random_below(&w->random, 1200) - 600;
            found = index_image_find_time(image, p, time);
            expected = model_find_time(w, i, time);
            cr_assert_eq(found == INDEX_NONE, expected == NULL);
            if (expected)
                cr_assert(entries_equal(index_image_at(image, found), *expected));
        }
    }
    cr_assert_eq(image->entry_count, entry_count);
    cr_assert_eq(image->partition_count, partition_count);
    cr_assert_null(index_image_partition(image, 77, 1));
}

Test(index_image, says_what_the_open_index_said)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world w;
        world_init(&w, 100 + seed, 3000);
        world_fill(&w, (uint32_t)random_below(&w.random, 3000));
        struct index_image image;
        cr_assert_eq(index_open_image(w.open, &identity, &image), 0);
        check_image(&w, &image);
        cr_assert_eq(image.append_ms_last, 555);
        struct index_image parsed;
        uint8_t *bytes = malloc(image.len);
        memcpy(bytes, image.bytes, image.len);
        cr_assert_eq(index_image_parse(bytes, image.len, &identity, &parsed), 0);
        check_image(&w, &parsed);
        index_image_free(&parsed);
        struct index_image copy;
        cr_assert_eq(index_image_copy(&image, &copy), 0);
        index_image_free(&image);
        check_image(&w, &copy);
        index_image_free(&copy);
        world_deinit(&w);
    }
}

Test(index_builder, entries_in_any_order_make_the_same_image)
{
    struct world w;
    world_init(&w, 31, 2000);
    world_fill(&w, 2000);
    struct index_image image, built;
    cr_assert_eq(index_open_image(w.open, &identity, &image), 0);
    struct index_builder *builder = index_builder_new();
    for (int round = 0; round < 2; round++) {
        for (uint32_t n = 0; n < 2000; n++) {
            uint32_t i = round == 0 ? n : 2000 - 1 - n;
            struct partition *partition = index_open_partition(w.open, i);
            struct index_entry entry = index_open_at(w.open, i);
            cr_assert_eq(
                index_builder_add(builder, partition->topic_id, partition->partition, &entry), 0);
        }
        cr_assert_eq(index_builder_count(builder), 2000);
        cr_assert_eq(index_builder_finish(builder, &identity, &built), 0);
        cr_assert_eq(built.len, image.len);
        cr_assert_arr_eq(built.bytes, image.bytes, image.len);
        index_image_free(&built);
    }
    index_builder_free(builder);
    index_image_free(&image);
    world_deinit(&w);
}

Test(index_builder, overlapping_batches_are_damage)
{
    struct index_builder *builder = index_builder_new();
    struct index_entry a = {.base_offset = 10, .position = 1, .size = 70, .record_count = 5};
    struct index_entry b = {.base_offset = 14, .position = 90, .size = 70, .record_count = 5};
    struct index_image image;
    cr_assert_eq(index_builder_add(builder, 1, 0, &a), 0);
    cr_assert_eq(index_builder_add(builder, 1, 1, &b), 0);
    cr_assert_eq(index_builder_finish(builder, &identity, &image), 0, "two partitions");
    index_image_free(&image);
    cr_assert_eq(index_builder_add(builder, 1, 0, &a), 0);
    cr_assert_eq(index_builder_add(builder, 1, 0, &b), 0);
    cr_assert_eq(index_builder_finish(builder, &identity, &image), E_CORRUPT);
    index_builder_free(builder);
}

/* ---- damage ---- */

static struct index_image small_image(void)
{
    struct world w;
    struct index_image image;
    world_init(&w, 41, 60);
    world_fill(&w, 60);
    cr_assert_eq(index_open_image(w.open, &identity, &image), 0);
    world_deinit(&w);
    return image;
}

static int parse_copy(const struct index_image *image, uint64_t len,
                      const struct index_identity *expected)
{
    uint8_t *bytes = malloc(len + 1);
    memcpy(bytes, image->bytes, len);
    struct index_image parsed;
    int status = index_image_parse(bytes, len, expected, &parsed);
    free(bytes);
    return status;
}

Test(index_image, each_flipped_bit_is_noticed)
{
    struct index_image image = small_image();
    for (uint64_t bit = 0; bit < image.len * 8; bit++) {
        image.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_lt(parse_copy(&image, image.len, &identity), 0, "bit %lu", bit);
        image.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    cr_assert_eq(parse_copy(&image, image.len, &identity), 0);
    index_image_free(&image);
}

Test(index_image, each_cut_is_noticed)
{
    struct index_image image = small_image();
    for (uint64_t len = 0; len < image.len; len++)
        cr_assert_eq(parse_copy(&image, len, &identity), E_CORRUPT, "cut at %lu", len);
    index_image_free(&image);
}

Test(index_image, another_identity_is_foreign)
{
    struct index_image image = small_image();
    struct index_identity other = identity;
    other.generation++;
    cr_assert_eq(parse_copy(&image, image.len, &other), E_FOREIGN);
    other = identity;
    other.number++;
    cr_assert_eq(parse_copy(&image, image.len, &other), E_FOREIGN);
    other = identity;
    other.end_lsn++;
    cr_assert_eq(parse_copy(&image, image.len, &other), E_FOREIGN);
    other = identity;
    other.store_id[0]++;
    cr_assert_eq(parse_copy(&image, image.len, &other), E_FOREIGN);
    other = identity;
    other.append_ms_last = 9;
    cr_assert_eq(parse_copy(&image, image.len, &other), 0, "not part of it");
    cr_assert_eq(parse_copy(&image, image.len, NULL), 0);
    index_image_free(&image);
}

static void reseal(struct index_image *image)
{
    struct disk_index *header = (struct disk_index *)image->bytes;
    header->checksum_body =
        le64_make(hash_xxh3(image->bytes + sizeof(*header), image->len - sizeof(*header)));
    header->checksum = le64_make(hash_xxh3(header, offsetof(struct disk_index, checksum)));
}

/* With right checksums: what a buggy or hostile writer could leave. Nothing may be read outside. */
Test(index_image, random_content_under_right_checksums_is_never_trusted)
{
    struct random random;
    random_init(&random, 3);
    struct index_image good = small_image();
    uint64_t refused = 0;
    for (int n = 0; n < 20000; n++) {
        struct index_image bad;
        cr_assert_eq(index_image_copy(&good, &bad), 0);
        uint64_t at =
            sizeof(struct disk_index) + random_below(&random, bad.len - sizeof(struct disk_index));
        bad.bytes[at] = (uint8_t)random_u32(&random);
        if (random_below(&random, 8) == 0)
            bad.bytes[64 + random_below(&random, 40)] = (uint8_t)random_u32(&random);
        reseal(&bad);
        struct index_image parsed;
        if (index_image_parse(bad.bytes, bad.len, NULL, &parsed) < 0) {
            refused++;
            index_image_free(&bad);
            continue;
        }
        for (uint32_t i = 0; i < parsed.partition_count; i++) {
            uint32_t found = index_image_find(&parsed, &parsed.directory[i], random_u64(&random));
            if (found != INDEX_NONE)
                (void)index_image_at(&parsed, found);
        }
        index_image_free(&parsed);
    }
    cr_assert_gt(refused, 10000);
    index_image_free(&good);
}

Test(index_image, a_newer_version_is_told_apart)
{
    struct index_image image = small_image();
    struct disk_index *header = (struct disk_index *)image.bytes;
    header->common.version = le16_make(DISK_FORMAT_VERSION + 1);
    reseal(&image);
    cr_assert_eq(parse_copy(&image, image.len, &identity), E_NEWER);
    index_image_free(&image);
}

/* ---- cache ---- */

static void put(struct index_cache *cache, uint64_t key)
{
    struct index_image image = small_image();
    cr_assert_not_null(index_cache_put(cache, key, &image));
    cr_assert_null(image.bytes, "taken over");
}

Test(index_cache, the_least_recently_used_goes_first)
{
    struct index_image image = small_image();
    uint64_t each = image.len;
    index_image_free(&image);
    struct index_cache *cache = index_cache_new(3 * each);
    put(cache, 10);
    put(cache, 11);
    put(cache, 12);
    cr_assert_not_null(index_cache_get(cache, 10));
    put(cache, 13);
    cr_assert_null(index_cache_get(cache, 11));
    cr_assert_not_null(index_cache_get(cache, 10));
    cr_assert_not_null(index_cache_get(cache, 12));
    cr_assert_not_null(index_cache_get(cache, 13));
    cr_assert_eq(index_cache_bytes(cache), 3 * each);
    index_cache_drop(cache, 12);
    index_cache_drop(cache, 99);
    cr_assert_null(index_cache_get(cache, 12));
    cr_assert_eq(index_cache_bytes(cache), 2 * each);
    put(cache, 13);
    cr_assert_eq(index_cache_bytes(cache), 2 * each, "the same key again");
    index_cache_free(cache);
}

Test(index_cache, what_was_just_put_stays_whatever_its_size)
{
    struct index_cache *cache = index_cache_new(1);
    put(cache, 1);
    cr_assert_not_null(index_cache_get(cache, 1));
    put(cache, 2);
    cr_assert_null(index_cache_get(cache, 1));
    cr_assert_not_null(index_cache_get(cache, 2));
    index_cache_free(cache);
}
