/* Built without libfuse: the disk in user space is skipped, visibly. */
#include "tests/soak/fuse_image.h"

const char *fuse_image_missing(void)
{
    return "built without libfuse3";
}

pid_t fuse_image_start(const char *image_path, const char *mount_point,
                       struct fuse_control *control)
{
    return 0;
}
