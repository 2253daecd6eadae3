/* sluicectl produce: one record per line (or as told) to a topic; done when every record is acked.
 *
 * Happy path: input_next() gives a record, sluice_producer_send() takes it (waiting when its buffer is full),
 * reports count acks on the library's thread; at the end of the input flush, and "N records acked". The first
 * problem with the input stops reading; what was sent before is still flushed and counted. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/random.h"
#include "proto/errors.h"
#include "tools/ctl.h"
#include "tools/input.h"

#define HEADERS_MAX 64
#define RECORD_MAX ((size_t)1 << 20)
#define TRANSACTION_MS (15u * 60 * 1000) // the most a broker grants, unless it is told otherwise
#define COMMIT_MS 60000u                 // one try; there is no reason to give up before the broker

struct produce {
    struct ctl *ctl;
    const char *topic;
    const char *file;
    char *key;
    long key_len;
    char *key_separator;
    long key_separator_len;
    char *delimiter;
    long delimiter_len;
    bool framing_length;
    uint32_t partition;
    enum sluice_compression compression;
    bool transaction;
    struct sluice_header headers[HEADERS_MAX];
    uint32_t header_count;
    bool undone; // the transaction
    /* ---- I/O thread of the library ---- */
    _Atomic uint64_t acked, refused;
    _Atomic int first_error;
};

static int parse(struct produce *p, int argc, char **argv);
static int run(struct produce *p, struct sluice_client *client, int fd);
static int begin(struct produce *p, struct sluice_client *client,
                 struct sluice_producer_options *options, struct sluice_producer **producer);
static int send_all(struct produce *p, struct sluice_producer *producer, int fd, uint64_t *sent);
static int end_transaction(struct produce *p, struct sluice_producer *producer, int exit_code);
static int finish(struct produce *p, struct sluice_producer *producer, uint64_t sent,
                  int exit_code);

int cmd_produce(struct ctl *ctl, int argc, char **argv)
{
    struct produce p = {.ctl = ctl, .partition = SLUICE_PARTITION_ANY};
    int exit_code = parse(&p, argc, argv);
    if (exit_code)
        return exit_code;
    int fd = 0;
    if (p.file && (fd = open(p.file, O_RDONLY | O_CLOEXEC)) < 0)
        return ctl_fail(ctl, "%s: %s", p.file, strerror(errno));
    struct sluice_client *client = ctl_connect(ctl);
    if (!client)
        return EXIT_FAILED;
    exit_code = run(&p, client, fd);
    sluice_client_free(client);
    return exit_code;
}

static void on_report(void *context, const struct sluice_report *report)
{
    struct produce *p = context;
    if (report->status == SLUICE_OK) {
        atomic_fetch_add_explicit(&p->acked, 1, memory_order_relaxed);
        return;
    }
    int none = 0;
    atomic_compare_exchange_strong(&p->first_error, &none, report->status);
    atomic_fetch_add_explicit(&p->refused, 1, memory_order_relaxed);
}

static int run(struct produce *p, struct sluice_client *client, int fd)
{
    struct sluice_producer_options options = {.size = sizeof(options),
                                              .compression = p->compression,
                                              .send_waits = true,
                                              .on_report = on_report,
                                              .context = p};
    struct sluice_producer *producer;
    char id[64]; // of this run alone: it has no next life
    snprintf(id, sizeof(id), "sluicectl-%016llx", (unsigned long long)random_seed_system());
    options.transactional_id = p->transaction ? id : NULL;
    options.transaction_timeout_ms = TRANSACTION_MS;
    int status = sluice_producer_new(client, &options, &producer);
    if (status)
        return ctl_fail_status(p->ctl, status, "starting the producer");
    uint64_t sent = 0;
    int exit_code = EXIT_DONE;
    if (p->transaction)
        exit_code = begin(p, client, &options, &producer);
    if (!producer)
        return exit_code;
    if (exit_code == EXIT_DONE)
        exit_code = send_all(p, producer, fd, &sent);
    if (p->transaction)
        exit_code = end_transaction(p, producer, exit_code);
    return finish(p, producer, sent, exit_code);
}

