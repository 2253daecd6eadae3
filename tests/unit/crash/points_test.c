/* Crash points of small recordings, held against every disk that can be had by leaving out things by hand. */
#include "tests/sim/crash/points.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/seeds.h"

#define FILES 4
#define BLOCKS 6u // of a file
#define IN_FLIGHT_MAX 8
#define EVENTS_MAX 400
#define HAND_THINGS_MAX 7u // more take too long

struct flight {
    struct sim_file *file;
    uint64_t block;
    uint8_t bytes[SIM_BLOCK];
};
static struct trace trace;
static struct sim_disk *disk;
static struct sim_file *files[FILES];
static struct flight flights[IN_FLIGHT_MAX];
static uint32_t flight_count;
static uint8_t mark; // each block that is written is another one
static uint64_t hashes[1u << POINTS_THINGS_ALL];

static void on_event(void *context, const struct sim_event *event);

/* ---- recordings ---- */

static void begin(void)
{
    trace = (struct trace){.seed = 1};
    trace.events = calloc(EVENTS_MAX, sizeof(*trace.events));
    disk = sim_disk_new(1, GIB);
    disk->observe = on_event;
    flight_count = 0;
    sim_disk_create(disk, "/d", true);
    sim_disk_sync_dir(disk, "", UINT64_MAX);
}

static void on_event(void *context, const struct sim_event *event)
{
    (void)context;
    cr_assert(trace.count < EVENTS_MAX);
    struct trace_event *copy = &trace.events[trace.count];
    *copy = (struct trace_event){.event = *event, .known = {.history = trace.count}};
    copy->known.committed[0] = trace.count++;
    if (event->path)
        copy->event.path = strdup(event->path);
    if (event->path_to)
        copy->event.path_to = strdup(event->path_to);
    if (event->bytes)
        copy->event.bytes = memcpy(malloc(event->len), event->bytes, event->len);
}

static void end(struct points *points)
{
    trace.last = (struct trace_known){.history = trace.count, .committed = {trace.count}};
    points_find(points, &trace);
}

static void forget(struct points *points)
{
    points_free(points);
    for (uint32_t i = 0; i < FILES; i++)
        if (files[i])
            sim_file_release(disk, TAKE(files[i]));
    sim_disk_free(disk);
    for (uint32_t i = 0; i < trace.count; i++) {
        struct sim_event *event = &trace.events[i].event;
        free((void *)(uintptr_t)event->path);
        free((void *)(uintptr_t)event->path_to);
        free((void *)(uintptr_t)event->bytes);
    }
    free(trace.events);
}

static void make_file(uint32_t i)
{
    char path[8] = {'/', 'd', '/', (char)('a' + i), 0};
    files[i] = sim_disk_create(disk, path, false);
    files[i]->references++;
}

static void write_begins(uint32_t file, uint64_t block)
{
    struct flight *flight = &flights[flight_count++];
    flight->file = files[file];
    flight->block = block;
    memset(flight->bytes, ++mark, SIM_BLOCK);
    sim_file_write_start(disk, flight->file, flight->bytes, block * SIM_BLOCK, SIM_BLOCK);
}

static void write_arrives(uint32_t i)
{
    sim_file_write(disk, flights[i].file, flights[i].bytes, flights[i].block * SIM_BLOCK,
                   SIM_BLOCK);
    flights[i] = flights[--flight_count];
}

static void write_now(uint32_t file, uint64_t block)
{
    write_begins(file, block);
    write_arrives(flight_count - 1);
}

static bool is_in_flight(uint32_t file, uint64_t block)
{
    for (uint32_t i = 0; i < flight_count; i++)
        if (flights[i].file == files[file] && flights[i].block == block)
            return true;
    return false;
}

static void something(struct random *random)
{
    uint32_t file = (uint32_t)random_below(random, FILES);
    uint64_t block = random_below(random, BLOCKS), chance = random_below(random, 100);
    char path[8] = {'/', 'd', '/', (char)('a' + random_below(random, FILES)), 0};
    char other[8] = {'/', 'd', '/', (char)('a' + random_below(random, FILES)), 0};
    if (chance < 50 && flight_count < IN_FLIGHT_MAX && !is_in_flight(file, block))
        write_begins(file, block);
    else if (chance < 80 && flight_count > 0)
        write_arrives((uint32_t)random_below(random, flight_count));
    else if (chance < 82)
        (void)sim_disk_rename(disk, path, other);
    else if (chance < 83)
        (void)sim_disk_unlink(disk, path);
    else if (chance < 85)
        sim_file_extend(disk, files[file], (1 + block) * SIM_BLOCK);
    else if (chance < 88)
        sim_file_truncate(disk, files[file], block * SIM_BLOCK);
    else if (chance < 92)
        sim_disk_sync_dir(disk, "/d", UINT64_MAX);
    else if (chance < 97)
        sim_file_sync(disk, files[file], disk->sequence);
}

/* ---- disks ---- */

static uint64_t hash_of(const struct replay *replay, struct point *point, uint64_t image)
{
    point_fates(point, image, 1);
    struct sim_disk *left = sim_disk_image(replay->disk, point->fates, point->thing_count, 1);
    uint64_t hash = sim_disk_hash(left);
    sim_disk_free(left);
    return hash;
}

