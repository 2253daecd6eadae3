/* The client itself: connecting, waiting, administration, errors, and the end. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/messages.h"
#include "tests/unit/client/short_memory.h"
#include "tests/unit/client/user.h"

static const struct fake_options plain;

static int new_client(const char *server, struct sluice_client **client)
{
    struct sluice_client_options options = {.size = sizeof(options),
                                            .server = server,
                                            .request_timeout_ms = 300,
                                            .reconnect_backoff_ms = 5};
    return sluice_client_new(&options, client);
}

/* ---- connecting ---- */

Test(client, bad_options_are_refused)
{
    struct sluice_client *client;
    struct sluice_client_options options = {.size = sizeof(options), .server = "nonsense"};
    cr_expect(eq(int, sluice_client_new(&options, &client), SLUICE_E_INVALID));
    cr_expect(strstr(sluice_last_error(), "nonsense") != NULL);
    options.server = "127.0.0.1:99999";
    cr_expect(eq(int, sluice_client_new(&options, &client), SLUICE_E_INVALID));
    options.server = NULL;
    options.connect_timeout_ms = UINT32_MAX;
    cr_expect(eq(int, sluice_client_new(&options, &client), SLUICE_E_INVALID));
    cr_expect(eq(int, sluice_client_new(NULL, &client), SLUICE_E_INVALID));
}

Test(client, an_older_programs_shorter_options_are_taken)
{
    struct sluice_client *client;
    struct sluice_client_options options = {.size =
                                                offsetof(struct sluice_client_options, client_id),
                                            .server = "127.0.0.1:1",
                                            .client_id = (const char *)1}; // not to be looked at
    cr_assert(eq(int, sluice_client_new(&options, &client), SLUICE_OK));
    sluice_client_free(client);
}

/* Each of its allocations in turn, but those of its thread. */
Test(client, one_that_finds_no_memory_is_none_and_leaves_nothing)
{
    struct sluice_client *client;
    uint32_t points = 0;
    int status;
    do {
        short_memory_fail(++points);
        status = new_client("127.0.0.1:1", &client);
        cr_expect(eq(int, status, short_memory_has_failed() ? SLUICE_E_NO_MEMORY : SLUICE_OK));
    } while (short_memory_has_failed());
    short_memory_fail(0);
    cr_assert(gt(u32, points, 4)); // three buffers of the connection, and itself
    sluice_client_free(client);
}

Test(client, waiting_for_nobody_ends_at_its_timeout)
{
    struct sluice_client *client;
    cr_assert(eq(int, new_client("127.0.0.1:1", &client), SLUICE_OK));
    uint64_t start_ms = user_now_ms();
    cr_expect(eq(int, sluice_client_wait(client, 100), SLUICE_E_CONNECT));
    cr_expect(ge(u64, user_now_ms() - start_ms, 95));
    struct sluice_topic *topics;
    uint32_t count;
    cr_expect(eq(int, sluice_topic_list(client, NULL, 0, &topics, &count), SLUICE_E_CONNECT));
    cr_expect(strstr(sluice_last_error(), "127.0.0.1:1") != NULL);
    sluice_client_free(client);
}

Test(client, a_broker_that_comes_later_is_found)
{
    struct user *user = user_new(&plain, 1);
    fake_go_down(user->broker);
    struct sluice_client *client;
    cr_assert(eq(int, new_client(fake_address(user->broker), &client), SLUICE_OK));
    cr_expect(eq(int, sluice_client_wait(client, 50), SLUICE_E_CONNECT));
    fake_come_back(user->broker);
    cr_expect(eq(int, sluice_client_wait(client, 5000), SLUICE_OK));
    sluice_client_free(client);
    user_free(user);
}

Test(client, a_peer_that_refuses_the_hello_for_good_is_a_protocol_error)
{
    struct fake_options options = {.hello_error = PE_UNSUPPORTED_VERSION};
    struct fake_broker *broker = fake_start(&options);
    struct sluice_client *client;
    cr_assert(eq(int, new_client(fake_address(broker), &client), SLUICE_OK));
    cr_expect(eq(int, sluice_client_wait(client, 5000), SLUICE_E_PROTOCOL));
    sluice_client_free(client);
    fake_stop(broker);
}

Test(client, a_peer_that_is_no_broker_is_a_protocol_error_or_no_connection)
{
    struct fake_broker *broker = fake_start(&plain);
    fake_rule(broker, OP_HELLO, 0, 1000000, FAKE_GARBAGE, 0);
    struct sluice_client *client;
    cr_assert(eq(int, new_client(fake_address(broker), &client), SLUICE_OK));
    int status = sluice_client_wait(client, 200);
    cr_expect(status == SLUICE_E_PROTOCOL || status == SLUICE_E_CONNECT);
    sluice_client_free(client);
    fake_stop(broker);
}

