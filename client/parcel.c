/* Parcels: beginning, growing, compressing and sealing one batch. The happy path is parcel_init(),
 * parcel_add() (in parcel_add.h) for each record, parcel_seal(). Nothing here fails. */
#include "client/parcel.h"

#include <string.h>

uint32_t parcel_bytes_needed(uint32_t record_bytes, bool opaques)
{
    uint64_t opaque_bytes = opaques ? sizeof(void *) : 0;
    uint64_t bytes = (uint64_t)PARCEL_BATCH_PLACE + BATCH_HEADER_SIZE + record_bytes + opaque_bytes;
    return bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
}

struct parcel *parcel_init(void *block, uint32_t block_bytes, struct lane *lane)
{
    struct parcel *parcel = block;
    memset(parcel, 0, sizeof(*parcel));
    list_init(&parcel->link);
    parcel->lane = lane;
    parcel->block_bytes = block_bytes;
    batch_builder_init(&parcel->builder, (uint8_t *)block + PARCEL_BATCH_PLACE,
                       parcel_batch_capacity(block_bytes));
    return parcel;
}

struct parcel *parcel_move(struct parcel *parcel, void *block, uint32_t block_bytes, bool opaques)
{
    ASSERT(block_bytes > parcel->block_bytes && !list_is_linked(&parcel->link));
    struct parcel *moved = block;
    *moved = *parcel;
    list_init(&moved->link);
    moved->block_bytes = block_bytes;
    moved->builder.bytes = (uint8_t *)block + PARCEL_BATCH_PLACE;
    memcpy(moved->builder.bytes, parcel->builder.bytes, parcel->builder.len);
    if (opaques) {
        uint32_t last = parcel->record_count - 1;
        memcpy(parcel_opaque(moved, last), parcel_opaque(parcel, last),
               parcel->record_count * sizeof(void *));
    }
    return moved;
}

/* What is compressed is smaller than what it came from, or stays as it is: it fits in its old
 * place, and the copy back is short. */
void parcel_compress(struct parcel *parcel, uint8_t *scratch, uint32_t scratch_size)
{
    uint8_t *out;
    parcel->size = batch_builder_finish(&parcel->builder, CODEC_LZ4, PRODUCER_NONE, 0, 0, scratch,
                                        scratch_size, &out);
    ASSERT(parcel->size <= parcel->builder.len);
    if (out != parcel->builder.bytes)
        memcpy(parcel->builder.bytes, out, parcel->size);
    parcel->compressed = true;
}

void parcel_seal(struct parcel *parcel, uint64_t producer_id, uint16_t epoch, uint32_t sequence)
{
    parcel->base_sequence = sequence;
    if (parcel->size > 0) { // compressed, or sealed before under another identity
        batch_set_producer(parcel->builder.bytes, producer_id, epoch, sequence);
        return;
    }
    uint8_t *out;
    parcel->size = batch_builder_finish(&parcel->builder, CODEC_NONE, producer_id, epoch, sequence,
                                        NULL, 0, &out);
    ASSERT(out == parcel->builder.bytes);
}
