/* base/io.h: files on both kernel backends, with the faults that io.c injects. */
#include "tests/unit/base/io_fixture.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/fault.h"

static char directory[64];
static char path_a[96];
static char path_b[96];

static void make_directory(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%.40s/io_test_XXXXXX", base ? base : "/tmp");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path_a, sizeof path_a, "%s/a", directory);
    snprintf(path_b, sizeof path_b, "%s/b", directory);
}

static void remove_directory(void)
{
    fault_disarm_all();
    unlink(path_a);
    unlink(path_b);
    rmdir(directory);
}

TestSuite(io_file_uring, .init = make_directory, .fini = remove_directory);
TestSuite(io_file_epoll, .init = make_directory, .fini = remove_directory);

static int create(struct io *io, const char *path)
{
    int fd = io_open_wait(io, path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    cr_assert_geq(fd, 0, "%s", status_name(fd));
    return fd;
}

/* ---- the plain ways ---- */

IO_TEST(io_file, what_is_written_is_read_back)
{
    static uint8_t out[300000], in[300000];
    int fd = create(io, path_a);
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (uint8_t)(i * 7 + (i >> 9));
    cr_assert_eq(io_write_wait(io, fd, out, sizeof out, 1000), sizeof out);
    cr_assert_eq(io_fdatasync_wait(io, fd), 0);
    cr_assert_eq(io_read_wait(io, fd, in, sizeof in, 1000), sizeof in);
    cr_assert_eq(memcmp(in, out, sizeof in), 0);
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    cr_assert_eq(io_close_wait(io, fd), 0);
}

IO_TEST(io_file, a_read_is_short_only_at_the_end)
{
    char text[100];
    int fd = create(io, path_a);
    cr_assert_eq(io_write_wait(io, fd, "0123456789", 10, 0), 10);
    cr_assert_eq(io_read_wait(io, fd, text, sizeof text, 4), 6);
    cr_assert_eq(memcmp(text, "456789", 6), 0);
    cr_assert_eq(io_read_wait(io, fd, text, sizeof text, 10), 0);
    cr_assert_eq(io_read_wait(io, fd, text, sizeof text, 1 << 30), 0);
    cr_assert_eq(io_read_wait(io, fd, text, 0, 0), 0);
    cr_assert_eq(io_write_wait(io, fd, text, 0, 0), 0);
    cr_assert_eq(io_close_wait(io, fd), 0);
}

IO_TEST(io_file, a_direct_read_over_an_end_off_the_block_gives_what_is_there)
{
    void *buf = aligned_alloc(4096, 16384);
    int fd = create(io, path_a);
    memset(buf, 'z', 16384);
    cr_assert_eq(io_write_wait(io, fd, buf, 5000, 0), 5000);
    cr_assert_eq(io_close_wait(io, fd), 0);
    fd = io_open_wait(io, path_a, O_RDONLY | O_DIRECT, 0);
    if (fd == E_INVALID)
        cr_skip_test("no O_DIRECT here");
    memset(buf, 0, 16384);
    cr_assert_eq(io_read_wait(io, fd, buf, 16384, 0), 5000);
    cr_assert_eq(((char *)buf)[4999], 'z');
    cr_assert_eq(io_close_wait(io, fd), 0);
    free(buf);
}

IO_TEST(io_file, sixteen_direct_writes_and_a_sync_in_flight)
{
    enum { COUNT = 16, SIZE = 256 << 10 };
    struct probe writes[COUNT] = {0};
    struct probe syncs[COUNT] = {0};
    uint8_t *buf = aligned_alloc(4096, COUNT * SIZE);
    uint8_t *in = aligned_alloc(4096, SIZE);
    cr_assert_eq(io_close_wait(io, create(io, path_a)), 0);
    int fd = io_open_wait(io, path_a, O_RDWR | O_DIRECT, 0);
    if (fd == E_INVALID)
        cr_skip_test("no O_DIRECT here");
    for (int i = 0; i < COUNT; i++) {
        memset(buf + i * SIZE, 'a' + i, SIZE);
        io_write(io, &writes[i].op, fd, buf + i * SIZE, SIZE, (uint64_t)i * SIZE, probe_done);
        if (i % 4 == 3)
            io_fdatasync(io, &syncs[i].op, fd, probe_done);
    }
    for (int i = 0; i < COUNT; i++) {
        cr_assert_eq(probe_wait(io, &writes[i]), SIZE);
        if (i % 4 == 3)
            cr_assert_eq(probe_wait(io, &syncs[i]), 0);
    }
    for (int i = 0; i < COUNT; i++) {
        cr_assert_eq(io_read_wait(io, fd, in, SIZE, (uint64_t)i * SIZE), SIZE);
        cr_assert_eq(memcmp(in, buf + i * SIZE, SIZE), 0);
    }
    cr_assert_eq(io_close_wait(io, fd), 0);
    free(buf);
    free(in);
}

IO_TEST(io_file, names_come_and_go)
{
    uint64_t size = 99;
    int fd = create(io, path_a);
    cr_assert_eq(io_write_wait(io, fd, "abc", 3, 0), 3);
    cr_assert_eq(io_rename_wait(io, path_a, path_b), 0);
    cr_assert_eq(io_sync_dir_wait(io, directory), 0);
    cr_assert_eq(access(path_a, F_OK), -1);
    cr_assert_eq(io_file_size(io, fd, &size), 0);
    cr_assert_eq(size, 3);
    cr_assert_eq(io_unlink_wait(io, path_b), 0);
    cr_assert_eq(access(path_b, F_OK), -1);
    cr_assert_eq(io_close_wait(io, fd), 0);
}

/* ---- errors ---- */

IO_TEST(io_file, errors_have_their_status_and_errno)
{
    struct probe sync_op = {0};
    char byte;
    cr_assert_eq(io_open_wait(io, path_a, O_RDONLY, 0), E_NOT_FOUND);
    cr_assert_eq(io_open_wait(io, directory, O_RDWR, 0), E_INVALID);
    cr_assert_eq(io_rename_wait(io, path_a, path_b), E_NOT_FOUND);
    cr_assert_eq(io_unlink_wait(io, path_a), E_NOT_FOUND);
    cr_assert_eq(io_sync_dir_wait(io, path_a), E_NOT_FOUND);
    int fd = create(io, path_a);
    cr_assert_eq(io_open_wait(io, path_a, O_RDWR | O_CREAT | O_EXCL, 0600), E_EXISTS);
    cr_assert_eq(io_sync_dir_wait(io, path_a), E_NOT_FOUND, "a file is no directory");
    cr_assert_eq(io_close_wait(io, fd), 0);
    cr_assert_eq(io_close_wait(io, fd), E_INVALID);
    cr_assert_eq(io_read_wait(io, fd, &byte, 1, 0), E_INVALID);
    cr_assert_eq(io_write_wait(io, fd, &byte, 1, 0), E_INVALID);
    io_fdatasync(io, &sync_op.op, fd, probe_done);
    cr_assert_eq(probe_wait(io, &sync_op), E_INVALID);
    cr_assert_eq(sync_op.op.os_error, EBADF);
}

IO_TEST(io_file, syncing_directories_leaks_no_descriptor)
{
    cr_assert_eq(io_sync_dir_wait(io, directory), 0);
    (void)io_poll(io, 5 * NS_PER_MS);
    int before = open_descriptor_count();
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(io_sync_dir_wait(io, directory), 0);
        cr_assert_eq(io_sync_dir_wait(io, path_a), E_NOT_FOUND);
    }
    for (int i = 0; i < 100 && open_descriptor_count() != before; i++)
        (void)io_poll(io, NS_PER_MS); // their closes may still be under way
    expect_descriptor_count(before);
}

