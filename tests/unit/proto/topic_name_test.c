/* proto/messages.h: topic_name_check() */
#include <criterion/criterion.h>

#include "proto/messages.h"

static uint16_t check(const char *bytes, uint32_t len, const char **why)
{
    return topic_name_check((struct slice){(const uint8_t *)bytes, len}, why);
}

Test(topic_name, ordinary_names_pass)
{
    static const char *const good[] = {"a", "orders", "A.b_c-9", "...", "_",
                                       "-", "0",      ".hidden", "a..b"};
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        const char *why;
        cr_assert_eq(check(good[i], (uint32_t)strlen(good[i]), &why), PE_NONE, "%s", good[i]);
        cr_assert_null(why);
    }
}

Test(topic_name, lengths_have_borders)
{
    char name[TOPIC_NAME_BYTES_MAX + 1];
    const char *why;
    memset(name, 'x', sizeof(name));
    cr_assert_eq(check(name, 0, &why), PE_INVALID_TOPIC_NAME);
    cr_assert_not_null(why);
    cr_assert_eq(check(NULL, 0, &why), PE_INVALID_TOPIC_NAME);
    cr_assert_eq(check(name, 1, &why), PE_NONE);
    cr_assert_eq(check(name, TOPIC_NAME_BYTES_MAX, &why), PE_NONE);
    cr_assert_eq(check(name, TOPIC_NAME_BYTES_MAX + 1, &why), PE_INVALID_TOPIC_NAME);
    cr_assert_not_null(strstr(why, "249"));
}

Test(topic_name, directory_names_are_refused)
{
    const char *why;
    cr_assert_eq(check(".", 1, &why), PE_INVALID_TOPIC_NAME);
    cr_assert_eq(check("..", 2, &why), PE_INVALID_TOPIC_NAME);
    cr_assert_eq(check("a/b", 3, &why), PE_INVALID_TOPIC_NAME);
    cr_assert_eq(check("../x", 4, &why), PE_INVALID_TOPIC_NAME);
}

Test(topic_name, exactly_65_bytes_are_allowed)
{
    int allowed = 0;
    for (int c = 0; c < 256; c++) {
        const char *why;
        char name[3] = {'a', (char)c, 'b'};
        allowed += check(name, 3, &why) == PE_NONE;
    }
    cr_assert_eq(allowed, 26 + 26 + 10 + 3);
}

Test(topic_name, nul_and_bytes_above_ascii_are_refused)
{
    const char *why;
    cr_assert_eq(check("a\0b", 3, &why), PE_INVALID_TOPIC_NAME);
    cr_assert_eq(check("\0", 1, &why), PE_INVALID_TOPIC_NAME);
    cr_assert_eq(check("caf\xc3\xa9", 5, &why), PE_INVALID_TOPIC_NAME, "good UTF-8");
    cr_assert_eq(check("caf\xe9", 4, &why), PE_INVALID_TOPIC_NAME, "bad UTF-8");
    cr_assert_eq(check("a b", 3, &why), PE_INVALID_TOPIC_NAME);
}
