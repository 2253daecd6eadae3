/* The table errors.def as strings and switches.
 *
 * A number that isn't in the table (a newer peer's) gives "UNKNOWN" and is not retriable: whoever
 * repeats a request without knowing why it failed may do harm. */
#include "proto/errors.h"

#include "base/status.h"

const char *proto_error_name(uint16_t error)
{
    switch (error) {
    case PE_NONE:
        return "NONE";
#define ERR(name, number, retriable, text)                                                         \
    case number:                                                                                   \
        return #name;
#include "proto/errors.def"
#undef ERR
    default:
        return "UNKNOWN";
    }
}

const char *proto_error_text(uint16_t error)
{
    switch (error) {
    case PE_NONE:
        return "success";
#define ERR(name, number, retriable, text)                                                         \
    case number:                                                                                   \
        return text;
#include "proto/errors.def"
#undef ERR
    default:
        return "an error that this version does not know";
    }
}

bool proto_error_is_retriable(uint16_t error)
{
    switch (error) {
#define ERR(name, number, retriable, text)                                                         \
    case number:                                                                                   \
        return (retriable);
#include "proto/errors.def"
#undef ERR
    default:
        return false;
    }
}

/* Where several errors would fit, the one that leads the peer to the right next step: try again
 * when room, time or a restart may help; never when the broker itself must be looked at. */
uint16_t proto_error_from_status(int status)
{
    switch (status) {
    case E_FULL:
    case E_NO_MEMORY:
        return PE_OVERLOADED;
    case E_AGAIN:
        return PE_NOT_READY;
    case E_NO_SPACE:
        return PE_STORAGE_FULL;
    case E_NOT_FOUND:
        return PE_UNKNOWN_TOPIC;
    case E_EXISTS:
        return PE_TOPIC_EXISTS;
    case E_INVALID:
        return PE_INVALID_ARGUMENT;
    case E_TOO_LARGE:
        return PE_REQUEST_TOO_LARGE;
    case E_TIMEOUT:
        return PE_TIMED_OUT;
    case E_CANCELED:
    case E_CLOSED:
        return PE_SHUTTING_DOWN;
    default:
        return status >= 0 ? PE_NONE : PE_STORAGE_ERROR;
    }
}
