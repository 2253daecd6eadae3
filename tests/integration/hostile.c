/* A client that does everything wrong, and one beside it that must not notice.
 *
 *   sluice-hostile ADDRESS attack PID MEMORY_KIB SECONDS [SEED [NAME]]   attacks the broker of that process; only
 *                                                                        by the attacks whose names hold NAME
 *   sluice-hostile ADDRESS verify COUNT                           reads what was acked, after a restart
 *
 * After each attack: the healthy client gets on, the broker has as many sockets as before, and its memory stays within
 * the bound (0: not looked at). The last attack is random for SECONDS; its seed is printed. The last line of `attack`
 * is "healthy records: COUNT". */
#include "tests/integration/hostile.h"

#include <dirent.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct hostile hostile;

static const struct attack {
    const char *name;
    void (*run)(void);
} attacks[] = {
    {"lengths that no frame has", attack_lengths},
    {"frames cut short", attack_truncated},
    {"frames with a byte flipped", attack_flipped},
    {"frames in two pieces", attack_splits},
    {"a hundred frames in one piece", attack_pipelined},
    {"operations and versions nobody knows", attack_unknown},
    {"requests out of order", attack_order},
    {"counts that are not borne out", attack_counts},
    {"values that are not allowed", attack_values},
    {"values of transactions and groups", attack_txn_values},
    {"topics beyond the limits", attack_topics},
    {"publish numbers with gaps", attack_publish_numbers},
    {"publishes whose sizes lie", attack_publish_sizes},
    {"bad batches", attack_batches},
    {"more producers than are remembered", attack_producers},
    {"searches through many batches", attack_searches},
    {"reading where nothing is", attack_reading},
    {"subscriptions beyond the limits", attack_subscriptions},
    {"fetches of all there is", attack_fetches},
    {"connections that end anywhere", attack_endings},
    {"peers that never read", attack_zero_window},
    {"peers that send a byte now and then", attack_slow},
    {"fetches that wait", attack_waiting},
    {"transactions: ends that are refused", attack_txn_ends},
    {"transactions: batches under other names", attack_txn_staging},
    {"transactions: two ends at once", attack_txn_races},
    {"transactions: two thousand abandoned", attack_txn_abandoned},
    {"transactions: resets", attack_txn_resets},
    {"transactions: huge ends", attack_txn_huge},
    {"groups: members that are none", attack_group_members},
    {"groups: huge requests", attack_group_huge},
    {"groups: a crowd in one connection", attack_group_crowd},
};

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("FAILED: ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    fflush(stdout);
    _exit(1);
}

uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void sleep_ms(uint32_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l}, NULL);
}

/* ---- the broker from outside ---- */

static uint32_t broker_sockets(void)
{
    char dir[64], link[512], target[64];
    uint32_t count = 0;
    snprintf(dir, sizeof(dir), "/proc/%d/fd", hostile.broker_pid);
    DIR *fds = opendir(dir);
    if (!fds)
        fail("the broker is gone");
    for (struct dirent *entry; (entry = readdir(fds));) {
        snprintf(link, sizeof(link), "%s/%s", dir, entry->d_name);
        ssize_t len = readlink(link, target, sizeof(target) - 1);
        count += len > 7 && memcmp(target, "socket:", 7) == 0;
    }
    closedir(fds);
    return count;
}

static uint64_t broker_memory_kib(void)
{
    char path[64], line[256];
    uint64_t kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", hostile.broker_pid);
    FILE *status = fopen(path, "r");
    if (!status)
        fail("the broker is gone");
    while (fgets(line, sizeof(line), status)) {
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtoull(line + 6, NULL, 10);
    }
    fclose(status);
    return kib;
}

/* Broken connections linger up to 2 s for their peers. */
static void check_broker(const char *name, uint32_t sockets_before)
{
    uint64_t deadline = now_ms() + ANSWER_MS;
    uint32_t sockets;
    healthy_round(name);
    while ((sockets = broker_sockets()) > sockets_before) {
        if (now_ms() > deadline)
            fail("%s: the broker has %u sockets, %u before", name, sockets, sockets_before);
        sleep_ms(10);
    }
    uint64_t kib = broker_memory_kib();
    if (hostile.memory_kib_max > 0 && kib > hostile.memory_kib_max)
        fail("%s: the broker's memory peaked at %llu KiB, allowed %llu", name,
             (unsigned long long)kib, (unsigned long long)hostile.memory_kib_max);
}