IO_TEST(io_file, a_full_disk_says_no_space)
{
    struct probe write_op = {0};
    int fd = io_open_wait(io, "/dev/full", O_WRONLY, 0);
    cr_assert_geq(fd, 0);
    io_write(io, &write_op.op, fd, "x", 1, 0, probe_done);
    cr_assert_eq(probe_wait(io, &write_op), E_NO_SPACE);
    cr_assert_eq(write_op.op.os_error, ENOSPC);
    cr_assert_eq(io_close_wait(io, fd), 0);
}

/* The file size limit cuts a write in two: the kernel takes the first part, and then says why. */
IO_TEST(io_file, a_write_that_gets_stuck_half_way_is_an_error_not_a_count)
{
    static uint8_t data[200000];
    struct rlimit limit = {.rlim_cur = 100000, .rlim_max = RLIM_INFINITY};
    uint64_t size = 0;
    int fd = create(io, path_a);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(io_write_wait(io, fd, data, sizeof data, 0), E_TOO_LARGE);
    cr_assert_eq(io_file_size(io, fd, &size), 0);
    cr_assert_eq(size, 100000, "the first part was written");
    cr_assert_eq(io_close_wait(io, fd), 0);
}

IO_TEST(io_file, a_cancel_lets_file_operations_run_to_their_end)
{
    struct probe write_op = {0}, sync_op = {0};
    static uint8_t data[1 << 20];
    int fd = create(io, path_a);
    io_write(io, &write_op.op, fd, data, sizeof data, 0, probe_done);
    io_fdatasync(io, &sync_op.op, fd, probe_done);
    io_cancel(io, &write_op.op);
    io_cancel(io, &sync_op.op);
    cr_assert_eq(probe_wait(io, &write_op), sizeof data);
    cr_assert_eq(probe_wait(io, &sync_op), 0);
    cr_assert_eq(io_close_wait(io, fd), 0);
}

