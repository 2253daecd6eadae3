/* A hash map from keys to row numbers of a table that the map does not know.
 *
 * The caller hashes the key and compares candidates with its own rows:
 *
 *     for (uint32_t row = row_map_first(&map, hash, &at); row != ROW_MAP_NONE; row = row_map_next(&map, hash, &at))
 *         if (the row has this key) ...
 *
 * Open addressing with linear probing over at least twice as many places as rows; deletion moves later entries back
 * (Knuth, TAOCP vol. 3, 6.4, algorithm R), so there are no tombstones and nothing is ever rebuilt. Memory: 8 bytes a
 * place, at init. Thread: the owner. */
#ifndef SLUICE_BASE_ROW_MAP_H
#define SLUICE_BASE_ROW_MAP_H

#include <stdint.h>

#include "base/check.h"

#define ROW_MAP_NONE UINT32_MAX

struct row_map_place {
    uint32_t hash;
    uint32_t row_plus_1; // 0: free
};
struct row_map {
    struct row_map_place *places;
    uint32_t mask;
    uint32_t count;
};

/* Room for row_count_max rows. 0 or NO_MEMORY. */
MUST_USE int row_map_init(struct row_map *map, uint32_t row_count_max);
void row_map_deinit(struct row_map *map);

/* Candidates: rows that were added under this hash (its low 32 bits). ROW_MAP_NONE at the end. */
uint32_t row_map_first(const struct row_map *map, uint64_t hash, uint32_t *at);
uint32_t row_map_next(const struct row_map *map, uint64_t hash, uint32_t *at);

void row_map_add(struct row_map *map, uint64_t hash, uint32_t row);
/* The pair must be there. */
void row_map_remove(struct row_map *map, uint64_t hash, uint32_t row);

#endif
