/* tools/where.h: places in a partition, as users type them. */
#include "tools/where.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/redirect.h>

#include "base/check.h"

static const struct ctl ctl = {.command = "group reset"};

Test(where, each_form_is_understood)
{
    static const struct {
        const char *text;
        struct where where;
    } cases[] = {
        {"beginning", {SLUICE_START_BEGINNING, 0}},
        {"end", {SLUICE_START_END, 0}},
        {"0", {SLUICE_START_OFFSET, 0}},
        {"18446744073709551615", {SLUICE_START_OFFSET, UINT64_MAX}},
        {"@0", {SLUICE_START_TIMESTAMP, 0}},
        {"@1763683200123", {SLUICE_START_TIMESTAMP, 1763683200123}},
        {"@2025-11-21T00:00:00Z", {SLUICE_START_TIMESTAMP, 1763683200000}},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct where where = {SLUICE_START_END, 7};
        cr_assert(eq(int, where_parse(&ctl, "--to", cases[i].text, &where), EXIT_DONE), "%s",
                  cases[i].text);
        cr_expect(eq(int, where.start, cases[i].where.start), "%s", cases[i].text);
        cr_expect(eq(u64, where.value, cases[i].where.value), "%s", cases[i].text);
    }
}

Test(where, anything_else_is_a_usage_error_that_names_the_option, .init = cr_redirect_stderr)
{
    static const char *const texts[] = {"",  "nowhere",    "-1",  "5x",
                                        "@", "@yesterday", "END", "18446744073709551616"};
    struct where where;
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
        cr_expect(eq(int, where_parse(&ctl, "--to", texts[i], &where), EXIT_USAGE), "%s", texts[i]);
    fflush(stderr);
    FILE *errors = cr_get_redirected_stderr();
    char line[200];
    cr_assert(fgets(line, sizeof(line), errors) != NULL);
    cr_expect(strstr(line, "group reset: --to ") != NULL, "%s", line);
}
