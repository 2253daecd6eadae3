/* Buffers of a core: four free lists, newest first, so that the buffer used last is warm in the
 * cache.
 *
 * The happy path of an acquire is: the smallest class that holds the bytes, its head. It fails when
 * that class and the larger ones are empty, or down to what this use must leave to others. JUMBO is
 * the only way for the largest requests to make progress, so it serves nothing else. */
#include "broker/buffer.h"

#include "broker/limits.h"

static uint32_t class_bytes(enum buffer_class class, uint32_t request_bytes_max);
static uint32_t class_left(const struct buffers *buffers, enum buffer_class class,
                           enum buffer_use use);
static struct buffer *take(struct buffers *buffers, enum buffer_class class);

static const uint32_t class_count[BUFFER_CLASS_COUNT] = {
    [BUFFER_SMALL] = BUFFER_SMALL_COUNT,
    [BUFFER_MEDIUM] = BUFFER_MEDIUM_COUNT,
    [BUFFER_LARGE] = BUFFER_LARGE_COUNT,
    [BUFFER_JUMBO] = BUFFER_JUMBO_COUNT,
};

#define BUFFER_ALIGNMENT 4096
/* A batch behind the head of a FETCH's answer, which is the longest. */
#define READ_BYTES_MAX                                                                             \
    (BATCH_BYTES_MAX_MAX + FRAME_HEADER_SIZE + DELIVER_META_FIXED +                                \
     FETCH_ITEMS_MAX * (uint32_t)sizeof(struct deliver_item))
static_assert(READ_BYTES_MAX > BUFFER_LARGE_BYTES, "else it were no use");

size_t buffers_arena_bytes(uint32_t request_bytes_max)
{
    size_t bytes = BUFFER_ALIGNMENT; // to align the first
    for (int class = 0; class < BUFFER_CLASS_COUNT; class ++) {
        bytes += (size_t)class_count[class] * class_bytes(class, request_bytes_max);
        bytes += align_up(class_count[class] * sizeof(struct buffer), CACHE_LINE) + CACHE_LINE;
    }
    return bytes;
}

void buffers_init(struct buffers *buffers, uint16_t core, uint32_t request_bytes_max,
                  struct arena *arena)
{
    *buffers = (struct buffers){.core = core};
    for (int class = 0; class < BUFFER_CLASS_COUNT; class ++) {
        uint32_t count = class_count[class], capacity = class_bytes(class, request_bytes_max);
        uint8_t *bytes = arena_alloc(arena, (size_t)count * capacity, BUFFER_ALIGNMENT);
        struct buffer *heads = arena_alloc(arena, count * sizeof(struct buffer), CACHE_LINE);
        for (uint32_t i = count; i > 0; i--) {
            heads[i - 1] = (struct buffer){
                .bytes = bytes + (size_t)(i - 1) * capacity,
                .capacity = capacity,
                .class = (uint8_t) class,
                .core = core,
                .next_free = buffers->classes[class].free_list,
            };
            buffers->classes[class].free_list = &heads[i - 1];
        }
        buffers->classes[class].count = count;
        buffers->classes[class].free_count = count;
        buffers->classes[class].free_count_min = count;
    }
}

struct buffer *buffer_acquire(struct buffers *buffers, uint32_t bytes)
{
    return buffer_acquire_for(buffers, bytes, BUFFER_FOR_REPLY);
}

struct buffer *buffer_acquire_for(struct buffers *buffers, uint32_t bytes, enum buffer_use use)
{
    bool jumbo = bytes > BUFFER_LARGE_BYTES;
    int last = jumbo ? BUFFER_JUMBO : BUFFER_LARGE;
    for (int class = jumbo ? BUFFER_JUMBO : BUFFER_SMALL; class <= last; class ++) {
        if ((jumbo || bytes <= class_bytes(class, 0)) && class_left(buffers, class, use) > 0)
            return take(buffers, class);
    }
    buffers->missed |= use != BUFFER_FOR_DELIVERY; // readers that wait are their shard's affair
    return NULL;
}

void buffer_ref(struct buffer *buffer)
{
    ASSERT(buffer->references > 0);
    buffer->references++;
}

void buffer_unref(struct buffers *buffers, struct buffer *buffer)
{
    ASSERT(buffer->references > 0 && buffer->core == buffers->core);
    if (--buffer->references > 0)
        return;
    buffer->next_free = buffers->classes[buffer->class].free_list;
    buffers->classes[buffer->class].free_list = buffer;
    buffers->classes[buffer->class].free_count++;
    buffers->freed++;
}

static uint32_t class_bytes(enum buffer_class class, uint32_t request_bytes_max)
{
    switch (class) {
    case BUFFER_SMALL:
        return BUFFER_SMALL_BYTES;
    case BUFFER_MEDIUM:
        return BUFFER_MEDIUM_BYTES;
    case BUFFER_LARGE:
        return BUFFER_LARGE_BYTES;
    default: /* a request that fits LARGE never asks for it, but readers of the largest batches do */
        return (uint32_t)align_up(max_u64(request_bytes_max, READ_BYTES_MAX) + 4 * KIB,
                                  BUFFER_ALIGNMENT);
    }
}

/* How many of the class this use may still take. */
static uint32_t class_left(const struct buffers *buffers, enum buffer_class class,
                           enum buffer_use use)
{
    uint32_t count = buffers->classes[class].count, kept = 0;
    if (use == BUFFER_FOR_RECEIVE && class == BUFFER_SMALL)
        kept = count / 8;
    if (use == BUFFER_FOR_DELIVERY)
        kept = count / 2;
    uint32_t free_count = buffers->classes[class].free_count;
    return free_count > kept ? free_count - kept : 0;
}

static struct buffer *take(struct buffers *buffers, enum buffer_class class)
{
    struct buffer *buffer = buffers->classes[class].free_list;
    ASSERT(buffer && buffer->references == 0);
    buffers->classes[class].free_list = buffer->next_free;
    uint32_t left = --buffers->classes[class].free_count;
    if (left < buffers->classes[class].free_count_min)
        buffers->classes[class].free_count_min = left;
    buffer->references = 1;
    buffer->used = 0;
    buffer->next_free = NULL;
    return buffer;
}