/* As long as the broker grants at most; where that was set lower, as long as it gives by itself. */
static int begin(struct produce *p, struct sluice_client *client,
                 struct sluice_producer_options *options, struct sluice_producer **producer)
{
    int status = sluice_txn_begin(*producer);
    if (SLUICE_BROKER_ERROR(status) == PE_INVALID_ARGUMENT) {
        sluice_producer_free(*producer);
        *producer = NULL;
        options->transaction_timeout_ms = 0;
        status = sluice_producer_new(client, options, producer);
        if (status == SLUICE_OK)
            status = sluice_txn_begin(*producer);
    }
    return status ? ctl_fail_status(p->ctl, status, "beginning the transaction") : EXIT_DONE;
}

/* Splits at the separator. False: it is not there. */
static bool split_key(const struct produce *p, struct sluice_record *record)
{
    const char *hit =
        memmem(record->value, record->value_len, p->key_separator, (size_t)p->key_separator_len);
    if (!hit)
        return false;
    record->key = record->value;
    record->key_len = (size_t)(hit - (const char *)record->value);
    record->value = hit + p->key_separator_len;
    record->value_len -= record->key_len + (size_t)p->key_separator_len;
    return true;
}

static int send_all(struct produce *p, struct sluice_producer *producer, int fd, uint64_t *sent)
{
    struct input input = {.fd = fd,
                          .framing_length = p->framing_length,
                          .delimiter = p->delimiter ? p->delimiter : "\n",
                          .delimiter_len = p->delimiter ? (size_t)p->delimiter_len : 1,
                          .record_max = RECORD_MAX};
    if (input_init(&input))
        return ctl_fail(p->ctl, "out of memory");
    struct progress progress;
    progress_begin(&progress);
    uint64_t bytes = 0;
    const uint8_t *value;
    size_t len;
    const char *why = "";
    int exit_code = EXIT_DONE, more = 0;
    while (exit_code == EXIT_DONE && (more = input_next(&input, &value, &len, &why)) > 0) {
        struct sluice_record record = {.topic = p->topic,
                                       .partition = p->partition,
                                       .key = p->key,
                                       .key_len = p->key ? (size_t)p->key_len : 0,
                                       .value = value,
                                       .value_len = len,
                                       .headers = p->headers,
                                       .header_count = p->header_count};
        if (p->key_separator && !split_key(p, &record)) {
            exit_code = ctl_fail(p->ctl, "record %llu has no key separator \"%s\"",
                                 (unsigned long long)input.number, p->key_separator);
            break;
        }
        int status = sluice_producer_send(producer, &record);
        if (status) {
            char what[64];
            snprintf(what, sizeof(what), "record %llu", (unsigned long long)input.number);
            exit_code = ctl_fail_status(p->ctl, status, what);
            break;
        }
        (*sent)++;
        bytes += len;
        progress_show(&progress, "sent", *sent, bytes);
    }
    progress_end(&progress);
    if (more < 0)
        exit_code = ctl_fail(p->ctl, "%s: record %llu: %s", p->file ? p->file : "standard input",
                             (unsigned long long)input.number, why);
    input_deinit(&input);
    return exit_code;
}

/* All or nothing: so without the commit nothing counts as acked. */
static int end_transaction(struct produce *p, struct sluice_producer *producer, int exit_code)
{
    int status = SLUICE_OK;
    if (exit_code == EXIT_DONE) {
        do {
            status = sluice_txn_commit(producer, COMMIT_MS);
        } while (status == SLUICE_E_TIMED_OUT || status == SLUICE_E_CONNECT);
        if (status)
            exit_code = ctl_fail_status(p->ctl, status, "nothing is stored: the commit");
    } else {
        sluice_txn_abort(producer, COMMIT_MS);
    }
    if (exit_code != EXIT_DONE)
        p->undone = true;
    return exit_code;
}

static int finish(struct produce *p, struct sluice_producer *producer, uint64_t sent, int exit_code)
{
    int status = sluice_producer_flush(producer, UINT32_MAX);
    sluice_producer_free(producer); // the last reports come from in here
    uint64_t acked = p->undone ? 0 : atomic_load(&p->acked), refused = atomic_load(&p->refused);
    int first_error = atomic_load(&p->first_error);
    if (refused > 0)
        exit_code = ctl_fail(p->ctl, "%llu records were not stored; the first: %s: %s",
                             (unsigned long long)refused, sluice_name(first_error),
                             sluice_text(first_error));
    else if (exit_code == EXIT_DONE && (status || acked != sent))
        exit_code = ctl_fail_status(p->ctl, status, "waiting for acks");
    if (p->ctl->json) {
        struct json json;
        json_begin(&json, stdout);
        json_string(&json, "topic", p->topic);
        json_u64(&json, "records_acked", acked);
        json_u64(&json, "records_failed", sent - acked);
        json_end(&json);
    } else {
        printf("%llu records acked\n", (unsigned long long)acked);
    }
    return exit_code;
}