static void run_attack(const char *name, void (*run)(void), uint32_t sockets)
{
    uint64_t began = now_ms();
    (void)healthy_longest_ms(true);
    run();
    uint64_t took = now_ms() - began;
    check_broker(name, sockets);
    printf("%-40s %6llu ms; the healthy client's longest round %llu ms\n", name,
           (unsigned long long)took, (unsigned long long)healthy_longest_ms(false));
    fflush(stdout);
}

/* ---- set-up ---- */

/* The limits, and the topic to attack. */
static void prepare(void)
{
    uint8_t bytes[SAMPLE_BYTES_MAX];
    struct peer peer;
    struct frame frame;
    struct msg_topic_reply reply;
    peer_connect(&peer, "the begin");
    peer_send(&peer, bytes, make_hello(bytes, 1));
    peer_expect_reply(&peer, OP_HELLO, 1, &frame);
    if (read_hello_reply(&frame, &hostile.limits))
        fail("the answer to HELLO is not well-formed");
    hostile.limits.software = (struct slice){NULL, 0};
    struct writer w = meta_writer(bytes, sizeof(bytes));
    write_topic_change(&w, slice_of_text(VICTIM), VICTIM_PARTITIONS);
    write_settings_begin(&w, 0);
    peer_send(&peer, bytes, frame_seal(bytes, OP_TOPIC_CREATE, 0, 2, writer_length(&w), 0));
    peer_expect_reply(&peer, OP_TOPIC_CREATE, 2, &frame);
    if (read_topic_reply(&frame, &reply))
        fail("the answer to TOPIC_CREATE is not well-formed");
    hostile.victim_id = reply.topic_id;
    peer_close(&peer);
}

/* Opened at the begin, it must be closed for want of a HELLO some time during the run. */
static struct peer silent;
static uint64_t silent_since;

static void check_silent(void)
{
    struct frame frame;
    uint64_t waited = now_ms() - silent_since;
    int timeout = waited > 9000 ? 8000 : (int)(17000 - waited);
    if (peer_next(&silent, &frame, timeout) != GOT_END)
        fail("a connection without HELLO was not closed");
    peer_close(&silent);
}

static uint32_t random_ms;

static void attack_random_now(void)
{
    attack_random(random_ms);
}

static int attack(int argc, char **argv)
{
    uint64_t seed = argc > 6 ? strtoull(argv[6], NULL, 0) : random_seed_system();
    hostile.broker_pid = atoi(argv[3]);
    hostile.memory_kib_max = strtoull(argv[4], NULL, 10);
    random_ms = (uint32_t)(atoi(argv[5]) * 1000);
    random_init(&hostile.random, seed);
    printf("seed %llu\n", (unsigned long long)seed);
    prepare();
    healthy_start();
    uint32_t sockets = broker_sockets();
    peer_connect(&silent, "a connection without HELLO");
    silent_since = now_ms();
    const char *only = argc > 7 ? argv[7] : "";
    for (size_t i = 0; i < ARRAY_COUNT(attacks); i++)
        if (strstr(attacks[i].name, only))
            run_attack(attacks[i].name, attacks[i].run, sockets + 1);
    run_attack("random mutations", attack_random_now, sockets + 1);
    check_silent();
    check_broker("all of it", sockets);
    printf("healthy records: %llu\n", (unsigned long long)healthy_stop());
    return 0;
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 4 || address_parse(argv[1], &hostile.address))
        return 2;
    hostile.server = argv[1];
    if (strcmp(argv[2], "attack") == 0 && argc >= 6)
        return attack(argc, argv);
    if (strcmp(argv[2], "verify") != 0)
        return 2;
    healthy_verify(strtoull(argv[3], NULL, 10));
    return 0;
}
