/* Shared memory of a harness, and happens-before for what is not atomic.
 *
 * Each byte remembers who wrote it last and when, and when each thread last read it; "when" is how many atomic operations
 * and fences the thread had done. An access races with an earlier one of another thread that its clock does not cover. Plain
 * accesses are no events of the graph: without races each has one possible value, and an execution replays threads in an
 * order that respects happens-before, so memory holds that value.
 *
 * The compiler calls the functions at the end for every load and store that it can't prove to be private: that is all that is
 * used of -fsanitize=thread; its runtime is not linked. */
#include "tests/model/memory.h"

#include <stdlib.h>
#include <string.h>

#include "tests/model/fibers.h"

#define MEMORY_BYTES ((size_t)256 * 1024)

struct shadow { // of a byte
    uint32_t generation;
    uint8_t writer; // thread + 1; 0: nobody since setup
    uint8_t written;
    uint8_t read[MODEL_THREADS_MAX]; // 1 more than the count of operations; 0: never
};

static _Alignas(64) uint8_t memory[MEMORY_BYTES];
static struct shadow shadows[MEMORY_BYTES];
static size_t used;
static uint32_t generation;

void memory_reset(void)
{
    used = 0;
    generation++;
}

void *model_memory(size_t bytes, size_t alignment)
{
    size_t at = (used + alignment - 1) / alignment * alignment;
    if (bytes > MEMORY_BYTES - at) {
        fprintf(stderr, "model: the harness needs more memory\n");
        exit(2);
    }
    used = at + bytes;
    memset(memory + at, 0, bytes);
    return memory + at;
}

bool memory_is_shared(const volatile void *place)
{
    uintptr_t address = (uintptr_t)place;
    return address >= (uintptr_t)memory && address < (uintptr_t)memory + used;
}

/* ---- words ---- */

void memory_init(volatile void *place, size_t size, uint64_t value)
{
    memory_set_word((uintptr_t)place, size, value);
}

uint64_t memory_word(uintptr_t address, size_t size)
{
    uint64_t word = 0;
    memcpy(&word, (const void *)address, size);
    return word;
}

void memory_set_word(uintptr_t address, size_t size, uint64_t value)
{
    memcpy((void *)address, &value, size);
}

/* ---- plain accesses ---- */

static struct shadow *shadow_of(uintptr_t address)
{
    struct shadow *shadow = &shadows[address - (uintptr_t)memory];
    if (shadow->generation != generation)
        *shadow = (struct shadow){.generation = generation};
    return shadow;
}

static bool is_covered(const struct clock *clock, int thread, uint8_t count)
{
    return count <
           clock->of[thread]; // what followed its operation number `count` came before the next
}

static void check_write_before(const struct shadow *shadow, int self, const struct clock *clock,
                               const char *what)
{
    int writer = shadow->writer - 1;
    if (writer >= 0 && writer != self && !is_covered(clock, writer, shadow->written))
        fibers_race(what, writer);
}

static void access_byte(uintptr_t address, int self, const struct clock *clock, bool writes)
{
    struct shadow *shadow = shadow_of(address);
    check_write_before(shadow, self, clock,
                       writes ? "a write after a write" : "a read after a write");
    if (!writes) {
        shadow->read[self] = (uint8_t)(clock->of[self] + 1);
        return;
    }
    for (int i = 0; i < MODEL_THREADS_MAX; i++)
        if (i != self && shadow->read[i] > 0 && !is_covered(clock, i, shadow->read[i] - 1))
            fibers_race("a write after a read", i);
    shadow->writer = (uint8_t)(self + 1);
    shadow->written = clock->of[self];
}

static void access(const volatile void *place, size_t size, bool writes)
{
    int self = fibers_self();
    if (self < 0 || !memory_is_shared(place))
        return;
    const struct clock *clock = fibers_clock();
    for (size_t i = 0; i < size; i++)
        access_byte((uintptr_t)place + i, self, clock, writes);
}

void memory_read(const volatile void *place, size_t size)
{
    access(place, size, false);
}

void memory_write(const volatile void *place, size_t size)
{
    access(place, size, true);
}

void *memory_copy(void *to, const void *from, size_t size)
{
    memory_read(from, size);
    memory_write(to, size);
    return memcpy(to, from, size);
}

/* ---- called by the compiler ---- */

#define INSTRUMENTED(size)                                                                         \
    void __tsan_read##size(void *place);                                                           \
    void __tsan_write##size(void *place);                                                          \
    void __tsan_unaligned_read##size(void *place);                                                 \
    void __tsan_unaligned_write##size(void *place);                                                \
    void __tsan_read##size(void *place)                                                            \
    {                                                                                              \
        memory_read(place, size);                                                                  \
    }                                                                                              \
    void __tsan_write##size(void *place)                                                           \
    {                                                                                              \
        memory_write(place, size);                                                                 \
    }                                                                                              \
    void __tsan_unaligned_read##size(void *place)                                                  \
    {                                                                                              \
        memory_read(place, size);                                                                  \
    }                                                                                              \
    void __tsan_unaligned_write##size(void *place)                                                 \
    {                                                                                              \
        memory_write(place, size);                                                                 \
    }

INSTRUMENTED(1)
INSTRUMENTED(2)
INSTRUMENTED(4)
INSTRUMENTED(8)
INSTRUMENTED(16)

void __tsan_read_range(void *place, size_t size);
void __tsan_write_range(void *place, size_t size);
void __tsan_init(void);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);
void *__tsan_memcpy(void *to, const void *from, size_t size);
void *__tsan_memset(void *to, int byte, size_t size);

void __tsan_read_range(void *place, size_t size)
{
    memory_read(place, size);
}

void __tsan_write_range(void *place, size_t size)
{
    memory_write(place, size);
}

void *__tsan_memcpy(void *to, const void *from, size_t size)
{
    return memory_copy(to, from, size);
}

void *__tsan_memset(void *to, int byte, size_t size)
{
    memory_write(to, size);
    return memset(to, byte, size);
}

void __tsan_init(void)
{
}

void __tsan_func_entry(void *caller)
{
    (void)caller;
}

void __tsan_func_exit(void)
{
}
