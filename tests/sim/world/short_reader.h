/* Recovery's reading made cheap, when it is asked for: in file_reader_bytes()'s place.
 *
 * A start reads the logs to the end of their preallocated files, nearly all of it zeros, and copying those through the I/O
 * seam takes two thirds of the time of a crash image, and a quarter of a fuzzed session's. Here recovery gets exactly the same
 * bytes of the same file, without the read-ahead and without copies of zeros. Some starts should read through the seam as
 * it is. */
#ifndef SLUICE_TESTS_SHORT_READER_H
#define SLUICE_TESTS_SHORT_READER_H

#include <stdbool.h>

void reader_be_short(bool on);
/* Nobody wrote to the zeros that were lent. */
bool reader_is_intact(void);

#endif
