/* The sum of the limits: that it is a sum, follows the configuration, and keeps its promise. */
#include <criterion/criterion.h>
#include <string.h>

#include "broker/broker.h"

static struct config config;

static void set_up(void)
{
    config_defaults(&config);
    config.cores = 2;
}

TestSuite(limits, .init = set_up);

static uint64_t sum_of(struct limits_memory *memory)
{
    limits_memory(&config, memory);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < memory->line_count; i++) {
        cr_assert_gt(memory->lines[i].bytes, 0, "%s", memory->lines[i].what);
        cr_assert_gt(strlen(memory->lines[i].what), 3);
        sum += memory->lines[i].bytes;
    }
    cr_assert_eq(sum, memory->sum_bytes);
    return sum;
}

static void set(const char *key, const char *value)
{
    struct config_error error;
    cr_assert_eq(config_set(&config, key, value, (struct config_place){0}, &error), 0, "%s",
                 error.text);
}

Test(limits, defaults_with_two_cores_stay_below_500_mb)
{
    struct limits_memory memory;
    uint64_t sum = sum_of(&memory);
    cr_assert_lt(sum, 500 * 1000 * 1000ull, "%lu", sum);
    cr_assert_gt(sum, 200 * MIB);
}

Test(limits, every_key_that_costs_memory_is_in_the_sum)
{
    static const struct {
        const char *key, *value;
        uint64_t more_min;
    } cases[] = {
        {"request_bytes_max", "32MiB", 2 * 16 * MIB},
        {"connections_max", "100000", 88000 * 500ull},
        {"index_cache_bytes", "132MiB", 100 * MIB},
        {"wal_buffer_bytes", "140MiB", 100 * MIB},
        {"cores", "4", 2 * 64 * MIB},
        {"shards", "3", 2 * 64 * MIB},
    };
    struct limits_memory memory;
    uint64_t before = sum_of(&memory);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        set_up();
        set(cases[i].key, cases[i].value);
        cr_assert_geq(sum_of(&memory), before + cases[i].more_min, "%s", cases[i].key);
    }
    set_up();
    set("http", "off");
    cr_assert_lt(sum_of(&memory), before);
}

Test(limits, arenas_hold_what_their_owners_take)
{
    static const char *const request_bytes[] = {"1MiB", "5MiB", "16MiB", "64MiB"};
    for (size_t i = 0; i < ARRAY_COUNT(request_bytes); i++) {
        struct arena arena;
        struct buffers buffers;
        struct pool requests;
        set("request_bytes_max", request_bytes[i]);
        cr_assert_eq(arena_init(&arena, limits_core_arena_bytes(&config), false), 0);
        buffers_init(&buffers, 0, (uint32_t)config.request_bytes_max, &arena);
        pool_init(&requests, &arena, REQUESTS_PER_CORE, sizeof(struct request), CACHE_LINE);
        cr_assert_leq(arena.used, limits_core_arena_bytes(&config));
        arena_deinit(&arena);
    }
}

Test(limits, connections_are_spread_so_that_all_fit)
{
    set("connections_max", "12000");
    cr_assert_eq(limits_conns_per_core(&config), 6000);
    set("connections_max", "7");
    cr_assert_eq(limits_conns_per_core(&config), 4);
    set("cores", "64");
    cr_assert_eq(limits_conns_per_core(&config), 1);
}
