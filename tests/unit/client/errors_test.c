/* Statuses as an application sees them: names, texts, what to do about them. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "base/check.h"
#include "base/status.h"
#include "client/calls.h"
#include "client/include/sluice.h"
#include "proto/errors.h"

static const int own[] = {
    SLUICE_OK,
    SLUICE_E_INVALID,
    SLUICE_E_FULL,
    SLUICE_E_TIMED_OUT,
    SLUICE_E_NO_MEMORY,
    SLUICE_E_TOO_LARGE,
    SLUICE_E_CONNECT,
    SLUICE_E_CLOSED,
    SLUICE_E_CORRUPT,
    SLUICE_E_UNSUPPORTED,
    SLUICE_E_PROTOCOL,
    SLUICE_E_FENCED_PRODUCER,
    SLUICE_E_OTHER_STORE,
};

Test(errors, each_has_a_name_and_a_text_of_its_own)
{
    for (size_t i = 0; i < ARRAY_COUNT(own); i++) {
        cr_expect(strlen(sluice_name(own[i])) > 0 && strlen(sluice_text(own[i])) > 0, "%d", own[i]);
        for (size_t j = 0; j < i; j++) {
            cr_expect_str_neq(sluice_name(own[i]), sluice_name(own[j]));
            cr_expect_str_neq(sluice_text(own[i]), sluice_text(own[j]));
        }
    }
}

Test(errors, numbers_that_mean_nothing_are_said_to_be_unknown)
{
    cr_expect_str_eq(sluice_name(SLUICE_E_BROKER + 1), "UNKNOWN");
    cr_expect(strlen(sluice_text(SLUICE_E_BROKER + 1)) > 0);
    cr_expect_not(sluice_is_retriable(SLUICE_E_BROKER + 1));
    cr_expect(strlen(sluice_name(SLUICE_E_BROKER - 65535)) > 0);
    cr_expect(strlen(sluice_text(INT32_MIN)) > 0);
    cr_expect_str_eq(sluice_name(17), sluice_name(SLUICE_OK)); // counts are successes
}

Test(errors, the_brokers_own_keep_their_name_and_whether_to_try_again)
{
    for (uint16_t error = 1; error < 60; error++) {
        int status = error_from_broker(error);
        cr_expect(eq(int, SLUICE_BROKER_ERROR(status), error));
        cr_expect_str_eq(sluice_name(status), proto_error_name(error));
        cr_expect_str_eq(sluice_text(status), proto_error_text(error));
        cr_expect(eq(int, sluice_is_retriable(status), proto_error_is_retriable(error)));
    }
    cr_expect(eq(int, error_from_broker(PE_NONE), SLUICE_OK));
}

Test(errors, what_failed_underneath_is_told_as_what_the_application_can_act_on)
{
    static const int pairs[][2] = {
        {E_OK, SLUICE_OK},
        {E_FULL, SLUICE_E_FULL},
        {E_TIMEOUT, SLUICE_E_TIMED_OUT},
        {E_NO_MEMORY, SLUICE_E_NO_MEMORY},
        {E_CORRUPT, SLUICE_E_CORRUPT},
        {E_TOO_LARGE, SLUICE_E_TOO_LARGE},
        {E_UNSUPPORTED, SLUICE_E_UNSUPPORTED},
        {E_CONNECT, SLUICE_E_CONNECT},
        {E_CLOSED, SLUICE_E_CONNECT},
        {E_INVALID, SLUICE_E_INVALID},
    };
    for (size_t i = 0; i < ARRAY_COUNT(pairs); i++)
        cr_expect(eq(int, error_from_status(pairs[i][0]), pairs[i][1]), "%d", pairs[i][0]);
}

Test(errors, only_who_can_never_go_on_has_a_fatal_one)
{
    cr_expect(sluice_is_fatal(SLUICE_E_PROTOCOL));
    cr_expect(sluice_is_fatal(SLUICE_E_OTHER_STORE));
    cr_expect(sluice_is_fatal(SLUICE_E_FENCED_PRODUCER));
    cr_expect(sluice_is_fatal(SLUICE_E_FENCED_MEMBER));
    cr_expect(sluice_is_fatal(error_from_broker(PE_UNSUPPORTED_VERSION)));
    cr_expect_not(sluice_is_fatal(SLUICE_OK));
    cr_expect_not(sluice_is_fatal(SLUICE_E_CONNECT));
    cr_expect_not(sluice_is_fatal(error_from_broker(PE_OVERLOADED)));
}

Test(errors, words_that_are_too_long_are_cut_off)
{
    char words[2000];
    memset(words, 'x', sizeof(words));
    words[sizeof(words) - 1] = 0;
    error_set("%s", words);
    cr_expect(strlen(sluice_last_error()) > 0 && strlen(sluice_last_error()) < sizeof(words) - 1);
    error_set("partition %d", 7);
    cr_expect_str_eq(sluice_last_error(), "partition 7");
}
