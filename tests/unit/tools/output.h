/* What these tests share: a stream whose text can be compared. */
#ifndef SLUICE_TESTS_TOOLS_OUTPUT_H
#define SLUICE_TESTS_TOOLS_OUTPUT_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct output {
    FILE *file;
    char *text;
    size_t len;
};

static inline void output_open(struct output *output)
{
    output->file = open_memstream(&output->text, &output->len);
    cr_assert_not_null(output->file);
}

/* Closes it and compares all that was written. */
static inline void output_is(struct output *output, const char *expected, size_t len)
{
    fclose(output->file);
    cr_assert(output->len == len && memcmp(output->text, expected, len) == 0,
              "got %zu bytes \"%s\", expected %zu \"%s\"", output->len, output->text, len,
              expected);
    free(output->text);
}

#define OUTPUT_IS(output, literal) output_is(output, literal, sizeof(literal) - 1)

#endif
