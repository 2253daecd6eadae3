/* Who holds what: an open hash table from address to owner. See own_memory.h. */
#include "tests/sim/world/own_memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/poison.h"
#include "tests/sim/large_blocks.h"

#define OWNERS_MAX 4096
#define TABLE_SLOTS_MIN 4096

/* The linker's names: what the programs call, and what they would have called. */
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);
char *__wrap_strdup(const char *text);
void *__wrap_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *address, size_t bytes);
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *memory);
void *__real_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *address, size_t bytes);
int __real_madvise(void *address, size_t bytes,
                   int advice); // system.c keeps it from simulated threads

#ifdef SLUICE_ASAN
void __asan_get_shadow_mapping(size_t *scale,
                               size_t *offset); // of the run-time library, in no header
#endif

static void unpoison_map(uint8_t *at, size_t bytes);

struct held {
    uintptr_t address; // 0: empty, 1: was taken out
    uint64_t bytes;
    uint32_t owner;
    bool is_map;
    bool is_large, is_zeros; // see large_new()
};

static struct held *table;
static uint64_t table_slots, table_used; // taken-out ones are used, too
static _Thread_local uint32_t owner_now;
static _Thread_local bool is_ours; // the thread of the world: only that knows the table
static bool (*fault)(void);
static bool shares_nothing;
static struct {
    struct memory_use use;
    uint64_t fail_first, fail_last;
} owners[OWNERS_MAX];

/* ---- the table ---- */

static uint64_t slot_of(uintptr_t address)
{
    return (address >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 20 & (table_slots - 1);
}

static struct held *find(const void *memory)
{
    if (table_slots == 0 || !is_ours)
        return NULL;
    for (uint64_t i = slot_of((uintptr_t)memory);; i = (i + 1) & (table_slots - 1)) {
        if (table[i].address == (uintptr_t)memory)
            return &table[i];
        if (table[i].address == 0)
            return NULL;
    }
}

static void insert(struct held held)
{
    for (uint64_t i = slot_of(held.address);; i = (i + 1) & (table_slots - 1)) {
        if (table[i].address > 1)
            continue;
        table_used += table[i].address == 0;
        table[i] = held;
        return;
    }
}

static void grow(void)
{
    struct held *old = table;
    uint64_t old_slots = table_slots, live = 0;
    for (uint64_t i = 0; i < old_slots; i++)
        live += old[i].address > 1;
    table_slots = TABLE_SLOTS_MIN;
    while (table_slots < 4 * live)
        table_slots *= 2;
    table = __real_calloc(table_slots, sizeof(*table));
    ASSERT(table != NULL);
    table_used = 0;
    for (uint64_t i = 0; i < old_slots; i++)
        if (old[i].address > 1)
            insert(old[i]);
    __real_free(old);
}

static void *hold(void *memory, uint64_t bytes, bool is_map)
{
    if (memory == NULL || memory == MAP_FAILED)
        return memory;
    ASSERT(find(memory) == NULL); // whoever gave it back did it behind our back
    if (owner_now == 0)
        return memory;
    if (2 * (table_used + 1) > table_slots)
        grow();
    insert((struct held){(uintptr_t)memory, bytes, owner_now, is_map});
    struct memory_use *use = &owners[owner_now].use;
    if (is_map) {
        use->mapped += bytes;
        return memory;
    }
    use->bytes += bytes;
    use->bytes_peak = max_u64(use->bytes_peak, use->bytes);
    return memory;
}

static void let_go(struct held *held)
{
    struct memory_use *use = &owners[held->owner].use;
    *(held->is_map ? &use->mapped : &use->bytes) -= held->bytes;
    held->address = 1;
}

/* Counts an allocation; true: it is to fail. */
static bool fails(void)
{
    if (owner_now == 0)
        return false;
    uint64_t count = ++owners[owner_now].use.count;
    if (fault && fault())
        return true;
    return count >= owners[owner_now].fail_first && count <= owners[owner_now].fail_last;
}

/* ---- large blocks ---- */

/* NULL: no memory. */
static void *large_new(size_t bytes, bool is_zeros)
{
    void *memory = hold(large_block_take(bytes, is_zeros), bytes, false);
    if (memory) {
        find(memory)->is_large = true;
        find(memory)->is_zeros = is_zeros;
    }
    return memory;
}

static bool is_large(size_t bytes)
{
    return owner_now != 0 && bytes >= LARGE_BLOCK_BYTES;
}

/* ---- what programs call ---- */

static void *refuse(void)
{
    errno = ENOMEM;
    return NULL;
}

void *__wrap_malloc(size_t size)
{
    if (fails())
        return refuse();
    return is_large(size) ? large_new(size, false) : hold(__real_malloc(size), size, false);
}

void *__wrap_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (fails())
        return refuse();
    if (!__builtin_mul_overflow(count, size, &bytes) && is_large(bytes))
        return large_new(bytes, true);
    return hold(__real_calloc(count, size), count * size, false);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    if (fails())
        return refuse();
    return is_large(size) && alignment <= large_block_alignment(size)
               ? large_new(size, false)
               : hold(__real_aligned_alloc(alignment, size), size, false);
}

