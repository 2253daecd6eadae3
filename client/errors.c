/* Status codes and their texts: this side's own, and the broker's behind SLUICE_E_BROKER. */
#include <stdarg.h>
#include <stdio.h>

#include "base/check.h"
#include "base/status.h"
#include "client/calls.h"
#include "client/include/sluice.h"
#include "proto/errors.h"

struct own_status {
    const char *name;
    const char *text;
    bool retriable;
};

/* By -status. */
static const struct own_status own[] = {
    {"OK", "success", false},
    {"FULL", "the producer's buffer is full; send again after reports", true},
    {"TIMED_OUT", "the deadline has passed", true},
    {"CONNECT", "no connection to the broker could be made before the deadline", true},
    {"CLOSED", "the object is being freed, or the connection broke before the answer came", true},
    {"INVALID", "an argument is not allowed", false},
    {"TOO_LARGE", "the record is larger than the broker or the buffer takes", false},
    {"NO_MEMORY", "out of memory", true},
    {"PROTOCOL", "the peer is no Sluice broker, or speaks another version of the protocol", false},
    {"CORRUPT", "received data fails its checksum or is malformed", false},
    {"UNSUPPORTED", "the compression type or feature is not known to this library", false},
    {"OTHER_STORE", "the broker at this address has another store than before", false},
};

static_assert(SLUICE_E_UNKNOWN_TOPIC == SLUICE_E_BROKER - PE_UNKNOWN_TOPIC, "docs/protocol.md");
static_assert(SLUICE_E_UNKNOWN_PARTITION == SLUICE_E_BROKER - PE_UNKNOWN_PARTITION, "same");
static_assert(SLUICE_E_TOPIC_EXISTS == SLUICE_E_BROKER - PE_TOPIC_EXISTS, "same");
static_assert(SLUICE_E_OFFSET_OUT_OF_RANGE == SLUICE_E_BROKER - PE_OFFSET_OUT_OF_RANGE, "same");
static_assert(SLUICE_E_UNKNOWN_PRODUCER == SLUICE_E_BROKER - PE_UNKNOWN_PRODUCER, "same");
static_assert(SLUICE_E_FENCED_PRODUCER == SLUICE_E_BROKER - PE_FENCED_PRODUCER, "same");

static_assert(SLUICE_E_UNKNOWN_TRANSACTION == SLUICE_E_BROKER - PE_UNKNOWN_TRANSACTION, "same");
static_assert(SLUICE_E_TRANSACTION_ABORTED == SLUICE_E_BROKER - PE_TRANSACTION_ABORTED, "same");
static_assert(SLUICE_E_TRANSACTION_COMMITTED == SLUICE_E_BROKER - PE_TRANSACTION_COMMITTED, "same");
static_assert(SLUICE_E_TRANSACTION_PREPARED == SLUICE_E_BROKER - PE_TRANSACTION_PREPARED, "same");
static_assert(SLUICE_E_UNKNOWN_GROUP == SLUICE_E_BROKER - PE_UNKNOWN_GROUP, "same");
static_assert(SLUICE_E_UNKNOWN_MEMBER == SLUICE_E_BROKER - PE_UNKNOWN_MEMBER, "same");
static_assert(SLUICE_E_FENCED_MEMBER == SLUICE_E_BROKER - PE_FENCED_MEMBER, "same");
static_assert(SLUICE_E_STALE_GENERATION == SLUICE_E_BROKER - PE_STALE_GENERATION, "same");
static_assert(SLUICE_E_NOT_OWNER == SLUICE_E_BROKER - PE_NOT_OWNER, "same");
static_assert(SLUICE_E_GROUP_NOT_EMPTY == SLUICE_E_BROKER - PE_GROUP_NOT_EMPTY, "same");

static _Thread_local char last_error[256];

const char *sluice_version(void)
{
    return SLUICE_VERSION;
}

const char *sluice_text(int status)
{
    if (status <= SLUICE_E_BROKER)
        return proto_error_text((uint16_t)SLUICE_BROKER_ERROR(status));
    if (status >= 0)
        return own[0].text;
    return -status < (int)ARRAY_COUNT(own) ? own[-status].text : "unknown status";
}

const char *sluice_name(int status)
{
    if (status <= SLUICE_E_BROKER)
        return proto_error_name((uint16_t)SLUICE_BROKER_ERROR(status));
    if (status >= 0)
        return own[0].name;
    return -status < (int)ARRAY_COUNT(own) ? own[-status].name : "UNKNOWN";
}

bool sluice_is_retriable(int status)
{
    if (status <= SLUICE_E_BROKER)
        return proto_error_is_retriable((uint16_t)SLUICE_BROKER_ERROR(status));
    return status < 0 && -status < (int)ARRAY_COUNT(own) && own[-status].retriable;
}

bool sluice_is_fatal(int status)
{
    return status == SLUICE_E_PROTOCOL || status == SLUICE_E_OTHER_STORE ||
           status == SLUICE_E_FENCED_PRODUCER || status == SLUICE_E_FENCED_MEMBER ||
           status == SLUICE_E_BROKER - PE_UNSUPPORTED_VERSION;
}

const char *sluice_last_error(void)
{
    return last_error;
}

void error_set(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_error, sizeof(last_error), format, arguments);
    va_end(arguments);
}

int error_from_broker(uint16_t error)
{
    return error == PE_NONE ? SLUICE_OK : SLUICE_E_BROKER - (int)error;
}

int error_from_status(int status)
{
    switch (status) {
    case E_OK:
        return SLUICE_OK;
    case E_FULL:
        return SLUICE_E_FULL;
    case E_TIMEOUT:
        return SLUICE_E_TIMED_OUT;
    case E_NO_MEMORY:
        return SLUICE_E_NO_MEMORY;
    case E_CORRUPT:
        return SLUICE_E_CORRUPT;
    case E_TOO_LARGE:
        return SLUICE_E_TOO_LARGE;
    case E_UNSUPPORTED:
        return SLUICE_E_UNSUPPORTED;
    case E_CONNECT:
    case E_CLOSED:
        return SLUICE_E_CONNECT;
    default:
        return SLUICE_E_INVALID;
    }
}
