/* Assertions that stay on in release, and a few words every file uses.
 *
 * ASSERT is for programmer errors only: nothing a peer sends and nothing read from disk may reach
 * one. A failed assertion prints place and expression and aborts; the write-ahead log makes that
 * safe. */
#ifndef SLUICE_BASE_CHECK_H
#define SLUICE_BASE_CHECK_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define NS_PER_US ((uint64_t)1000)
#define NS_PER_MS (1000 * NS_PER_US)
#define NS_PER_S (1000 * NS_PER_MS)

#define CACHE_LINE 64

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

/* The object that embeds `member`, from the member's address. */
#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

/* Handing over clears the giver. */
#define TAKE(place)                                                                                \
    ({                                                                                             \
        __typeof__(place) taken_ = (place);                                                        \
        (place) = NULL;                                                                            \
        taken_;                                                                                    \
    })

_Noreturn void check_failed(const char *file, int line, const char *expression)
    __attribute__((cold));

#define ASSERT(x) (LIKELY(x) ? (void)0 : check_failed(__FILE__, __LINE__, #x))

/* For the few places where memory is needed and there is no way back, as when an entry is in the log already: one line, and
 * the process ends with code 1. */
_Noreturn void end_without_memory(const char *what) __attribute__((cold));

/* Costly checks: on in debug and sanitizer builds. */
#ifdef SLUICE_SLOW_CHECKS
#define ASSERT_SLOW(x) ASSERT(x)
#else
#define ASSERT_SLOW(x) ((void)sizeof(!(x)))
#endif

static inline uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

static inline uint64_t align_down(uint64_t value, uint64_t alignment)
{
    return value & ~(alignment - 1);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

#endif
