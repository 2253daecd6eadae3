/* Blocks of exactly their size without the heap: a static place for each slot, all of it poisoned
 * but the bytes in use. */
#include <stdlib.h>

#include "base/poison.h"
#include "tests/fuzz/fuzz.h"

#define PLACE_BYTES ((size_t)192 * 1024)
#define GUARD_BYTES 64 // before the block; behind it at least as much

struct place {
    uint8_t bytes[PLACE_BYTES] __attribute__((aligned(64)));
    size_t used;
    uint8_t *heap; // of a block too large for the place
};

static struct place places[EXACT_SLOTS];

static void release(struct place *place)
{
    if (place->used == 0)
        poison(place->bytes, PLACE_BYTES); // the first time
    else
        poison(place->bytes, place->used);
    free(place->heap);
    place->heap = NULL;
}

uint8_t *exact_block(unsigned slot, size_t len)
{
    ASSERT(slot < EXACT_SLOTS);
    struct place *place = &places[slot];
    release(place);
    if (len > PLACE_BYTES - 2 * GUARD_BYTES) {
        place->used = GUARD_BYTES;
        place->heap = malloc(len);
        ASSERT(place->heap != NULL);
        return place->heap;
    }
    place->used = GUARD_BYTES + len + GUARD_BYTES;
    unpoison(place->bytes + GUARD_BYTES, len);
    return place->bytes + GUARD_BYTES;
}

uint8_t *exact_copy(unsigned slot, const void *bytes, size_t len)
{
    uint8_t *block = exact_block(slot, len);
    if (len > 0)
        memcpy(block, bytes, len);
    return block;
}
