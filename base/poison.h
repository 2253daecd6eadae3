/* Telling AddressSanitizer which bytes nobody may touch; no code in other builds. */
#ifndef SLUICE_BASE_POISON_H
#define SLUICE_BASE_POISON_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define SLUICE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLUICE_ASAN 1
#endif
#endif

#ifdef SLUICE_ASAN
#include <sanitizer/asan_interface.h>
#endif

static inline void poison(const void *bytes, size_t size)
{
#ifdef SLUICE_ASAN
    __asan_poison_memory_region(bytes, size);
#endif
}

static inline void unpoison(const void *bytes, size_t size)
{
#ifdef SLUICE_ASAN
    __asan_unpoison_memory_region(bytes, size);
#endif
}

#endif
