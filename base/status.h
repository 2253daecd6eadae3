/* Status codes: 0 is success, negative is one of these, positive is a count.
 *
 * errno is translated once, by the I/O backend that made the system call (status_from_errno), and
 * stays beside the status only to be logged. */
#ifndef SLUICE_BASE_STATUS_H
#define SLUICE_BASE_STATUS_H

enum status {
    E_OK = 0,
#define S(name, number, text) E_##name = -(number),
#include "base/status.def"
#undef S
};

/* The name ("NO_SPACE") and the text of a status. Never NULL; an unknown number gives "UNKNOWN".
 * Thread: any. The strings are static. */
const char *status_name(int status);
const char *status_text(int status);

/* Maps errno (positive) to a status. Thread: any. */
int status_from_errno(int os_error);

#endif
