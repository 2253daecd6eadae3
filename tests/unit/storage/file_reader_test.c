/* Ranges of a file in any order and of any length are what the file holds; and under AddressSanitizer nothing behind a range may be
 * touched, in whatever order ranges came. */
#include <errno.h>

#include "base/poison.h"
#include "base/random.h"
#include "base/status.h"
#include "storage/file_reader.h"
#include "storage/format.h"
#include "tests/unit/storage/disk_fixture.h"

#define FILE_BYTES ((uint64_t)(21 * MIB + 3 * DISK_BLOCK))
#define RANGE_BYTES_MAX ((uint32_t)(300 * KIB))
#define GUARDED_BYTES ((uint64_t)(64 * KIB))

static struct disk_fixture disk;
static struct file_reader reader;
static uint8_t *content;
static int fd;

static void setup(void)
{
    char path[96];
    struct random random;
    disk_setup(&disk);
    content = malloc(FILE_BYTES);
    random_init(&random, 5);
    for (uint64_t i = 0; i < FILE_BYTES; i += 8)
        memcpy(content + i, &(uint64_t){random_u64(&random)}, 8);
    disk_write(&disk, "file", content, FILE_BYTES, 0);
    snprintf(path, sizeof(path), "%s/file", disk.dir);
    fd = open(path, O_RDONLY);
    cr_assert_geq(fd, 0);
    cr_assert_eq(file_reader_init(&reader, disk.io, RANGE_BYTES_MAX), 0);
    file_reader_open(&reader, fd, FILE_BYTES);
}

static void teardown(void)
{
    file_reader_deinit(&reader);
    close(fd);
    free(content);
    disk_teardown(&disk);
}

TestSuite(file_reader, .init = setup, .fini = teardown);

/* The range itself may be read, what follows it may not, as far as is promised and the buffer goes. */
static void expect_guarded(const uint8_t *bytes, uint32_t len)
{
#ifdef SLUICE_ASAN
    uint64_t end = (uint64_t)(bytes - reader.buffer) + len;
    uint64_t guarded = min_u64(GUARDED_BYTES, reader.capacity - end);
    cr_assert_null(__asan_region_is_poisoned((void *)(uintptr_t)bytes, len));
    for (uint64_t i = align_up(end, 8) - end; i + 8 <= guarded; i += 8)
        cr_assert(__asan_address_is_poisoned(bytes + len + i), "%lu behind the end", i);
#else
    (void)bytes;
    (void)len;
#endif
}

static void expect_range(uint64_t offset, uint32_t len)
{
    uint8_t *bytes;
    cr_assert_eq(file_reader_bytes(&reader, offset, len, &bytes), 0);
    cr_assert_eq(memcmp(bytes, content + offset, len), 0, "%u at %lu", len, offset);
    expect_guarded(bytes, len);
}

Test(file_reader, a_file_from_front_to_back_in_blocks)
{
    for (uint64_t at = 0; at + DISK_BLOCK <= FILE_BYTES; at += DISK_BLOCK)
        expect_range(at, DISK_BLOCK);
}

Test(file_reader, ranges_of_any_length_forwards_backwards_and_anywhere)
{
    struct random random;
    random_init(&random, 6);
    uint64_t at = 0;
    for (int i = 0; i < 4000; i++) {
        uint32_t len =
            1 + (uint32_t)random_below(&random, i % 3 ? 2 * DISK_BLOCK : RANGE_BYTES_MAX);
        if (random_below(&random, 50) == 0 || at + len > FILE_BYTES)
            at = random_below(&random, FILE_BYTES - len);
        expect_range(at, len);
        at += random_below(&random, 4) == 0 ? 0 : random_below(&random, len);
    }
}

Test(file_reader, a_range_behind_the_end_is_refused_and_the_next_is_read)
{
    uint8_t *bytes;
    expect_range(FILE_BYTES - 100, 100);
    cr_assert_eq(file_reader_bytes(&reader, FILE_BYTES - 100, 101, &bytes), E_TRUNCATED);
    cr_assert_eq(file_reader_bytes(&reader, FILE_BYTES + 1, 1, &bytes), E_TRUNCATED);
    cr_assert_eq(file_reader_bytes(&reader, UINT64_MAX, 2, &bytes), E_TRUNCATED);
    expect_range(0, DISK_BLOCK);
}

Test(file_reader, a_file_that_is_shorter_than_it_was_said_to_be_is_truncated)
{
    uint8_t *bytes;
    disk_truncate(&disk, "file", 5 * MIB + 100);
    file_reader_open(&reader, fd, FILE_BYTES);
    expect_range(5 * MIB, 100);
    cr_assert_eq(file_reader_bytes(&reader, 5 * MIB, DISK_BLOCK, &bytes), E_TRUNCATED);
    cr_assert_eq(file_reader_bytes(&reader, 6 * MIB, 1, &bytes), E_TRUNCATED);
    expect_range(64 * KIB, RANGE_BYTES_MAX);
}

Test(file_reader, a_failed_read_is_told_with_its_error)
{
    uint8_t *bytes;
    int directory = open(disk.dir, O_RDONLY);
    file_reader_open(&reader, directory, FILE_BYTES);
    cr_assert_eq(file_reader_bytes(&reader, 0, 1, &bytes), E_INVALID);
    cr_assert_eq(reader.os_error, EISDIR);
    close(directory);
}
