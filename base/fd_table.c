/* Two levels: an array of chunks, of which each is made when its first descriptor shows up. */
#include "base/fd_table.h"

#include <stdlib.h>

struct fd_entry *fd_table_get(struct fd_table *table, int fd)
{
    if (fd < 0 || fd >= FD_CHUNK_SIZE * FD_CHUNK_COUNT)
        return NULL;
    struct fd_entry **chunk = &table->chunks[fd / FD_CHUNK_SIZE];
    if (!*chunk) {
        *chunk = calloc(FD_CHUNK_SIZE, sizeof **chunk);
        if (!*chunk)
            return NULL;
        for (size_t i = 0; i < FD_CHUNK_SIZE; i++) {
            list_init(&(*chunk)[i].readers);
            list_init(&(*chunk)[i].writers);
        }
    }
    return &(*chunk)[fd % FD_CHUNK_SIZE];
}

void fd_table_deinit(struct fd_table *table)
{
    for (size_t i = 0; i < FD_CHUNK_COUNT; i++)
        free(table->chunks[i]);
}
