/* storage/disk_room.h: the judgement with its hysteresis, and that it is asked for at its time. */
#include "storage/disk_room.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "base/log.h"
#include "base/status.h"
#include "tests/sim/io_sim.h"

#define TOTAL (1000 * MIB)

static struct disk_room room;

static void init(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    disk_room_init(&room, 5, 2);
}
TestSuite(disk_room, .init = init);

/* free_mib -> the judgement, and that a change is told exactly when there is one. */
static void judge(uint64_t free_mib, enum store_room expected)
{
    enum store_room before = room.room;
    bool changed = disk_room_judge(&room, free_mib * MIB, TOTAL);
    cr_assert(eq(int, room.room, expected), "%lu MiB free", free_mib);
    cr_assert(eq(int, changed, expected != before), "%lu MiB free", free_mib);
    cr_assert(eq(u64, room.free_bytes, free_mib * MIB));
    cr_assert(eq(u64, room.total_bytes, TOTAL));
}

Test(disk_room, borders_are_passed_downwards_where_they_are)
{
    judge(1000, STORE_ROOM_OK);
    judge(50, STORE_ROOM_OK);
    judge(49, STORE_ROOM_LOW);
    judge(20, STORE_ROOM_LOW);
    judge(19, STORE_ROOM_FULL);
    judge(0, STORE_ROOM_FULL);
}

Test(disk_room, borders_are_passed_upwards_a_quarter_above_them)
{
    judge(0, STORE_ROOM_FULL);
    judge(24, STORE_ROOM_FULL);
    judge(25, STORE_ROOM_LOW);
    judge(62, STORE_ROOM_LOW);
    judge(63, STORE_ROOM_OK);
    judge(49, STORE_ROOM_LOW);
    judge(62, STORE_ROOM_LOW);
    judge(19, STORE_ROOM_FULL);
    judge(900, STORE_ROOM_OK); // at once, if it is that much
}

Test(disk_room, zero_percent_is_no_border)
{
    disk_room_init(&room, 0, 0);
    judge(0, STORE_ROOM_OK);
    disk_room_init(&room, 5, 0);
    judge(0, STORE_ROOM_LOW);
}

Test(disk_room, what_is_to_be_kept_back_is_not_free)
{
    room.missing_bytes = 100 * MIB;
    judge(150, STORE_ROOM_OK);
    judge(149, STORE_ROOM_LOW);
    judge(119, STORE_ROOM_FULL);
    judge(50, STORE_ROOM_FULL); // less than is missing
    room.missing_bytes = 0;
    judge(50, STORE_ROOM_LOW);
}

Test(disk_room, a_log_that_waits_for_a_file_makes_it_full_until_there_is_room_for_one)
{
    judge(100, STORE_ROOM_OK);
    room.needed_bytes = 200 * MIB;
    judge(100, STORE_ROOM_FULL);
    judge(249, STORE_ROOM_FULL);
    cr_assert(eq(u64, room.needed_bytes, 200 * MIB));
    judge(250, STORE_ROOM_OK);
    cr_assert(eq(u64, room.needed_bytes, 0));
    judge(100, STORE_ROOM_OK);
}

/* ---- polling ---- */

Test(disk_room, the_file_system_is_asked_when_it_is_time)
{
    struct sim_disk *disk = sim_disk_new(1, 100 * MIB);
    struct io *io = io_sim_new(disk, &(struct io_sim_options){.seed = 1});
    disk_room_init(&room, 100, 0); // any use at all is too much
    cr_assert_not(disk_room_poll(&room, io, ".", 0));
    cr_assert(eq(int, room.room, STORE_ROOM_OK));
    cr_assert(eq(u64, room.total_bytes, 100 * MIB));
    struct sim_file *file = sim_disk_create(disk, "file", false);
    cr_assert(sim_disk_allocate(disk, file, 0, 10 * MIB));
    cr_assert_not(disk_room_poll(&room, io, ".", DISK_ROOM_POLL_NS - 1));
    cr_assert(eq(int, room.room, STORE_ROOM_OK));
    cr_assert(disk_room_poll(&room, io, ".", DISK_ROOM_POLL_NS));
    cr_assert(eq(int, room.room, STORE_ROOM_LOW));
    io_free(io);
    sim_disk_free(disk);
}

Test(disk_room, a_failed_question_leaves_the_judgement_as_it_was)
{
    struct io_options options = {.backend = IO_BACKEND_EPOLL, .ops_max = 64, .file_threads = 1};
    struct io *io;
    log_set_level(LOG_LEVEL_ERROR + 1);
    cr_assert(eq(int, io_new(&options, &io), 0));
    judge(10, STORE_ROOM_FULL);
    cr_assert_not(disk_room_poll(&room, io, "/no/such/directory", NS_PER_S));
    cr_assert(eq(int, room.room, STORE_ROOM_FULL));
    cr_assert(eq(u64, room.free_bytes, 10 * MIB));
    cr_assert(eq(u64, room.next_poll_ns, NS_PER_S + DISK_ROOM_POLL_NS)); // and later again
    io_free(io);
}
