/* Memory that is short, on purpose: one allocation of the calling thread fails. What other threads
 * take, the broker's and the client's own, is not counted (sluice-sweep fails those). */
#ifndef SLUICE_TESTS_SHORT_MEMORY_H
#define SLUICE_TESTS_SHORT_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* The n-th from now, from 1; 0: none. */
void short_memory_fail(uint32_t n);
/* It has come to that since. */
bool short_memory_has_failed(void);

#endif
