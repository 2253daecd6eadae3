#ifndef SLUICE_TESTS_CRASH_READER_H
#define SLUICE_TESTS_CRASH_READER_H

#include <stdbool.h>

void reader_be_short(bool on);
bool reader_is_intact(void);

#endif
