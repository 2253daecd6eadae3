/* What the process uses: compared with work that was done and memory that was touched. */
#include "base/process.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

Test(process, cpu_time_grows_with_work)
{
    struct process_usage before = process_usage(), now = before;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < 1000000000ull && now.cpu_us < before.cpu_us + 20000; i++) {
        sum += i;
        __asm__ volatile("" : "+r"(sum)); // is work to the compiler
        if (i % 1000000 == 0)
            now = process_usage();
    }
    cr_assert_geq(now.cpu_us, before.cpu_us + 20000);
}

Test(process, resident_memory_follows_what_is_touched)
{
    size_t size = 64 * MIB;
    struct process_usage before = process_usage();
    char *memory = malloc(size);
    memset(memory, 1, size);
    __asm__ volatile("" : : "r"(memory) : "memory"); // it is used, whatever a compiler sees
    struct process_usage with = process_usage();
    cr_assert_geq(with.rss_bytes, before.rss_bytes + size / 2);
    cr_assert_geq(with.rss_peak_bytes, with.rss_bytes / 2);
    cr_assert_lt(with.rss_bytes, before.rss_bytes + 8 * size, "pages, not bytes, or the reverse");
    free(memory);
}
