/* How `sluicectl consume` prints a record: a format with %-fields, checked once, then only followed. */
#ifndef SLUICE_TOOLS_FORMAT_H
#define SLUICE_TOOLS_FORMAT_H

#include <stdio.h>

#include "client/include/sluice.h"

/* Checks fields and unescapes in place; \x25 is a percent sign, not the beginning of a field. Returns the length,
 * or -1 with *why. */
long format_compile(char *format, const char **why);

/* Nothing is added; null prints as nothing. */
void format_print(FILE *file, const char *format, long len, const struct sluice_message *message);

/* One JSON object and a newline. */
void format_print_json(FILE *file, const struct sluice_message *message);

#endif
