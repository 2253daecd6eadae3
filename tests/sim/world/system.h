/* What simulated programs write to standard error. The rest of system.c has no callers: the linker puts it in the place of
 * the system's functions. */
#ifndef SLUICE_TESTS_SYSTEM_H
#define SLUICE_TESTS_SYSTEM_H

#include <stdio.h>

void system_on_log(
    void (*on_line)(const char *line)); // each line, with its process's name; NULL: nobody
void system_print_log(FILE *file);      // the last 64 KiB

#endif
