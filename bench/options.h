/* The command line of sluice-bench: one table of options for all commands.
 *
 * The common options are accepted by every command, so that a script can pass the same set to each; an
 * option that means something to one command only is refused by the others. */
#ifndef SLUICE_BENCH_OPTIONS_H
#define SLUICE_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

#define CPU_ANY (-1)

enum bench_command {
    BENCH_LIMITS = 1,
    BENCH_PUBLISH = 2,
    BENCH_CONSUME = 4,
    BENCH_TRANSACTIONS = 8,
    BENCH_CLAIM = 16,
};

struct bench_options {
    enum bench_command command;
    const char *command_name;
    const char *claim; // its name; NULL: another command

    /* ---- where ---- */
    const char *server; // NULL: the library's default
    const char *driver; // "sluice"
    const char *topic;
    const char *limits_dir;  // NULL: no limits are measured
    const char *output_path; // NULL: no JSON; "-": standard output

    /* ---- load ---- */
    uint32_t partition_count; // of the topic when it is made; 0: not said, 1
    uint64_t record_bytes;    // of a value
    uint64_t batch_bytes;
    uint32_t producer_count; // threads, each with a producer object of its own
    uint32_t client_count;   // connections (and I/O threads) that they share
    uint64_t rate;           // records per second of all producers together; 0: as fast as possible
    uint64_t duration_ns;
    uint64_t warm_up_ns;
    uint64_t buffer_bytes;      // of a producer; 0: the library's default
    uint32_t batches_in_flight; // 0: the library's default
    uint32_t linger_us;
    uint32_t sample_stride; // time every n-th record; 0: chosen by the command
    uint32_t send_many;     // records handed over in one call
    uint32_t records_each;  // of a transaction
    uint32_t abort_percent; // of transactions
    bool compression_lz4;
    bool compressible;
    bool not_idempotent;
    bool own_request; // every record its own batch
    bool lone;        // send one, wait for its ack, repeat
    bool verify;      // stamp records (publish) or check the stamps (consume)
    bool from_end;

    /* ---- bare limits ---- */
    int cpu_receive; // broker's side; CPU_ANY: not pinned
    int cpu_send;    // client's side
    uint64_t wal_set_bytes;
    uint32_t connection_count;
};

#define SEND_MANY_MAX 256u

enum options_result { OPTIONS_OK = 0, OPTIONS_HELP = 1, OPTIONS_USAGE = 2 };

/* Fills options from argv, whose first word is the command's name; of a claim, one more is its name. Returns 0; OPTIONS_HELP when
 * --help is among them (nothing is printed); OPTIONS_USAGE after a message on standard error. */
MUST_USE int options_parse(struct bench_options *options, int argc, char **argv);

/* The options that a command takes, for --help. */
void options_help(enum bench_command command);

#endif
