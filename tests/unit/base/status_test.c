/* base/status.h: names, texts, numbers that never move, and the map from errno. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/status.h"

Test(status, every_code_has_its_name_and_a_text)
{
#define S(name, number, text)                                                                      \
    cr_assert_str_eq(status_name(E_##name), #name);                                                \
    cr_assert_str_eq(status_text(E_##name), text);                                                 \
    cr_assert_eq(E_##name, -(number));
#include "base/status.def"
#undef S
}

Test(status, numbers_ascend_so_that_none_is_used_twice)
{
    int last = 0;
#define S(name, number, text)                                                                      \
    cr_assert_gt(number, last, #name);                                                             \
    last = number;
#include "base/status.def"
#undef S
}

Test(status, success_and_unknown_numbers_have_names_too)
{
    cr_assert_str_eq(status_name(E_OK), "OK");
    cr_assert_str_eq(status_text(E_OK), "success");
    cr_assert_str_eq(status_name(-9999), "UNKNOWN");
    cr_assert_str_eq(status_name(42), "UNKNOWN");
    cr_assert_not_null(status_text(-9999));
}

Test(status, errno_maps_by_what_can_be_done_about_it)
{
    static const struct {
        int os_error;
        int status;
    } cases[] = {
        {0, E_OK},
        {EAGAIN, E_AGAIN},
        {EINTR, E_AGAIN},
        {ENOSPC, E_NO_SPACE},
        {EDQUOT, E_NO_SPACE},
        {ENOENT, E_NOT_FOUND},
        {ENOTDIR, E_NOT_FOUND},
        {EEXIST, E_EXISTS},
        {EADDRINUSE, E_EXISTS},
        {EINVAL, E_INVALID},
        {EBADF, E_INVALID},
        {EFBIG, E_TOO_LARGE},
        {ETIMEDOUT, E_TIMEOUT},
        {ECANCELED, E_CANCELED},
        {EPIPE, E_CLOSED},
        {ECONNRESET, E_CLOSED},
        {ENOTCONN, E_CLOSED},
        {ENOSYS, E_UNSUPPORTED},
        {EOPNOTSUPP, E_UNSUPPORTED},
        {EBUSY, E_LOCKED},
        {ENOMEM, E_NO_MEMORY},
        {EMFILE, E_FULL},
        {ENFILE, E_FULL},
        {EACCES, E_PERMISSION},
        {EPERM, E_PERMISSION},
        {EROFS, E_PERMISSION},
        {ECONNREFUSED, E_CONNECT},
        {EHOSTUNREACH, E_CONNECT},
        {EIO, E_IO},
        {ENXIO, E_IO},
        {EUCLEAN, E_IO},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_eq(status_from_errno(cases[i].os_error), cases[i].status, "%s gives %s",
                     strerrorname_np(cases[i].os_error),
                     status_name(status_from_errno(cases[i].os_error)));
}

Test(status, every_errno_becomes_a_known_error)
{
    for (int os_error = 1; os_error < 200; os_error++) {
        int status = status_from_errno(os_error);
        cr_assert_lt(status, 0);
        cr_assert_str_neq(status_name(status), "UNKNOWN");
    }
}
