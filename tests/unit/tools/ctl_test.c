/* tools/ctl.h: options, words and escapes that all commands share. */
#include "tools/ctl.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/redirect.h>
#include <string.h>

#include "base/check.h"

static const struct option options[] = {{"count", required_argument, NULL, 'n'}, CTL_OPTIONS};

static struct ctl ctl = {.command = "topic create"};

/* Takes all options of a command line; the last result, with what --count said. */
static int take(const char **argv, const char **count, int *exit_code)
{
    int argc = 0, option;
    while (argv[argc])
        argc++;
    *count = NULL;
    *exit_code = EXIT_DONE;
    optind = 0;
    while ((option = ctl_option(&ctl, argc, (char **)argv, options, exit_code)) == 'n')
        *count = optarg;
    return option;
}
#define TAKE_OPTIONS(...) take((const char *[]){"create", __VA_ARGS__, NULL}, &count, &exit_code)

Test(ctl, common_options_are_dealt_with_anywhere, .init = cr_redirect_stderr)
{
    const char *count;
    int exit_code;
    const char *argv[] = {"create", "--server", "h:1", "name", "--count", "7", "--json", NULL};
    cr_assert(eq(int, take(argv, &count, &exit_code), -1));
    cr_assert(eq(int, exit_code, EXIT_DONE));
    cr_assert_str_eq(count, "7");
    cr_assert_str_eq(ctl.server, "h:1");
    cr_assert(ctl.json);
    cr_assert(eq(int, ctl_words(&ctl, 7, (char **)argv, 1, "NAME"), EXIT_DONE));
    cr_assert_str_eq(argv[optind], "name");
}

Test(ctl, unknown_options_and_missing_values_are_usage_errors, .init = cr_redirect_stderr)
{
    const char *count;
    int exit_code;
    cr_assert(eq(int, TAKE_OPTIONS("--colour"), '?'));
    cr_assert(eq(int, exit_code, EXIT_USAGE));
    cr_assert(eq(int, TAKE_OPTIONS("--count"), '?'));
    cr_assert(eq(int, exit_code, EXIT_USAGE));
    cr_assert(eq(int, TAKE_OPTIONS("--json=yes"), '?'));
    cr_assert(eq(int, exit_code, EXIT_USAGE));
    fflush(stderr);
    cr_assert_stderr_eq_str("sluicectl: topic create: unknown option --colour\n"
                            "try: sluicectl topic create --help\n"
                            "sluicectl: topic create: --count needs a value\n"
                            "try: sluicectl topic create --help\n"
                            "sluicectl: topic create: unknown option --json=yes\n"
                            "try: sluicectl topic create --help\n");
}

Test(ctl, words_are_counted, .init = cr_redirect_stderr)
{
    const char *argv[] = {"create", "a", "b", NULL};
    optind = 1;
    cr_assert(eq(int, ctl_words(&ctl, 3, (char **)argv, 2, "A B"), EXIT_DONE));
    cr_assert(eq(int, ctl_words(&ctl, 3, (char **)argv, 1, "A"), EXIT_USAGE));
    cr_assert(eq(int, ctl_words(&ctl, 3, (char **)argv, 3, "A B C"), EXIT_USAGE));
    fflush(stderr);
    cr_assert_stderr_eq_str("sluicectl: topic create: unexpected \"b\"\n"
                            "try: sluicectl topic create --help\n"
                            "sluicectl: topic create: missing: A B C\n"
                            "try: sluicectl topic create --help\n");
}

Test(ctl, failures_and_usage_errors_have_their_own_exit_codes, .init = cr_redirect_stderr)
{
    cr_assert(eq(int, ctl_usage(&ctl, "x"), 2));
    cr_assert(eq(int, ctl_fail(&ctl, "x"), 1));
    cr_assert(eq(int, ctl_fail_status(&ctl, SLUICE_E_TIMED_OUT, "x"), 1));
}

Test(ctl, numbers_have_bounds_that_belong_to_them)
{
    uint64_t value = 0;
    cr_assert(ctl_parse_u64("3", 3, 5, &value) && value == 3);
    cr_assert(ctl_parse_u64("5", 3, 5, &value) && value == 5);
    cr_assert_not(ctl_parse_u64("2", 3, 5, &value));
    cr_assert_not(ctl_parse_u64("6", 3, 5, &value));
    cr_assert_not(ctl_parse_u64("", 0, 5, &value));
    cr_assert_not(ctl_parse_u64("4x", 3, 5, &value));
    cr_assert_not(ctl_parse_u64("-4", 0, UINT64_MAX, &value));
}

static void unescapes(const char *from, const char *expected, long len)
{
    char text[64];
    snprintf(text, sizeof(text), "%s", from);
    long got = text_unescape(text);
    cr_assert(eq(long, got, len), "%s", from);
    cr_assert(len < 0 || memcmp(text, expected, (size_t)len + 1) == 0, "%s", from);
}

Test(ctl, every_escape_stands_for_one_byte)
{
    unescapes("", "", 0);
    unescapes("plain", "plain", 5);
    unescapes("\\n\\t\\r\\\\\\0", "\n\t\r\\\0", 5);
    unescapes("a\\0b", "a\0b", 3);
    unescapes("\\x00\\x7F\\xaB!", "\0\x7f\xab!", 4);
    unescapes("\\\\n", "\\n", 2);
}

Test(ctl, what_is_no_escape_is_refused)
{
    static const char *const wrong[] = {"\\",    "a\\",   "\\a",   "\\x",  "\\x1",
                                        "\\x1g", "\\xg1", "\\X41", "\\ n", "\\x 1"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++)
        unescapes(wrong[i], "", -1);
}