Test(client, a_peer_that_accepts_and_says_nothing_is_given_up)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    cr_assert(bind(listener, (struct sockaddr *)&address, len) == 0 && listen(listener, 8) == 0);
    getsockname(listener, (struct sockaddr *)&address, &len);
    char server[32];
    snprintf(server, sizeof(server), "127.0.0.1:%u", ntohs(address.sin_port));
    struct sluice_client *client;
    struct sluice_client_options options = {.size = sizeof(options),
                                            .server = server,
                                            .connect_timeout_ms = 50,
                                            .reconnect_backoff_ms = 1};
    cr_assert(eq(int, sluice_client_new(&options, &client), SLUICE_OK));
    for (int i = 0; i < 3; i++) { // it comes again after each timeout
        int fd = accept(listener, NULL, NULL);
        cr_assert(ge(int, fd, 0));
        char byte;
        while (recv(fd, &byte, 1, 0) > 0)
            continue;
        close(fd);
    }
    sluice_client_free(client);
    close(listener);
}

static void count_lines(void *context, const char *line)
{
    atomic_fetch_add((_Atomic int *)context, strstr(line, "127.0.0.1:") != NULL);
}

Test(client, connection_changes_are_told_in_lines)
{
    struct fake_broker *broker = fake_start(&plain);
    _Atomic int lines = 0;
    struct sluice_client *client;
    struct sluice_client_options options = {.size = sizeof(options),
                                            .server = fake_address(broker),
                                            .on_log = count_lines,
                                            .context = &lines};
    cr_assert(eq(int, sluice_client_new(&options, &client), SLUICE_OK));
    cr_assert(eq(int, sluice_client_wait(client, 5000), SLUICE_OK));
    cr_expect(eq(int, lines, 1));
    fake_stop(broker);
    for (int i = 0; i < 5000 && lines < 2; i++)
        user_sleep_ms(1);
    cr_expect(ge(int, lines, 2));
    sluice_client_free(client);
}

/* ---- administration ---- */

Test(client, topics_are_created_listed_and_deleted)
{
    struct user *user = user_new(&plain, 1);
    struct sluice_setting settings[] = {{"retention_ms", "7d"}, {"validation", "records"}};
    struct sluice_client *client = user->client;
    cr_expect(eq(int, sluice_topic_create(client, "orders", 6, settings, 2), SLUICE_OK));
    cr_expect(eq(int, sluice_topic_create(client, "orders", 6, NULL, 0), SLUICE_E_TOPIC_EXISTS));
    cr_expect(strcmp(sluice_last_error(), "refused by the test") == 0);
    const char *names[] = {"orders", "t"};
    struct sluice_topic *topics;
    uint32_t count;
    cr_assert(eq(int, sluice_topic_list(client, names, 2, &topics, &count), SLUICE_OK));
    cr_assert(eq(u32, count, 2));
    cr_expect(strcmp(topics[0].name, "orders") == 0);
    cr_expect(eq(u32, topics[0].partition_count, 6));
    cr_expect(eq(u32, topics[0].setting_count, 1));
    cr_expect(strcmp(topics[0].settings[0].value, "7d") == 0);
    sluice_topics_free(topics, count);
    cr_expect(eq(int, sluice_topic_delete(client, "orders"), SLUICE_OK));
    cr_expect(eq(int, sluice_topic_delete(client, "orders"), SLUICE_E_UNKNOWN_TOPIC));
    cr_expect(
        eq(int, sluice_topic_list(client, names, 2, &topics, &count), SLUICE_E_UNKNOWN_TOPIC));
    cr_assert(eq(int, sluice_topic_list(client, NULL, 0, &topics, &count), SLUICE_OK));
    cr_expect(eq(u32, count, 1));
    sluice_topics_free(topics, count);
    user_free(user);
}

Test(client, bad_topic_names_never_leave_the_program)
{
    struct user *user = user_new(&plain, 1);
    char long_name[300];
    memset(long_name, 'x', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    const char *bad[] = {"", ".", "..", "a/b", "a b", "\xff", long_name};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        int status = sluice_topic_create(user->client, bad[i], 1, NULL, 0);
        cr_expect(eq(int, SLUICE_BROKER_ERROR(status), PE_INVALID_TOPIC_NAME));
        cr_expect(strlen(sluice_last_error()) > 0);
    }
    cr_expect(eq(u64, fake_seen(user->broker, OP_TOPIC_CREATE), 0));
    user_free(user);
}

