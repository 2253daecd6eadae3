/* Every limit of the broker, with unit and reason. Memory is the sum of the limits: limits_memory() adds it up
 * line by line, the broker prints the sum at start, and the arena of each core is exactly its share.
 * What a user may set has its default and range in config.def; what stands here is fixed. */
#ifndef SLUICE_BROKER_LIMITS_H
#define SLUICE_BROKER_LIMITS_H

#include "base/check.h"
#include "proto/messages.h"
#include "storage/store.h"

#define CORES_MAX 64     // the mesh is CORES_MAX^2 rings
#define SHARDS_MAX 64    // as the store's format allows
#define SLOT_COUNT 1024u // slot -> shard: 16 slots for each of 64 shards

/* ---- receive, reply and delivery buffers of a core (buffer.h): size classes ----
 * SMALL: idle-ish connections and replies. MEDIUM: one frame with one 256 KiB batch, the client's
 * default. LARGE: one frame with a 1 MiB batch. JUMBO: the largest request; few, since such requests are rare. */
#define BUFFER_SMALL_BYTES ((uint32_t)(16 * KIB))
#define BUFFER_MEDIUM_BYTES ((uint32_t)(264 * KIB))
#define BUFFER_LARGE_BYTES ((uint32_t)(1096 * KIB))
#define BUFFER_SMALL_COUNT 1024 // 16 MiB: as many connections may be in mid-request at once
#define BUFFER_MEDIUM_COUNT                                                                        \
    128 // 33 MiB: 4 MiB in flight saturate the disk; rest is for many connections
#define BUFFER_LARGE_COUNT 16 // 17 MiB
#define BUFFER_JUMBO_COUNT 1  // request_bytes_max or the largest batch, + 4 KiB
#define BATCH_BYTES_MAX_MAX                                                                        \
    ((uint32_t)(4 * MIB)) // as large may be what is stored, whatever is configured today
#define REQUEST_BYTES_MAX_MAX                                                                      \
    (64 * MIB) // how large request_bytes_max may be made: JUMBO buffers grow with it

/* A connection's own share, so that one client can't take all buffers: beyond it reading stops until
 * acks went out. 8 MiB in flight already gives 2.4 times the latency of 4 MiB at the same rate. */
#define CONN_PINNED_BYTES_MAX ((uint32_t)(8 * MIB))
#define CONN_REQUESTS_MAX                                                                          \
    256 // unanswered requests of one connection, runs of publishes count as one
#define CONN_PUBLISHES_MAX 65536 // unacked PRODUCE frames (told in HELLO)
#define CONN_SUBSCRIPTIONS_MAX 16
#define CONN_STASH_BYTES 64 // of a frame that just began: kept without a buffer
#define CONN_OUT_BYTES_MAX                                                                         \
    ((uint32_t)(64 * KIB))            // answers that wait for a slow reader; then reading stops
#define REQUESTS_PER_CORE 8192        // pool of struct request, 256 B each
#define REQUESTS_RESERVED 512         // of them, for what is no client's request
#define SUBSCRIPTIONS_PER_CORE 16384u // over all its connections
#define PRODUCE_RUN_FRAMES_MAX 1024   // consecutive PRODUCE frames handled as one request

/* ---- deadlines per phase of a connection ---- */
#define HELLO_DEADLINE_NS (10 * NS_PER_S) // from accept to HELLO
#define FRAME_DEADLINE_NS (30 * NS_PER_S) // from a frame's first byte to its last
#define FRAME_PRESSURE_NS (1 * NS_PER_S)  // instead, while others wait for a buffer ...
#define FRAME_PRESSURE_BYTES_PER_S MIB    // ... and a second more for each of these in the frame
#define SEND_DEADLINE_NS (30 * NS_PER_S)  // SEND_PIECE_BYTES that don't leave: a zero-window peer
#define SEND_PRESSURE_NS (1 * NS_PER_S)   // instead, while others wait for buffers
#define SEND_LOOK_NS (NS_PER_S / 2)       // how often that is looked at when all is quiet
#define SEND_PIECE_BYTES                                                                           \
    ((uint32_t)(256 * KIB)) // of a large buffer at a time: 9 KB/s are slow enough
