/* Kept by size: a list of spare ones for each. See large_blocks.h. */
#include "tests/sim/large_blocks.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/poison.h"

#define LARGE_PAGE ((size_t)4096)
#define LARGE_ALIGNMENT ((size_t)2 << 20)
#define LARGE_POISONED ((size_t)16 << 10) // at both ends of a spare one: shadow costs time, too
#define LARGE_KINDS_MAX 128
#define LARGE_SPARE_MAX 64 // of a kind

static struct large_kind {
    size_t bytes; // whole pages
    bool is_zeros;
    bool is_dense; // most of it was touched: the kernel's pages would cost more than filling it
    bool is_known;
    uint32_t spare_count;
    void *spare[LARGE_SPARE_MAX];
} large_kinds[LARGE_KINDS_MAX];

static size_t large_size(size_t bytes)
{
    return (bytes + LARGE_PAGE - 1) & ~(LARGE_PAGE - 1);
}

size_t large_block_alignment(size_t bytes)
{
    return bytes < LARGE_ALIGNMENT ? LARGE_PAGE : LARGE_ALIGNMENT;
}

static struct large_kind *large_kind_of(size_t bytes, bool is_zeros)
{
    uint32_t i = 0;
    bytes = large_size(bytes);
    while (i < LARGE_KINDS_MAX && large_kinds[i].bytes != 0 &&
           (large_kinds[i].bytes != bytes || large_kinds[i].is_zeros != is_zeros))
        i++;
    if (i == LARGE_KINDS_MAX)
        return NULL;
    large_kinds[i].bytes = bytes;
    large_kinds[i].is_zeros = is_zeros;
    return &large_kinds[i];
}

/* By the system, whatever a linker has put in the place of the library's functions. */
static uint8_t *system_map(size_t bytes)
{
    long at =
        syscall(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == -1 ? NULL : (uint8_t *)at;
}

static bool system_unmap(void *at, size_t bytes)
{
    return syscall(SYS_munmap, at, bytes) == 0;
}

/* By whole pages: the next one of its kind may be some bytes longer or shorter. */
static void poison_ends(uint8_t *memory, size_t bytes)
{
    poison(memory, LARGE_POISONED);
    poison(memory + large_size(bytes) - LARGE_POISONED, LARGE_POISONED);
}

/* Inside of tables nobody poisons; of buffers and pools a process that was killed may have left anything. */
static void unpoison_block(uint8_t *memory, size_t bytes, bool is_zeros)
{
    unpoison(memory, is_zeros ? LARGE_POISONED : large_size(bytes));
    unpoison(memory + large_size(bytes) - LARGE_POISONED, LARGE_POISONED);
    poison(memory + bytes, large_size(bytes) - bytes);
}

/* Mapped with room for any place of an aligned block; what is outside goes back. */
static void *large_map(size_t bytes)
{
    size_t alignment = large_block_alignment(bytes);
    size_t mapped = large_size(bytes) + 2 * LARGE_PAGE, room = mapped + alignment;
    uint8_t *map = system_map(room);
    if (map == NULL)
        return NULL;
    uint8_t *memory = (uint8_t *)align_up((uintptr_t)map + LARGE_PAGE, alignment);
    uint8_t *from = memory - LARGE_PAGE, *to = from + mapped;
    ASSERT(from == map || system_unmap(map, (size_t)(from - map)));
    ASSERT(to == map + room || system_unmap(to, (size_t)(map + room - to)));
    poison(from, LARGE_PAGE);
    poison(to - LARGE_PAGE, LARGE_PAGE);
    poison_ends(memory, bytes);
    return memory;
}

static void large_unmap(uint8_t *memory, size_t bytes)
{
    size_t mapped = large_size(bytes) + 2 * LARGE_PAGE;
    unpoison(memory - LARGE_PAGE, mapped); // the addresses may be mapped again
    ASSERT(system_unmap(memory - LARGE_PAGE, mapped));
}

void *large_block_take(size_t bytes, bool is_zeros)
{
    struct large_kind *kind = large_kind_of(bytes, is_zeros);
    bool is_used = kind && kind->spare_count > 0;
    void *memory = is_used ? kind->spare[--kind->spare_count] : large_map(bytes);
    if (memory)
        unpoison_block(memory, bytes, is_zeros);
    if (is_used && is_zeros && kind->is_dense)
        memset(memory, 0, bytes);
    return memory;
}

/* Is filled anew rather than given back? What the first one of a kind shows. */
static void large_look(struct large_kind *kind, void *memory)
{
    static unsigned char resident[16384];
    size_t pages = kind->bytes / LARGE_PAGE, touched = 0;
    kind->is_known = true;
    if (pages > sizeof(resident) || mincore(memory, kind->bytes, resident) != 0)
        return;
    for (size_t i = 0; i < pages; i++)
        touched += resident[i] & 1;
    kind->is_dense = touched > pages / 2;
}

void large_block_give(void *memory, size_t bytes, bool is_zeros)
{
    struct large_kind *kind = large_kind_of(bytes, is_zeros);
    if (kind && is_zeros && !kind->is_known)
        large_look(kind, memory);
    if (kind == NULL || kind->spare_count == LARGE_SPARE_MAX) {
        large_unmap(memory, bytes);
        return;
    }
    if (is_zeros && !kind->is_dense)
        ASSERT(syscall(SYS_madvise, memory, large_size(bytes), MADV_DONTNEED) == 0);
    poison_ends(memory, bytes);
    kind->spare[kind->spare_count++] = memory;
}