Test(client, offsets_and_status_are_told)
{
    struct user *user = user_new(&plain, 1);
    user_produce(user, (struct sluice_producer_options){0});
    user_send_many(user, 0, 100);
    user_flush(user);
    uint64_t offset;
    cr_expect(
        eq(int, sluice_offset(user->client, "t", 0, SLUICE_START_END, 0, &offset), SLUICE_OK));
    cr_expect(eq(u64, offset, 100));
    cr_expect(eq(int, sluice_offset(user->client, "t", 0, SLUICE_START_OFFSET, 101, &offset),
                 SLUICE_E_OFFSET_OUT_OF_RANGE));
    struct sluice_broker_status status;
    cr_assert(eq(int, sluice_status(user->client, &status), SLUICE_OK));
    cr_expect(status.ready && status.can_produce && status.can_consume);
    cr_expect(eq(u32, status.value_count, 1));
    cr_expect(strcmp(status.values[0].name, "connections") == 0);
    sluice_status_free(&status);
    user_free(user);
}

Test(client, a_silent_broker_ends_a_request_at_its_timeout)
{
    struct user *user = user_new(&plain, 1);
    struct sluice_client *client;
    cr_assert(eq(int, new_client(fake_address(user->broker), &client), SLUICE_OK));
    cr_assert(eq(int, sluice_client_wait(client, 5000), SLUICE_OK));
    fake_rule(user->broker, OP_STATUS, 0, 1, FAKE_SILENT, 0);
    struct sluice_broker_status status;
    uint64_t start_ms = user_now_ms();
    cr_expect(eq(int, sluice_status(client, &status), SLUICE_E_TIMED_OUT));
    cr_expect(ge(u64, user_now_ms() - start_ms, 290));
    cr_expect(eq(int, sluice_status(client, &status), SLUICE_OK));
    sluice_status_free(&status);
    sluice_client_free(client);
    user_free(user);
}

Test(client, a_question_is_asked_again_after_a_lost_connection)
{
    struct user *user = user_new(&plain, 1);
    fake_rule(user->broker, OP_STATUS, 0, 3, FAKE_DROP_AFTER, 0);
    struct sluice_broker_status status;
    cr_expect(eq(int, sluice_status(user->client, &status), SLUICE_OK));
    cr_expect(eq(u64, fake_seen(user->broker, OP_STATUS), 4));
    sluice_status_free(&status);
    user_free(user);
}

Test(client, a_change_of_unknown_fate_is_not_repeated)
{
    struct user *user = user_new(&plain, 1);
    fake_rule(user->broker, OP_TOPIC_CREATE, 0, 1, FAKE_DROP_AFTER, 0);
    cr_expect(eq(int, sluice_topic_create(user->client, "new", 1, NULL, 0), SLUICE_E_CLOSED));
    cr_expect(eq(u64, fake_seen(user->broker, OP_TOPIC_CREATE), 1));
    cr_expect(eq(int, sluice_topic_create(user->client, "new", 1, NULL, 0), SLUICE_E_TOPIC_EXISTS));
    user_free(user);
}

static void *ask_often(void *client)
{
    for (int i = 0; i < 200; i++) {
        struct sluice_topic *topics;
        uint32_t count;
        if (sluice_topic_list(client, NULL, 0, &topics, &count) != SLUICE_OK || count != 1)
            return client;
        sluice_topics_free(topics, count);
    }
    return NULL;
}

Test(client, threads_ask_at_the_same_time_and_each_gets_its_own_answer)
{
    struct user *user = user_new(&plain, 1);
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, ask_often, user->client);
    for (int i = 0; i < 8; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        cr_expect(failed == NULL);
    }
    user_free(user);
}

/* ---- errors ---- */

Test(client, every_status_has_a_name_and_a_text)
{
    for (int status = 1; status > -200; status--) {
        cr_expect(strlen(sluice_name(status)) > 0);
        cr_expect(strlen(sluice_text(status)) > 0);
        cr_expect(not(sluice_is_retriable(status) && sluice_is_fatal(status)));
    }
    cr_expect(strcmp(sluice_name(SLUICE_E_UNKNOWN_TOPIC), "UNKNOWN_TOPIC") == 0);
    cr_expect(strcmp(sluice_name(SLUICE_E_FULL), "FULL") == 0);
    cr_expect(strcmp(sluice_name(SLUICE_E_UNSUPPORTED), "UNSUPPORTED") == 0);
    cr_expect(strcmp(sluice_name(-55), "UNKNOWN") == 0);
    cr_expect(sluice_is_retriable(SLUICE_E_BROKER - PE_OVERLOADED));
    cr_expect(not(sluice_is_retriable(SLUICE_E_BROKER - PE_UNKNOWN_TOPIC)));
    cr_expect(not(sluice_is_retriable(SLUICE_OK)));
    cr_expect(strcmp(sluice_version(), "0.1.0") == 0);
}
