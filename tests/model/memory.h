/* The memory that the threads of a harness share, and the plain accesses to it: two of them, one a write, that are not
 * ordered by happens-before are a data race, and a race is a failure. */
#ifndef SLUICE_TESTS_MODEL_MEMORY_H
#define SLUICE_TESTS_MODEL_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Empties it: an execution begins. */
void memory_reset(void);
bool memory_is_shared(const volatile void *place);

void memory_init(volatile void *place, size_t size, uint64_t value);
uint64_t memory_word(uintptr_t address, size_t size);
void memory_set_word(uintptr_t address, size_t size, uint64_t value);

/* Plain accesses of the thread that runs. Outside of threads, and to other memory, nothing is checked. */
void memory_read(const volatile void *place, size_t size);
void memory_write(const volatile void *place, size_t size);
void *memory_copy(void *to, const void *from, size_t size);

#endif
