/* The command line of sluice-bench: one table of options for all commands.
 *
 * The common options are accepted by every command, so that a script can pass the same set to each; an
 * option that means something to one command only is refused by the others. */
#ifndef SLUICE_BENCH_OPTIONS_H
#define SLUICE_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/check.h"

#define CPU_ANY (-1)

enum bench_command {
    BENCH_LIMITS = 1,
    BENCH_PUBLISH = 2,
    BENCH_CONSUME = 4,
    BENCH_TRANSACTIONS = 8,
    BENCH_CLAIM = 16,
    BENCH_END_TO_END = 32,
    BENCH_SWEEP = 64,
};

struct bench_options {
    enum bench_command command;
    const char *command_name;
    const char *claim; // its name; NULL: another command

    /* ---- where ---- */
    const char *server; // NULL: the library's default
    const char *driver; // of driver_names()
    const char *topic;
    const char *limits_dir;     // NULL: no limits are measured
    const char *output_path;    // NULL: no JSON; "-": standard output
    const char *html_path;      // NULL: no page
    const char *label;          // what people call this run; NULL: nothing
    const char *data_dir;       // of the server, for --cold and the disk's figures; NULL: not said
    uint32_t server_pid;        // 0: not said
    const char *broker_program; // of claims that start brokers; NULL: sluiced beside this program
    const char *io;             // their backend
    uint32_t core_count;        // and their cores
    uint64_t fill_bytes;        // published before a kill
    uint64_t hold_ns;           // how long a transaction is held open
    uint32_t idle_count;        // connections that only say HELLO

    /* ---- load ---- */
    uint32_t partition_count; // of the topic when it is made; 0: not said, 1
    uint64_t retention_bytes; // likewise, of each partition; 0: the server's default
    uint64_t record_bytes;    // of a value
    uint64_t batch_bytes;
    uint32_t producer_count;
    uint32_t thread_count;   // that they share
    uint32_t client_count;   // connections (and I/O threads) that they share
    uint32_t consumer_count; // each reads everything
    uint64_t rate;           // records per second of all producers together; 0: as fast as possible
    bool is_rate_given;      // with max, too
    bool is_poisson;         // arrivals; else uniform
    uint32_t closed_loop;    // records of a producer without an ack; 0: open
    uint64_t duration_ns;    // of a repeat
    uint64_t warm_up_ns;
    uint32_t repeat_count;
    uint64_t buffer_bytes;      // of a producer; 0: the library's default
    uint32_t batches_in_flight; // 0: the library's default
    uint32_t linger_us;
    uint32_t sample_stride; // time every n-th record; 0: chosen by the command
    uint32_t send_many;     // records handed over in one call
    uint32_t records_each;  // of a transaction
    uint32_t abort_percent; // of transactions
    uint64_t p99_ns;        // sweep: what the highest rate must hold; 0: nothing is asked
    uint32_t step_count;    // sweep: rates that are tried on the way up
    bool compression_lz4;
    bool compressible;
    bool not_idempotent;
    bool own_request;  // every record its own batch
    bool lone;         // --closed-loop 1
    bool is_sustained; // the broker may wait for log files
    bool unchecked;    // consumers do not look at what they read
    bool stamps_time;  // every record carries when it was due: somebody measures its delivery
    bool from_end;
    bool is_cold; // the server's files are dropped from the page cache first

    /* ---- bare limits ---- */
    int cpu_receive; // broker's side; CPU_ANY: not pinned
    int cpu_send;    // client's side
    uint64_t wal_set_bytes;
    uint32_t connection_count;
};

#define SEND_MANY_MAX 256u
#define TXN_BATCH_BYTES_MAX (256 * KIB) // of transactions, whatever --batch-size says

enum options_result { OPTIONS_OK = 0, OPTIONS_HELP = 1, OPTIONS_USAGE = 2 };

/* Fills options from argv, whose first word is the command's name; of a claim, one more is its name. Returns 0; OPTIONS_HELP when
 * --help is among them (nothing is printed); OPTIONS_USAGE after a message on standard error. */
MUST_USE int options_parse(struct bench_options *options, int argc, char **argv);

/* The options that a command takes, for --help. */
void options_help(enum bench_command command);

#endif