void *__wrap_realloc(void *memory, size_t size)
{
    struct held *held = memory ? find(memory) : NULL;
    if (memory == NULL)
        return __wrap_malloc(size);
    if (held == NULL)
        return __real_realloc(memory, size);
    if (fails())
        return refuse();
    struct held before = *held;
    void *moved = before.is_large ? __real_malloc(size) : __real_realloc(memory, size);
    if (moved == NULL)
        return NULL;
    let_go(held);
    if (before.is_large) {
        memcpy(moved, memory, before.bytes < size ? before.bytes : size);
        large_block_give(memory, before.bytes, before.is_zeros);
    }
    uint32_t owner = memory_owner_set(before.owner);
    (void)hold(moved, size, false);
    memory_owner_set(owner);
    return moved;
}

void __wrap_free(void *memory)
{
    struct held *held = memory ? find(memory) : NULL;
    if (held && held->is_large) {
        let_go(held);
        large_block_give(memory, held->bytes, held->is_zeros);
        return;
    }
    if (held)
        let_go(held);
    __real_free(memory);
}

char *__wrap_strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = __wrap_malloc(bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

void *__wrap_mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (fails()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    if (shares_nothing && flags & MAP_SHARED && fd < 0)
        flags = (flags & ~MAP_SHARED) | MAP_PRIVATE;
    void *memory = __real_mmap(address, bytes, protection, flags, fd, offset);
    if (memory != MAP_FAILED)
        (void)hold(memory, bytes, true);
    return memory;
}

/* Parts of a mapping may be given back from both ends. */
int __wrap_munmap(void *address, size_t bytes)
{
    uint32_t owner = owner_now;
    for (uint64_t i = 0; is_ours && i < table_slots; i++) {
        struct held held = table[i];
        uintptr_t from = (uintptr_t)address, to = from + bytes;
        if (held.address <= 1 || !held.is_map || held.address >= to ||
            held.address + held.bytes <= from)
            continue;
        let_go(&table[i]);
        memory_owner_set(held.owner);
        if (held.address < from)
            (void)hold((void *)held.address, from - held.address, true);
        if (held.address + held.bytes > to)
            (void)hold((void *)to, held.address + held.bytes - to, true);
        memory_owner_set(owner);
        break;
    }
    return __real_munmap(address, bytes);
}

/* ---- the simulator's own ---- */

void *own_calloc(size_t count, size_t size)
{
    void *memory = __real_calloc(count, size);
    ASSERT(memory != NULL && find(memory) == NULL);
    return memory;
}

void *own_realloc(void *memory, size_t size)
{
    void *moved = __real_realloc(memory, size);
    ASSERT(moved != NULL);
    return moved;
}

void own_free(void *memory)
{
    __real_free(memory);
}

void *own_map(size_t bytes)
{
    void *memory =
        __real_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT(memory != MAP_FAILED);
    return memory;
}

uint32_t memory_owner_set(uint32_t owner)
{
    uint32_t before = owner_now;
    ASSERT(owner < OWNERS_MAX);
    owner_now = owner;
    return before;
}

void memory_thread_is_ours(void)
{
    is_ours = true;
}

uint32_t memory_outside(void)
{
    return memory_owner_set(0);
}

void memory_inside(uint32_t owner)
{
    owner_now = owner;
}

/* Pools poison what is free in arenas, a little here and there in a hundred megabytes. Shadow that is given back to the system reads
 * as zeros, and that costs no more than there was of it; writing zeros costs all of it. */
static void unpoison_map(uint8_t *at, size_t bytes)
{
#ifdef SLUICE_ASAN
    size_t scale, offset;
    __asan_get_shadow_mapping(&scale, &offset);
    size_t unit = (size_t)4096 << scale; // has a page of shadow
    uintptr_t from = align_up((uintptr_t)at, unit), to = align_down((uintptr_t)at + bytes, unit);
    if (from < to) {
        void *shadow = (void *)((from >> scale) + offset);
        ASSERT(__real_madvise(shadow, (to - from) >> scale, MADV_DONTNEED) == 0);
        unpoison(at, from - (uintptr_t)at);
        unpoison((void *)to, (uintptr_t)at + bytes - to);
        return;
    }
#endif
    unpoison(at, bytes);
}

void memory_release(uint32_t owner)
{
    ASSERT(owner != 0);
    for (uint64_t i = 0; i < table_slots; i++) {
        struct held held = table[i];
        if (held.address <= 1 || held.owner != owner)
            continue;
        table[i].address = 1;
        if (held.is_map) {
            unpoison_map((uint8_t *)held.address, held.bytes); // the addresses come again
            ASSERT(__real_munmap((void *)held.address, held.bytes) == 0);
        } else if (held.is_large) {
            large_block_give((void *)held.address, held.bytes, held.is_zeros);
        } else {
            __real_free((void *)held.address);
        }
    }
    owners[owner].use = (struct memory_use){0};
    owners[owner].fail_first = owners[owner].fail_last = 0;
}

struct memory_use memory_use(uint32_t owner)
{
    return owners[owner].use;
}

void memory_fail(uint32_t owner, uint64_t first, uint64_t last)
{
    owners[owner].use.count = 0;
    owners[owner].use.bytes_peak = owners[owner].use.bytes;
    owners[owner].fail_first = first;
    owners[owner].fail_last = first ? last : 0;
}

void memory_set_fault(bool (*fails_now)(void))
{
    fault = fails_now;
}

void memory_share_nothing(bool on)
{
    shares_nothing = on;
}
