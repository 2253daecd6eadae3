/* A few slots of shared memory, and the process that waits. */
#include "bench/engine/undo.h"

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLOT_COUNT 16
#define DIRECTORIES_OPEN_MAX 16
#define UNMOUNT_TRIES 200
#define UNMOUNT_WAIT_US 10000

enum kind { FREE, DIRECTORY, MOUNT };

struct slot {
    _Atomic int kind; // set when path is
    char path[PATH_MAX];
};

static struct slot *slots; // shared by both processes; NULL: nobody would undo anything

static void undo_all(void);

/* ---- in the child ---- */

static struct slot *take_slot(const char *path)
{
    for (size_t i = 0; slots && i < SLOT_COUNT; i++) {
        if (slots[i].kind != FREE)
            continue;
        snprintf(slots[i].path, PATH_MAX, "%s", path);
        return &slots[i];
    }
    ASSERT(slots == NULL);
    return NULL;
}

static void forget(enum kind kind, const char *path)
{
    for (size_t i = 0; slots && i < SLOT_COUNT; i++) {
        if (slots[i].kind == (int)kind && strcmp(slots[i].path, path) == 0)
            slots[i].kind = FREE;
    }
}

/* In the slot itself, which so has the directory's name before there is one. */
int undo_make_directory(char *path)
{
    struct slot *slot = take_slot(path);
    if (slot == NULL)
        return mkdtemp(path) ? 0 : -1;
    slot->kind = DIRECTORY;
    if (mkdtemp(slot->path) == NULL) {
        slot->kind = FREE;
        return -1;
    }
    strcpy(path, slot->path);
    return 0;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

static void remove_all(const char *path)
{
    (void)nftw(path, remove_one, DIRECTORIES_OPEN_MAX, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

void undo_remove_directory(const char *path)
{
    remove_all(path);
    forget(DIRECTORY, path);
}

void undo_note_mount(const char *path)
{
    struct slot *slot = take_slot(path);
    if (slot)
        slot->kind = MOUNT;
}

void undo_forget_mount(const char *path)
{
    forget(MOUNT, path);
}

pid_t undo_fork(void)
{
    pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127); // it has ended already
    return 0;
}

/* ---- in the parent ---- */

/* Those that are not ignored: what nohup or a shell's & keeps from a command stays away. */
static void wanted_signals(sigset_t *set)
{
    static const int signals[] = {SIGHUP, SIGINT, SIGTERM};
    struct sigaction action;
    sigemptyset(set);
    for (size_t i = 0; i < ARRAY_COUNT(signals); i++) {
        if (sigaction(signals[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(set, signals[i]);
    }
    sigaddset(set, SIGCHLD);
}

/* Returns the signal that came, or that the child died of; or 0 and its exit code. *child is 0 when it is no more. */
static int wait_for(pid_t *child, const sigset_t *set, int *code)
{
    for (;;) {
        int number, status;
        if (sigwait(set, &number) != 0)
            continue;
        if (number != SIGCHLD)
            return number;
        if (waitpid(*child, &status, WNOHANG) != *child)
            continue; // another one, that the child has left behind
        *child = 0;
        *code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
        return WIFEXITED(status) ? 0 : WTERMSIG(status);
    }
}

static void end_by(int number)
{
    struct rlimit none = {0, 0};
    sigset_t set;
    (void)setrlimit(RLIMIT_CORE, &none); // the child has written one, if it was to
    (void)signal(number, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, number);
    (void)raise(number);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
    _exit(128 + number);
}

int undo_run(int (*work)(void *context), void *context)
{
    sigset_t set, before;
    void *memory = mmap(NULL, SLOT_COUNT * sizeof(struct slot), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        fprintf(stderr, "sluice-bench: out of memory\n");
        return 1;
    }
    slots = memory;
    wanted_signals(&set);
    (void)signal(SIGCHLD, SIG_DFL); // ignored, children would leave no status
    sigprocmask(SIG_BLOCK, &set, &before);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1); // what the child has started becomes ours when it dies
    pid_t child = undo_fork();
    if (child == 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        exit(work(context));
    }
    int code = 1, number = 0;
    if (child > 0) {
        number = wait_for(&child, &set, &code);
        if (child > 0)
            kill(child, SIGKILL);
    } else {
        fprintf(stderr, "sluice-bench: fork: %s\n", strerror(errno));
    }
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) // what the child had started dies with it
        continue;
    undo_all();
    if (number)
        end_by(number);
    return code;
}

/* The rings of a broker that was killed hold its files open for a moment longer. */
static void unmount(const char *path)
{
    for (int i = 0; i < UNMOUNT_TRIES; i++) {
        if (umount2(path, 0) == 0 || errno != EBUSY)
            return; // it may not have been mounted yet
        usleep(UNMOUNT_WAIT_US);
    }
    (void)umount2(path, MNT_DETACH);
}

static void undo_all(void)
{
    for (size_t i = SLOT_COUNT; i-- > 0;) {
        if (slots[i].kind == MOUNT)
            unmount(slots[i].path);
        if (slots[i].kind == DIRECTORY)
            remove_all(slots[i].path);
    }
}
