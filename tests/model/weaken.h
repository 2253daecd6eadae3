/* Weakens each memory order of the product's sources, one at a time, and says which harness notices. */
#ifndef SLUICE_TESTS_MODEL_WEAKEN_H
#define SLUICE_TESTS_MODEL_WEAKEN_H

#include "tests/model/explorer.h"

/* executions_max: of one harness, after which it has not noticed; 0: all. Exit status: 0 when what survives is what is expected to. */
int weaken_all(const struct model *const *tables, size_t table_count, uint64_t executions_max);

#endif
