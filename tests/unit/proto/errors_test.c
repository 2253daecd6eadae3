/* proto/errors.h */
#include <criterion/criterion.h>

#include "base/check.h"
#include "base/status.h"
#include "proto/errors.h"

static const struct {
    uint16_t number;
    const char *name;
} errors[] = {
#define ERR(name, number, retriable, text) {number, #name},
#include "proto/errors.def"
#undef ERR
};

Test(errors, numbers_rise_and_names_are_theirs)
{
    for (size_t i = 0; i < ARRAY_COUNT(errors); i++) {
        cr_assert(i == 0 || errors[i].number > errors[i - 1].number, "%s", errors[i].name);
        cr_assert_str_eq(proto_error_name(errors[i].number), errors[i].name);
        cr_assert_neq(*proto_error_text(errors[i].number), '\0');
    }
}

/* Numbers are on the wire for ever. */
Test(errors, numbers_do_not_move)
{
    cr_assert_eq(PE_MALFORMED, 1);
    cr_assert_eq(PE_CORRUPT_BATCH, 6);
    cr_assert_eq(PE_UNKNOWN_TOPIC, 10);
    cr_assert_eq(PE_STORAGE_FULL, 21);
    cr_assert_eq(PE_NOT_CONTIGUOUS, 33);
}

Test(errors, unknown_numbers_have_a_name_and_are_not_retried)
{
    cr_assert_str_eq(proto_error_name(65535), "UNKNOWN");
    cr_assert_neq(*proto_error_text(65535), '\0');
    cr_assert_not(proto_error_is_retriable(65535));
    cr_assert_str_eq(proto_error_name(PE_NONE), "NONE");
    cr_assert_not(proto_error_is_retriable(PE_NONE));
}

Test(errors, only_what_may_pass_later_is_retriable)
{
    cr_assert(proto_error_is_retriable(PE_STORAGE_FULL));
    cr_assert(proto_error_is_retriable(PE_OVERLOADED));
    cr_assert(proto_error_is_retriable(PE_CORRUPT_BATCH));
    cr_assert_not(proto_error_is_retriable(PE_MALFORMED));
    cr_assert_not(proto_error_is_retriable(PE_OUT_OF_ORDER_SEQUENCE));
}

Test(errors, every_failure_inside_has_an_error_outside)
{
    static const int statuses[] = {
#define S(name, number, text) E_##name,
#include "base/status.def"
#undef S
    };
    for (size_t i = 0; i < ARRAY_COUNT(statuses); i++) {
        uint16_t error = proto_error_from_status(statuses[i]);
        cr_assert_neq(error, PE_NONE, "%s", status_name(statuses[i]));
        cr_assert_str_neq(proto_error_name(error), "UNKNOWN");
    }
    cr_assert_eq(proto_error_from_status(E_OK), PE_NONE);
    cr_assert_eq(proto_error_from_status(5), PE_NONE);
    cr_assert_eq(proto_error_from_status(E_NO_SPACE), PE_STORAGE_FULL);
    cr_assert_eq(proto_error_from_status(E_FULL), PE_OVERLOADED);
    cr_assert_eq(proto_error_from_status(E_CORRUPT), PE_STORAGE_ERROR);
    cr_assert_eq(proto_error_from_status(-9999), PE_STORAGE_ERROR);
}