/* ---- injected faults ---- */

IO_TEST(io_file, each_fault_comes_from_poll_once_with_its_errno)
{
    static const enum fault_point points[] = {FAULT_IO_OPEN, FAULT_IO_READ, FAULT_IO_WRITE,
                                              FAULT_IO_FDATASYNC, FAULT_IO_RENAME};
    static char text[] = "text";
    int fd = create(io, path_a);
    for (int i = 0; i < 5; i++) {
        for (int hit = 1; hit <= 3; hit++) {
            struct probe probe = {0};
            if (hit == 1)
                fault_arm(points[i], 2, 2, EIO);
            switch (points[i]) {
            case FAULT_IO_OPEN:
                io_open(io, &probe.op, "/dev/null", O_RDONLY, 0, probe_done);
                break;
            case FAULT_IO_READ:
                io_read(io, &probe.op, fd, text, 4, 7, probe_done);
                break;
            case FAULT_IO_WRITE:
                io_write(io, &probe.op, fd, text, 4, 7, probe_done);
                break;
            case FAULT_IO_FDATASYNC:
                io_fdatasync(io, &probe.op, fd, probe_done);
                break;
            default:
                io_rename(io, &probe.op, path_a, path_a, probe_done);
                break;
            }
            cr_assert(io_op_is_active(&probe.op));
            cr_assert_eq(probe.done_count, 0);
            int result = probe_wait(io, &probe);
            if (hit == 2) {
                cr_assert_eq(result, E_IO, "point %d", i);
                cr_assert_eq(probe.op.os_error, EIO);
            } else {
                cr_assert_geq(result, 0, "point %d hit %d: %s", i, hit, status_name(result));
                cr_assert_eq(probe.op.os_error, 0);
            }
            if (points[i] == FAULT_IO_WRITE || points[i] == FAULT_IO_READ) {
                cr_assert_eq(probe.op.offset, 7, "a done() can rely on what was asked for");
                cr_assert_eq(probe.op.len, 4);
                cr_assert_eq(probe.op.buf, text);
                cr_assert_eq(probe.op.fd, fd);
            }
            if (points[i] == FAULT_IO_OPEN && result >= 0)
                cr_assert_eq(io_close_wait(io, result), 0);
        }
        fault_disarm_all();
    }
    cr_assert_eq(io_close_wait(io, fd), 0);
}

IO_TEST(io_file, a_failed_operation_did_not_happen)
{
    uint64_t size = 99;
    int fd = create(io, path_a);
    int before = open_descriptor_count();
    fault_arm(FAULT_IO_WRITE, 1, UINT64_MAX, ENOSPC);
    fault_arm(FAULT_IO_OPEN, 1, UINT64_MAX, EIO);
    fault_arm(FAULT_IO_RENAME, 1, UINT64_MAX, EIO);
    cr_assert_eq(io_write_wait(io, fd, "x", 1, 0), E_NO_SPACE);
    cr_assert_eq(io_open_wait(io, path_b, O_RDWR | O_CREAT, 0600), E_IO);
    cr_assert_eq(io_rename_wait(io, path_a, path_b), E_IO);
    cr_assert_eq(io_file_size(io, fd, &size), 0);
    cr_assert_eq(size, 0);
    cr_assert_eq(access(path_a, F_OK), 0);
    cr_assert_eq(access(path_b, F_OK), -1);
    expect_descriptor_count(before);
    cr_assert_eq(io_close_wait(io, fd), 0);
}

