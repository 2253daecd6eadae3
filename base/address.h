/* Socket addresses as users write them: "127.0.0.1:7650", "[::1]:7650". */
#ifndef SLUICE_BASE_ADDRESS_H
#define SLUICE_BASE_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } sockaddr;
    uint32_t len;
};

#define ADDRESS_TEXT_MAX 64

/* Parses A:P. Returns 0 or INVALID; names are not resolved, except "localhost". */
MUST_USE int address_parse(const char *text, struct address *address);

/* Writes A:P into text (ADDRESS_TEXT_MAX bytes) and returns it. */
char *address_format(const struct address *address, char *text);

bool address_is_loopback(const struct address *address);

/* A bound, listening, non-blocking socket. `shared` sets SO_REUSEPORT, so that each core has its own
 * queue. Returns the descriptor, or a status (EXISTS: the address is in use). */
MUST_USE int address_listen(const struct address *address, int backlog, bool shared);

/* The address a socket is bound to (for port 0), or its peer's. Returns 0 or a status. */
MUST_USE int address_of_socket(int fd, struct address *address);
MUST_USE int address_of_peer(int fd, struct address *address);

/* TCP_NODELAY; congestion control cubic, else reno (bbr paces even on loopback: measured 2x);
 * keepalive and TCP_USER_TIMEOUT 60 s. Best effort. */
void address_tune_socket(int fd);

/* Our side sends no more (shutdown); what the peer sends still arrives. Never blocks; best effort. */
void address_end_sending(int fd);

/* Does the peer send no more, or is the connection dead? Known without reading what came before. Never blocks. */
bool address_peer_has_ended(int fd);

#endif
