/* Adding a record to an open parcel: inline, as it is done for every record. Only lane.c includes
 * this. */
#ifndef SLUICE_CLIENT_PARCEL_ADD_H
#define SLUICE_CLIENT_PARCEL_ADD_H

#include "client/parcel.h"
#include "proto/batch_append.h"

#define PREFETCH_BYTES 2048  // ahead of the record that is being written
#define PREFETCH_OPAQUES 32u // and of its pointer

/* Adds a record. Returns 0, or FULL: it doesn't fit below the parcel's batch_bytes_max in this
 * block, nothing changed. */
MUST_USE static inline int parcel_add(struct parcel *parcel, const struct record *record,
                                      void *opaque, bool opaques)
{
    uint32_t opaque_bytes = opaques ? (parcel->record_count + 1) * (uint32_t)sizeof(void *) : 0;
    uint32_t room = parcel_batch_capacity(parcel->block_bytes);
    if (UNLIKELY(opaque_bytes >= room))
        return E_FULL;
    parcel->builder.capacity = (uint32_t)min_u64(room - opaque_bytes, parcel->batch_bytes_max);
    /* The lines that the next records will be written to: fetched now, they are here by then. */
    const uint8_t *next = parcel->builder.bytes + parcel->builder.len;
    __builtin_prefetch(next + PREFETCH_BYTES, 1);
    __builtin_prefetch(next + PREFETCH_BYTES + CACHE_LINE, 1);
    if (opaques)
        __builtin_prefetch(parcel_opaque(parcel, parcel->record_count + PREFETCH_OPAQUES), 1);
    if (UNLIKELY(batch_append(&parcel->builder, record) < 0))
        return E_FULL;
    if (opaques)
        *parcel_opaque(parcel, parcel->record_count) = opaque;
    parcel->record_count++;
    return 0;
}

#endif