IO_TEST(io_file, a_short_write_is_continued_by_the_backend)
{
    static const uint32_t sizes[] = {1, 2, 3, 511, 1023, 1024, 5000, 8192, 262144};
    static uint8_t data[262144], in[262144];
    int fd = create(io, path_a);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 13 + (i >> 8));
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        struct probe write_op = {0};
        fault_disarm_all();
        fault_arm(FAULT_IO_SHORT_WRITE, 1, 1, EIO);
        memset(in, 0, sizeof in);
        cr_assert_eq(ftruncate(fd, 0), 0);
        io_write(io, &write_op.op, fd, data, sizes[i], 3, probe_done);
        cr_assert_eq(probe_wait(io, &write_op), (int)sizes[i]);
        cr_assert_eq(fault_check(FAULT_IO_SHORT_WRITE), 0, "the write was the first hit");
        cr_assert_eq(io_read_wait(io, fd, in, sizes[i], 3), (int)sizes[i]);
        cr_assert_eq(memcmp(in, data, sizes[i]), 0, "size %u", sizes[i]);
    }
    cr_assert_eq(io_close_wait(io, fd), 0);
}

/* Anywhere in a file, up to its end and over it: 262144 bytes from 3 on are there. */
IO_TEST(io_file, a_short_read_is_continued_by_the_backend)
{
    static const struct {
        uint64_t offset;
        uint32_t asked, there;
    } places[] = {
        {3, 1, 1},
        {3, 2, 2},
        {5, 3, 3},
        {700, 511, 511},
        {4096, 1023, 1023},
        {4096, 1024, 1024},
        {12345, 5000, 5000},
        {3, 262144, 262144},
        {262144 - 97, 100, 100},
        {262144, 8192, 3},
        {200000, 262144, 62147},
        {200000, 100000, 62147},
        {262147, 4096, 0},
    };
    static uint8_t data[262144 + 3], in[262144];
    int fd = create(io, path_a);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 13 + (i >> 8));
    cr_assert_eq(io_write_wait(io, fd, data, sizeof data, 0), sizeof data);
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        struct probe read_op = {0};
        fault_disarm_all();
        fault_arm(FAULT_IO_SHORT_READ, 1, 1, EIO);
        memset(in, 0xee, sizeof in);
        io_read(io, &read_op.op, fd, in, places[i].asked, places[i].offset, probe_done);
        cr_assert_eq(fault_check(FAULT_IO_SHORT_READ), 0, "the read was the first hit");
        cr_assert_eq(probe_wait(io, &read_op), (int)places[i].there, "place %zu", i);
        cr_assert_eq(memcmp(in, data + places[i].offset, places[i].there), 0, "place %zu", i);
        if (places[i].asked < sizeof in)
            cr_assert_eq(in[places[i].asked], 0xee, "place %zu", i);
    }
    cr_assert_eq(io_close_wait(io, fd), 0);
}

/* The second piece of each stops at the end of the file, off a block; what follows that is refused or empty. */
IO_TEST(io_file, a_short_direct_read_goes_on_to_the_end_of_the_file)
{
    uint8_t *buf = aligned_alloc(4096, 32768), *in = aligned_alloc(4096, 32768);
    int fd = create(io, path_a);
    for (size_t i = 0; i < 32768; i++)
        buf[i] = (uint8_t)(i * 7 + (i >> 8));
    cr_assert_eq(io_write_wait(io, fd, buf, 21000, 0), 21000);
    cr_assert_eq(io_close_wait(io, fd), 0);
    fd = io_open_wait(io, path_a, O_RDONLY | O_DIRECT, 0);
    if (fd == E_INVALID)
        cr_skip_test("no O_DIRECT here");
    for (uint32_t offset = 0; offset <= 20480; offset += 4096) {
        for (uint32_t size = 8192; size <= 32768; size += 8192) {
            int there = (int)(offset + size < 21000 ? size : 21000 - offset);
            memset(in, 0, 32768);
            fault_arm(FAULT_IO_SHORT_READ, 1, 1, EIO);
            cr_assert_eq(io_read_wait(io, fd, in, size, offset), there, "%u at %u", size, offset);
            fault_disarm_all();
            cr_assert_eq(memcmp(in, buf + offset, (size_t)there), 0, "%u at %u", size, offset);
        }
    }
    cr_assert_eq(io_close_wait(io, fd), 0);
    free(buf);
    free(in);
}

