/* The oracle besides "no crash": a peer or a file that announces much and sends little must not
 * make the code take memory. Peak of one run <= fixed + 64 KiB + 8 x input.
 *
 * The allocator of AddressSanitizer tells of each block. Blocks that were there before the window
 * and are freed in it would make the sum fall below zero, so those count as nothing; a block that
 * outlives the window stops counting with it. In builds without a sanitizer's allocator (plain gcc)
 * the functions do nothing: the same corpora run there for crashes only. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/fuzz/fuzz.h"

#define SLACK_BYTES ((size_t)64 * 1024)
#define PER_INPUT_BYTE 8

typedef void (*malloc_hook)(const volatile void *block, size_t size);
typedef void (*free_hook)(const volatile void *block);

/* Of the sanitizer's run-time library; NULL without it. */
int __sanitizer_install_malloc_and_free_hooks(malloc_hook on_malloc, free_hook on_free)
    __attribute__((weak));
size_t __sanitizer_get_allocated_size(const volatile void *block) __attribute__((weak));

static _Atomic bool measuring;
static _Atomic int64_t now_bytes, peak_bytes;
static size_t most_bytes, most_input, most_fixed; // of the run that came nearest to its bound
static double most_share;

void memory_bound_took(size_t size)
{
    if (!atomic_load_explicit(&measuring, memory_order_relaxed))
        return;
    int64_t now = atomic_fetch_add(&now_bytes, (int64_t)size) + (int64_t)size;
    int64_t peak = atomic_load(&peak_bytes);
    while (now > peak && !atomic_compare_exchange_weak(&peak_bytes, &peak, now))
        continue;
}

void memory_bound_gave(size_t size)
{
    if (!atomic_load_explicit(&measuring, memory_order_relaxed))
        return;
    if (atomic_fetch_sub(&now_bytes, (int64_t)size) < (int64_t)size)
        atomic_store(&now_bytes, 0); // it was there before
}

static void on_malloc(const volatile void *block, size_t size)
{
    if (block != NULL)
        memory_bound_took(size);
}

static void on_free(const volatile void *block)
{
    if (block != NULL)
        memory_bound_gave(__sanitizer_get_allocated_size(block));
}

static void show_most(void)
{
    if (most_share > 0)
        fprintf(stderr,
                "memory: at most %.0f %% of the bound, %zu bytes (%zu of them fixed) for an input "
                "of %zu\n",
                most_share * 100, most_bytes, most_fixed, most_input);
}

/* Of this process, whoever else keeps the machine busy: for run.sh, beside libFuzzer's own figures. */
__attribute__((destructor)) static void show_cpu_time(void)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    fprintf(stderr, "stat::cpu_ms:                   %lld\n",
            (long long)used.tv_sec * 1000 + used.tv_nsec / 1000000);
}

static bool can_measure(void)
{
    return __sanitizer_install_malloc_and_free_hooks && __sanitizer_get_allocated_size;
}

void memory_bound_begin(void)
{
    static bool installed;
    if (!can_measure())
        return;
    if (!installed) {
        installed = true;
        ASSERT(__sanitizer_install_malloc_and_free_hooks(on_malloc, on_free) != 0);
        atexit(show_most);
    }
    atomic_store(&now_bytes, 0);
    atomic_store(&peak_bytes, 0);
    atomic_store(&measuring, true);
}

size_t memory_bound_stop(void)
{
    atomic_store(&measuring, false);
    return (size_t)atomic_load(&peak_bytes);
}

void memory_bound_end(size_t input_bytes, size_t fixed_bytes)
{
    memory_bound_check(memory_bound_stop(), input_bytes, fixed_bytes);
}

void memory_bound_check(size_t peak, size_t input_bytes, size_t fixed_bytes)
{
    size_t bound = fixed_bytes + SLACK_BYTES + PER_INPUT_BYTE * input_bytes;
    double share = (double)peak / (double)bound;
    if (share > most_share) {
        most_share = share;
        most_bytes = peak;
        most_input = input_bytes;
        most_fixed = fixed_bytes;
    }
    if (peak <= bound)
        return;
    fprintf(stderr, "memory: %zu bytes for an input of %zu; at most %zu are allowed\n", peak,
            input_bytes, bound);
    ASSERT(peak <= bound);
}