/* ---- options ---- */

static int parse_escaped(struct produce *p, const char *option, char *text, char **to, long *len)
{
    *to = text;
    *len = text_unescape(text);
    if (*len <= 0)
        return ctl_usage(p->ctl, "%s: want at least one byte; \\n \\t \\r \\\\ \\0 \\xNN", option);
    return EXIT_DONE;
}

static int parse_header(struct produce *p, char *text)
{
    char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return ctl_usage(p->ctl, "--header %s: want KEY=VALUE", text);
    if (p->header_count == HEADERS_MAX)
        return ctl_usage(p->ctl, "--header: at most %d", HEADERS_MAX);
    *equals = 0;
    p->headers[p->header_count++] = (struct sluice_header){text, equals + 1, strlen(equals + 1)};
    return EXIT_DONE;
}

static int parse_option(struct produce *p, int option)
{
    uint64_t number;
    switch (option) {
    case 'f':
        p->file = optarg;
        return EXIT_DONE;
    case 'k':
        p->key = optarg;
        p->key_len = (long)strlen(optarg);
        return EXIT_DONE;
    case 's':
        return parse_escaped(p, "--key-separator", optarg, &p->key_separator,
                             &p->key_separator_len);
    case 'h':
        return parse_header(p, optarg);
    case 'd':
        return parse_escaped(p, "--delimiter", optarg, &p->delimiter, &p->delimiter_len);
    case 'F':
        if (strcmp(optarg, "length") != 0)
            return ctl_usage(p->ctl, "--framing %s: only \"length\" is known", optarg);
        p->framing_length = true;
        return EXIT_DONE;
    case 'p':
        if (!ctl_parse_u64(optarg, 0, 16383, &number))
            return ctl_usage(p->ctl, "--partition %s: allowed 0..16383", optarg);
        p->partition = (uint32_t)number;
        return EXIT_DONE;
    case 'c':
        if (strcmp(optarg, "none") != 0 && strcmp(optarg, "lz4") != 0)
            return ctl_usage(p->ctl, "--compression %s: allowed none, lz4", optarg);
        p->compression = *optarg == 'l' ? SLUICE_COMPRESSION_LZ4 : SLUICE_COMPRESSION_NONE;
        return EXIT_DONE;
    default:
        p->transaction = true;
        return EXIT_DONE;
    }
}

static int parse(struct produce *p, int argc, char **argv)
{
    static const struct option options[] = {{"file", required_argument, NULL, 'f'},
                                            {"key", required_argument, NULL, 'k'},
                                            {"key-separator", required_argument, NULL, 's'},
                                            {"header", required_argument, NULL, 'h'},
                                            {"delimiter", required_argument, NULL, 'd'},
                                            {"framing", required_argument, NULL, 'F'},
                                            {"partition", required_argument, NULL, 'p'},
                                            {"compression", required_argument, NULL, 'c'},
                                            {"transaction", no_argument, NULL, 'T'},
                                            CTL_OPTIONS};
    int option, exit_code = EXIT_DONE;
    while (exit_code == EXIT_DONE &&
           (option = ctl_option(p->ctl, argc, argv, options, &exit_code)) != -1) {
        if (option != '?')
            exit_code = parse_option(p, option);
    }
    if (exit_code == EXIT_DONE && p->key && p->key_separator)
        exit_code = ctl_usage(p->ctl, "--key and --key-separator exclude each other");
    if (exit_code == EXIT_DONE && p->delimiter && p->framing_length)
        exit_code = ctl_usage(p->ctl, "--delimiter and --framing exclude each other");
    if (exit_code == EXIT_DONE)
        exit_code = ctl_words(p->ctl, argc, argv, 1, "TOPIC");
    p->topic = argv[optind];
    return exit_code;
}
