/* base/address.h: what is accepted, what is printed, and real sockets on the loopback. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/status.h"

static void check_round_trip(const char *text, const char *expected)
{
    struct address address;
    char printed[ADDRESS_TEXT_MAX];
    cr_assert_eq(address_parse(text, &address), 0, "%s", text);
    cr_assert_str_eq(address_format(&address, printed), expected);
}

Test(address, parses_and_prints_what_users_write)
{
    check_round_trip("127.0.0.1:7650", "127.0.0.1:7650");
    check_round_trip("0.0.0.0:0", "0.0.0.0:0");
    check_round_trip("255.255.255.255:65535", "255.255.255.255:65535");
    check_round_trip("localhost:80", "127.0.0.1:80");
    check_round_trip("[::1]:7650", "[::1]:7650");
    check_round_trip("[::]:1", "[::]:1");
    check_round_trip("[2001:DB8:0:0::00a1]:9092", "[2001:db8::a1]:9092");
    check_round_trip("[::ffff:10.0.0.1]:00080", "[::ffff:10.0.0.1]:80");
    check_round_trip("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535",
                     "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
}

Test(address, refuses_everything_else)
{
    static const char *const bad[] = {
        "",
        ":",
        ":80",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:99999",
        "127.0.0.1:100000",
        "127.0.0.1:4294967376", // 80 in 32 bits
        "127.0.0.1:-1",
        "127.0.0.1:+1",
        "127.0.0.1: 80",
        "127.0.0.1:80 ",
        "127.0.0.1:0x50",
        "127.0.0.1:80x",
        " 127.0.0.1:80",
        "127.0.0.1.:80",
        "127.0.0:80",
        "127.0.0.256:80",
        "example.org:80",
        "LOCALHOST:80",
        "::1:80",
        "[::1]",
        "[::1]:",
        "[::1]80",
        "[::1:80",
        "[]:80",
        "[127.0.0.1]:80",
        "[localhost]:80",
        "[fe80::1%lo]:80",
        "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:80",
        "[[::1]]:80",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct address address;
        cr_assert_eq(address_parse(bad[i], &address), E_INVALID, "\"%s\"", bad[i]);
    }
}

Test(address, loopback_is_known_in_both_families)
{
    static const struct {
        const char *text;
        bool loopback;
    } cases[] = {
        {"127.0.0.1:1", true},
        {"127.255.3.4:1", true},
        {"126.0.0.1:1", false},
        {"128.0.0.1:1", false},
        {"0.0.0.0:1", false},
        {"[::1]:1", true},
        {"[::]:1", false},
        {"[::2]:1", false},
        {"[::ffff:127.0.0.9]:1", true},
        {"[::ffff:10.0.0.1]:1", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct address address;
        cr_assert_eq(address_parse(cases[i].text, &address), 0);
        cr_assert_eq(address_is_loopback(&address), cases[i].loopback, "%s", cases[i].text);
    }
    struct address unknown = {0};
    char text[ADDRESS_TEXT_MAX];
    cr_assert(!address_is_loopback(&unknown));
    cr_assert_str_eq(address_format(&unknown, text), "unknown");
}

static int listen_on(const char *text, bool shared, struct address *bound)
{
    struct address address;
    cr_assert_eq(address_parse(text, &address), 0);
    int fd = address_listen(&address, 16, shared);
    if (fd >= 0)
        cr_assert_eq(address_of_socket(fd, bound), 0);
    return fd;
}

Test(address, port_0_gets_a_free_one_and_a_taken_one_is_refused)
{
    struct address first, again;
    char text[ADDRESS_TEXT_MAX];
    int fd = listen_on("127.0.0.1:0", false, &first);
    cr_assert_geq(fd, 0);
    cr_assert_neq(first.sockaddr.v4.sin_port, 0);
    cr_assert(address_is_loopback(&first));
    cr_assert_eq(listen_on(address_format(&first, text), false, &again), E_EXISTS);
    cr_assert_eq(listen_on(address_format(&first, text), true, &again), E_EXISTS);
    close(fd);
    fd = listen_on(text, false, &again);
    cr_assert_geq(fd, 0, "free again");
    close(fd);
}

Test(address, shared_listeners_may_have_one_port)
{
    struct address first, second;
    char text[ADDRESS_TEXT_MAX];
    int a = listen_on("127.0.0.1:0", true, &first);
    int b = listen_on(address_format(&first, text), true, &second);
    cr_assert_geq(a, 0);
    cr_assert_geq(b, 0);
    cr_assert_eq(first.sockaddr.v4.sin_port, second.sockaddr.v4.sin_port);
    close(a);
    close(b);
}

Test(address, an_address_of_another_machine_cannot_be_listened_on)
{
    struct address bound;
    cr_assert_eq(listen_on("192.0.2.1:0", false, &bound), E_INVALID);
}

Test(address, both_ends_know_each_other)
{
    struct address server, client, peer;
    int listener = listen_on("127.0.0.1:0", false, &server);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(connect(fd, &server.sockaddr.any, server.len), 0);
    int accepted = accept(listener, NULL, NULL);
    cr_assert_geq(accepted, 0);
    cr_assert_eq(address_of_socket(fd, &client), 0);
    cr_assert_eq(address_of_peer(accepted, &peer), 0);
    cr_assert_eq(peer.sockaddr.v4.sin_port, client.sockaddr.v4.sin_port);
    cr_assert_eq(address_of_peer(listener, &peer), E_CLOSED);
    cr_assert_eq(address_of_socket(1 << 19, &peer), E_INVALID);
    close(accepted);
    close(fd);
    close(listener);
}

Test(address, the_end_of_a_peer_is_seen_behind_bytes_that_nobody_has_read)
{
    struct address server;
    int listener = listen_on("127.0.0.1:0", false, &server);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(connect(fd, &server.sockaddr.any, server.len), 0);
    int accepted = accept(listener, NULL, NULL);
    cr_assert_eq(send(fd, "unread", 6, 0), 6);
    cr_assert_not(address_peer_has_ended(accepted));
    close(fd);
    for (int i = 0; i < 10000 && !address_peer_has_ended(accepted); i++)
        usleep(1000);
    cr_assert(address_peer_has_ended(accepted));
    char text[8];
    cr_assert_eq(recv(accepted, text, sizeof(text), 0), 6);
    close(accepted);
    close(listener);
}

Test(address, tuning_takes_the_delay_and_the_pacing_away)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int value = 0;
    socklen_t len = sizeof value;
    char congestion[16] = "";
    socklen_t congestion_len = sizeof congestion;

    address_tune_socket(fd);
    cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len), 0);
    cr_assert_neq(value, 0);
    cr_assert_eq(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &len), 0);
    cr_assert_neq(value, 0);
    cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &len), 0);
    cr_assert_eq(value, 60000);
    cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, &congestion_len), 0);
    cr_assert(strcmp(congestion, "cubic") == 0 || strcmp(congestion, "reno") == 0, "%s",
              congestion);
    close(fd);
    address_tune_socket(-1); // best effort: nothing to see
}