IO_TEST(io_file, a_short_direct_write_stays_on_blocks)
{
    uint8_t *buf = aligned_alloc(4096, 12288);
    cr_assert_eq(io_close_wait(io, create(io, path_a)), 0);
    int fd = io_open_wait(io, path_a, O_RDWR | O_DIRECT, 0);
    if (fd == E_INVALID)
        cr_skip_test("no O_DIRECT here");
    memset(buf, 'q', 12288);
    for (uint32_t size = 4096; size <= 12288; size += 4096) {
        fault_arm(FAULT_IO_SHORT_WRITE, 1, 1, EIO);
        cr_assert_eq(io_write_wait(io, fd, buf, size, 0), (int)size);
        fault_disarm_all();
    }
    cr_assert_eq(io_close_wait(io, fd), 0);
    free(buf);
}

/* ---- what start-up asks ---- */

static int count_entry(void *context, const char *name, uint64_t size_bytes)
{
    uint64_t *seen = context;
    if (strcmp(name, "a") == 0)
        seen[0] += 1 + size_bytes;
    else if (strcmp(name, "b") == 0)
        seen[1] += 1 + size_bytes;
    else
        seen[2]++;
    return 0;
}

static int stop_at_once(void *context, const char *name, uint64_t size_bytes)
{
    (*(int *)context)++;
    return -77;
}

IO_TEST(io_file, a_directory_is_listed_with_sizes_and_without_dots)
{
    uint64_t seen[3] = {0};
    int visits = 0;
    int a = create(io, path_a);
    int b = create(io, path_b);
    cr_assert_eq(io_write_wait(io, b, "12345", 5, 0), 5);
    cr_assert_eq(io_list(io, directory, count_entry, seen), 0);
    cr_assert_eq(seen[0], 1);
    cr_assert_eq(seen[1], 6);
    cr_assert_eq(seen[2], 0);
    cr_assert_eq(io_list(io, directory, stop_at_once, &visits), -77);
    cr_assert_eq(visits, 1);
    cr_assert_eq(io_list(io, "/nonexistent", count_entry, seen), E_NOT_FOUND);
    cr_assert_eq(io_close_wait(io, a), 0);
    cr_assert_eq(io_close_wait(io, b), 0);
}

IO_TEST(io_file, mkdir_is_content_with_a_directory_that_is_there)
{
    cr_assert_eq(io_mkdir(io, path_a), 0);
    cr_assert_eq(io_mkdir(io, path_a), 0);
    cr_assert_eq(rmdir(path_a), 0);
    cr_assert_eq(io_close_wait(io, create(io, path_a)), 0);
    cr_assert_eq(io_mkdir(io, path_a), E_EXISTS, "but not with a file");
    cr_assert_eq(io_mkdir(io, "/nonexistent/x"), E_NOT_FOUND);
}

IO_TEST(io_file, file_systems_in_memory_are_known_as_such)
{
    struct io_fs_info info;
    cr_assert_eq(io_fs_info(io, directory, &info), 0);
    cr_assert_gt(info.total_bytes, info.free_bytes);
    cr_assert_neq(info.type[0], '\0');
    cr_assert_eq(io_fs_info(io, "/nonexistent", &info), E_NOT_FOUND);
    if (io_fs_info(io, "/dev/shm", &info) != 0 || strcmp(info.type, "tmpfs") != 0)
        cr_skip_test("no tmpfs at /dev/shm");
    cr_assert(info.is_memory);
    cr_assert_eq(io_fs_info(io, "/proc", &info), 0);
    cr_assert(!info.is_memory);
    cr_assert_str_eq(info.type, "0x9fa0", "others show their magic");
}

IO_TEST(io_file, a_lock_is_exclusive_until_its_descriptor_is_closed)
{
    int fd = io_lock_file(io, path_a);
    cr_assert_geq(fd, 0);
    cr_assert_eq(io_lock_file(io, path_a), E_LOCKED);
    cr_assert_eq(io_close_wait(io, fd), 0);
    fd = io_lock_file(io, path_a);
    cr_assert_geq(fd, 0);
    cr_assert_eq(io_close_wait(io, fd), 0);
    cr_assert_eq(io_lock_file(io, "/nonexistent/lock"), E_NOT_FOUND);
}