/* Answers owed to a peer that has closed. Without it clients that give up and come again would take all connections of a broker
 * whose log has no room. */
#define ANSWER_DEADLINE_NS (60 * NS_PER_S)
#define LINGER_DEADLINE_NS                                                                         \
    (2 * NS_PER_S) // for the peer to take an error frame before the connection goes

/* ---- accepting ---- */
#define LISTEN_TRIES 100 // 2 s, as long as the directory's lock is waited for
#define LISTEN_RETRY_NS (20 * NS_PER_MS)
#define LISTEN_BACKLOG 4096  // the kernel caps it at net.core.somaxconn
#define CONN_REFUSALS_MAX 32 // connections over the limit that are being told so at once
#define ACCEPT_BACKOFF_NS (100 * NS_PER_MS) // after EMFILE and the like
#define DESCRIPTORS_RESERVED 1024u // segments, archive files, rings, HTTP: never for connections

/* ---- HTTP ---- */
#define HTTP_CONNECTIONS_MAX 64
#define HTTP_TIMEOUT_S 10                          // of an idle or slow one
#define HTTP_CONNECTION_BYTES ((size_t)(32 * KIB)) // headers and answer of one
#define HTTP_BODY_BYTES_MAX ((uint64_t)(64 * KIB)) // of a request; no path wants one

/* ---- mailboxes ---- */
#define MESH_RING_SLOTS                                                                            \
    1024                // requests between two cores in one direction; replies have as many slots
#define INBOX_SLOTS 256 // from threads that are no core: signals, HTTP
#define MAIL_DRAIN_MAX 256  // messages of one ring per turn: keeps a turn short
#define SHARD_DRAIN_MAX 512 // requests of one shard's queue per turn

/* ---- reads from files ---- */
#define READS_PER_SHARD 16u // cold reads in flight, READ_PIECE_BYTES each: keeps a disk busy

#define SEARCHES_PER_TURN                                                                          \
    1u // by timestamp, of OFFSETS, and of readers: each may walk the index of a whole segment

/* ---- subscriptions (cursor.h) ---- */
#define CURSORS_PER_SHARD 65536u // ~96 B each: 6 MiB
#define SUBSCRIPTIONS_PER_SHARD 16384u
#define DELIVERIES_IN_FLIGHT_MAX 4 // of one subscription: enough to keep a socket busy
#define FETCH_WAIT_MS_MAX 60000
#define FETCH_ITEMS_MAX 256 // partitions in one FETCH; SUBSCRIBE takes up to FETCH_ITEM_COUNT_MAX

/* ---- state tables (rows; bytes in topics.h and producers.h) ---- */
#define TOPICS_MAX 8192u
#define PRODUCERS_PER_SHARD                                                                        \
    32768u // (producer, partition) pairs; the one used longest ago is expired by a log entry
#define TOPIC_PARTITIONS_MAX 16384u
#define PID_BLOCK_SIZE 1000u // producer ids made durable at a time

/* ---- memory: the sum of all that ---- */

struct config;
struct limits_line {
    char what[64];
    uint64_t bytes;
};
#define LIMITS_LINES_MAX 32
struct limits_memory {
    struct limits_line lines[LIMITS_LINES_MAX];
    uint32_t line_count;
    uint64_t sum_bytes;
};

/* What this configuration can ever occupy, line by line. Thread: any. */
void limits_memory(const struct config *config, struct limits_memory *memory);

/* The bytes of one core's arena that are its own, and of those that one shard takes from it. */
uint64_t limits_core_arena_bytes(const struct config *config);
uint64_t limits_shard_arena_bytes(const struct config *config);
/* How many connections one core can hold at most. */
uint32_t limits_conns_per_core(const struct config *config);

#endif