static int order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Of all subsets before this event. Returns how many. */
static uint32_t hash_all(uint32_t event)
{
    struct replay replay;
    struct point point;
    replay_begin(&replay, &trace);
    replay_to(&replay, event);
    point_of(&point, replay.disk);
    uint32_t count = 1u << point.choice_count;
    for (uint32_t i = 0; i < count; i++)
        hashes[i] = hash_of(&replay, &point, i);
    qsort(hashes, count, sizeof(hashes[0]), order);
    replay_end(&replay);
    return count;
}

/* ---- tests ---- */

Test(points, a_large_flush_has_a_complete_point_before_it)
{
    struct points points;
    begin();
    make_file(0);
    make_file(1);
    sim_disk_sync_dir(disk, "/d", UINT64_MAX);
    uint32_t first = trace.count;
    for (uint32_t i = 0; i < 12; i++)
        write_now(i / BLOCKS, i % BLOCKS);
    uint32_t flush = trace.count;
    sim_file_sync(disk, files[0], disk->sequence);
    trace.first = first;
    end(&points);
    cr_assert_eq(points.count, 3);
    /* A write is two events; before the one that begins the eleventh there are ten things. */
    cr_assert_eq(points.places[0].event, first + 20);
    cr_assert(points.places[0].is_small && points.places[0].is_early);
    cr_assert_eq(points.places[0].images, (1u << 10) + 60);
    cr_assert_eq(points.places[1].event, flush);
    cr_assert(!points.places[1].is_small && !points.places[1].is_early);
    cr_assert_eq(points.places[2].event, trace.count);
    cr_assert_eq(points.places[2].images, (1u << 6) + 36);
    forget(&points);
}

Test(points, an_early_place_may_be_told_what_the_flush_is_and_asked_what_it_was)
{
    struct points points;
    begin();
    make_file(0);
    make_file(1);
    for (uint32_t i = 0; i < 12; i++)
        write_now(i / BLOCKS, i % BLOCKS);
    uint32_t flush = trace.count;
    sim_file_sync(disk, files[0], disk->sequence);
    trace.first = 3;
    end(&points);
    cr_assert(points.places[0].is_early);
    struct trace_known known = point_known(&trace, points.places[0].event);
    cr_assert_eq(known.history, flush);
    cr_assert_eq(known.committed[0], flush);
    cr_assert_eq(known.asked, points.places[0].event);
    known = point_known(&trace, flush);
    cr_assert_eq(known.history, flush);
    cr_assert_eq(known.asked, flush);
    forget(&points);
}

Test(points, each_subset_of_few_things_is_another_disk)
{
    begin();
    make_file(0);
    sim_disk_sync_dir(disk, "/d", UINT64_MAX);
    for (uint32_t i = 0; i < BLOCKS; i++)
        write_begins(0, i);
    write_arrives(2);
    make_file(1);
    uint32_t count = hash_all(trace.count);
    cr_assert_eq(count, 1u << (BLOCKS + 1));
    for (uint32_t i = 1; i < count; i++)
        cr_assert_neq(hashes[i - 1], hashes[i]);
    forget(&(struct points){0});
}

/* Whatever can be left of few things, at any event, is an image of the next point. */
Test(points, every_disk_of_few_things_is_an_image_of_a_complete_point)
{
    uint64_t first = first_seed(1), tried = 0, early = 0;
    for (uint64_t seed = first; seed < first + seeds(12); seed++) {
        struct random random;
        struct points points;
        struct replay replay;
        struct point point;
        uint32_t place = 0, count = 0, hashed = UINT32_MAX;
        random_init(&random, seed);
        begin();
        for (uint32_t i = 0; i < FILES; i++)
            make_file(i);
        for (uint32_t i = 0; i < 200; i++)
            something(&random);
        end(&points);
        replay_begin(&replay, &trace);
        for (uint32_t event = 0; event <= trace.count; event++) {
            while (points.places[place].event < event)
                place++;
            early += points.places[place].event == event && points.places[place].is_early;
            replay_to(&replay, event);
            point_of(&point, replay.disk);
            cr_assert_eq(points.places[place].is_small, point.choice_count <= POINTS_THINGS_ALL,
                         "seed %" PRIu64 ", event %u", seed, event);
            if (point.choice_count > HAND_THINGS_MAX)
                continue;
            if (hashed != place)
                count = hash_all(points.places[place].event);
            hashed = place;
            point_of(&point, replay.disk); // its tables were used
            for (uint64_t image = 0; image < 1u << point.choice_count; image++, tried++) {
                uint64_t hash = hash_of(&replay, &point, image);
                cr_assert(bsearch(&hash, hashes, count, sizeof(hash), order),
                          "seed %" PRIu64 ", event %u, image %" PRIu64, seed, event, image);
            }
        }
        replay_end(&replay);
        forget(&points);
    }
    cr_assert(tried > 1000, "%" PRIu64, tried);
    cr_assert(early > 2, "%" PRIu64, early);
}
