/* Error numbers of the native protocol. Positive on the wire; 0 is success. */
#ifndef SLUICE_PROTO_ERRORS_H
#define SLUICE_PROTO_ERRORS_H

#include <stdbool.h>
#include <stdint.h>

enum proto_error {
    PE_NONE = 0,
#define ERR(name, number, retriable, text) PE_##name = (number),
#include "proto/errors.def"
#undef ERR
};

/* Static strings, never NULL; an unknown number gives "UNKNOWN". Thread: any. */
const char *proto_error_name(uint16_t error);
const char *proto_error_text(uint16_t error);
bool proto_error_is_retriable(uint16_t error);

/* The one map from how a call failed here (base/status.h) to what the peer is told. */
uint16_t proto_error_from_status(int status);

#endif
