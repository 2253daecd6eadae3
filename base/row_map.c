/* See row_map.h. */
#include "base/row_map.h"

#include <stdlib.h>

#include "base/status.h"

static uint32_t probe(const struct row_map *map, uint32_t hash, uint32_t *at);

int row_map_init(struct row_map *map, uint32_t row_count_max)
{
    uint32_t place_count = 2;
    ASSERT(row_count_max > 0 && row_count_max <= 1u << 30);
    while (place_count < 2 * row_count_max)
        place_count *= 2;
    *map = (struct row_map){.places = calloc(place_count, sizeof(*map->places)),
                            .mask = place_count - 1};
    return map->places ? 0 : E_NO_MEMORY;
}

void row_map_deinit(struct row_map *map)
{
    free(map->places);
    *map = (struct row_map){0};
}

uint32_t row_map_first(const struct row_map *map, uint64_t hash, uint32_t *at)
{
    *at = (uint32_t)hash & map->mask;
    return probe(map, (uint32_t)hash, at);
}

uint32_t row_map_next(const struct row_map *map, uint64_t hash, uint32_t *at)
{
    *at = (*at + 1) & map->mask;
    return probe(map, (uint32_t)hash, at);
}

static uint32_t probe(const struct row_map *map, uint32_t hash, uint32_t *at)
{
    for (; map->places[*at].row_plus_1 != 0; *at = (*at + 1) & map->mask) {
        if (map->places[*at].hash == hash)
            return map->places[*at].row_plus_1 - 1;
    }
    return ROW_MAP_NONE;
}

void row_map_add(struct row_map *map, uint64_t hash, uint32_t row)
{
    uint32_t at = (uint32_t)hash & map->mask;
    ASSERT(2 * (uint64_t)++map->count <= (uint64_t)map->mask + 1);
    while (map->places[at].row_plus_1 != 0)
        at = (at + 1) & map->mask;
    map->places[at] = (struct row_map_place){(uint32_t)hash, row + 1};
}

void row_map_remove(struct row_map *map, uint64_t hash, uint32_t row)
{
    uint32_t mask = map->mask, hole;
    uint32_t found = row_map_first(map, hash, &hole);
    while (found != row) {
        ASSERT(found != ROW_MAP_NONE);
        found = row_map_next(map, hash, &hole);
    }
    for (uint32_t at = (hole + 1) & mask; map->places[at].row_plus_1 != 0; at = (at + 1) & mask) {
        uint32_t home = map->places[at].hash & mask;
        /* It may fill the hole unless its home lies cyclically in (hole, at]. */
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            map->places[hole] = map->places[at];
            hole = at;
        }
    }
    map->places[hole] = (struct row_map_place){0};
    map->count--;
}
