#include "tests/sim/world/short_reader.h"

#include <string.h>

#include "storage/file_reader.h"
#include "tests/sim/world/world.h"

static bool is_short;
static _Alignas(SIM_BLOCK) uint8_t zeros[SIM_BLOCK];

int __wrap_file_reader_bytes(struct file_reader *reader, uint64_t offset, uint32_t len,
                             uint8_t **bytes);
int __real_file_reader_bytes(struct file_reader *reader, uint64_t offset, uint32_t len,
                             uint8_t **bytes);

void reader_be_short(bool on)
{
    is_short = on;
}

/* Nobody may have written into what was lent. */
bool reader_is_intact(void)
{
    return zeros[0] == 0 && memcmp(zeros, zeros + 1, sizeof(zeros) - 1) == 0;
}

static struct sim_file *file_of(int fd)
{
    struct process *process = process_current();
    bool is_fd = process && fd >= IO_SIM_FD_BASE && fd < IO_SIM_FD_BASE + IO_SIM_FILES_MAX;
    return is_fd ? process->files.slots[fd - IO_SIM_FD_BASE].file : NULL;
}

static bool is_hole(const struct sim_file *file, uint64_t offset, uint32_t len)
{
    uint64_t block = offset / SIM_BLOCK;
    return offset % SIM_BLOCK + len <= SIM_BLOCK &&
           (block >= file->block_count || file->seen[block] == NULL);
}

int __wrap_file_reader_bytes(struct file_reader *reader, uint64_t offset, uint32_t len,
                             uint8_t **bytes)
{
    const struct sim_file *file = file_of(reader->fd);
    if (!is_short || file == NULL)
        return __real_file_reader_bytes(reader, offset, len, bytes);
    if (offset > reader->file_bytes || len > reader->file_bytes - offset ||
        offset + len > file->size)
        return E_TRUNCATED;
    if (is_hole(file, offset, len)) {
        *bytes = zeros;
        return 0;
    }
    ASSERT(len <= reader->capacity);
    (void)sim_file_read(file, reader->buffer, offset, len);
    reader->len = 0; // what the real one would find there
    *bytes = reader->buffer;
    return 0;
}
