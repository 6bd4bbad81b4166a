/* Loaded before the C library: writes down what a process writes, syncs, renames and removes below a folder.

   One call at a time, and each is on record before the next begins, so that the order is the true one; a process that
   kills itself does so between two calls. A program that the process starts is on the same record, under its own number.
   The record is read by tests/powerloss/events.py.

   HELMR_TEST_KILL_BEFORE_SYNC=N ends the process by SIGKILL in place of its Nth sync of a file whose name ends as
   HELMR_TEST_KILL_AT_FILE says: what it wrote before is in the machine's memory, and not on disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BEGIN, OPEN, MAKE, CLOSE, WRITE, TRUNCATE, ALLOCATE, SYNC, RENAME, REMOVE };
enum { DESCRIPTORS = 65536 };

struct event {
  uint32_t kind;
  int32_t descriptor;
  int32_t process, parent;
  int64_t first, second;
  uint64_t length;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char below[4096];
static int record = -1;
static pid_t own; /* a child that was forked and has not become a program yet is none of this one's */
static char is_watched[DESCRIPTORS], is_counted[DESCRIPTORS];
static const char *kill_at;
static long syncs_left;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
  const char *folder = getenv("HELMR_TEST_RECORD_BELOW"), *file = getenv("HELMR_TEST_RECORD");
  if (folder == NULL || file == NULL || strlen(folder) >= sizeof below) return;
  strcpy(below, folder);
  kill_at = getenv("HELMR_TEST_KILL_AT_FILE");
  const char *number = getenv("HELMR_TEST_KILL_BEFORE_SYNC");
  if (number != NULL) syncs_left = atol(number);
  record = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  own = getpid();
  struct event one = {BEGIN, -1, own, getppid(), 0, 0, 0};
  if (record >= 0) syscall(SYS_write, record, &one, sizeof one);
}

static void note(int kind, int descriptor, int64_t first, int64_t second, const void *data, size_t length) {
  struct event one = {(uint32_t)kind, descriptor, own, 0, first, second, length};
  struct iovec parts[2] = {{&one, sizeof one}, {(void *)data, length}};
  if (syscall(SYS_writev, record, parts, 2) != (long)(sizeof one + length)) abort();
}

static int is_below(const char *path) {
  return record >= 0 && path != NULL && strncmp(path, below, strlen(below)) == 0 && getpid() == own;
}

static int is_known(int descriptor) {
  return record >= 0 && descriptor >= 0 && descriptor < DESCRIPTORS && is_watched[descriptor] && getpid() == own;
}

static int ends_so(const char *path, const char *end) {
  size_t length = strlen(path), tail = end == NULL ? 0 : strlen(end);
  return tail > 0 && length >= tail && strcmp(path + length - tail, end) == 0;
}

static int opened(const char *path, int flags, mode_t mode) {
  if (!is_below(path)) return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  pthread_mutex_lock(&lock);
  int is_new = access(path, F_OK) != 0;
  int descriptor = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
  if (descriptor >= 0 && descriptor < DESCRIPTORS) {
    is_watched[descriptor] = 1;
    is_counted[descriptor] = (char)ends_so(path, kill_at);
    note(is_new ? MAKE : OPEN, descriptor, 0, 0, path, strlen(path));
    if (flags & O_TRUNC && !is_new) note(TRUNCATE, descriptor, 0, 0, NULL, 0);
  }
  pthread_mutex_unlock(&lock);
  return descriptor;
}

static mode_t mode_of(int flags, va_list more) {
  return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(more, int) : 0;
}

#define OPENING(name)                   \
  int name(const char *path, int flags, ...) { \
    va_list more;                       \
    va_start(more, flags);              \
    mode_t mode = mode_of(flags, more); \
    va_end(more);                       \
    return opened(path, flags, mode);   \
  }
OPENING(open)
OPENING(open64)

int openat(int folder, const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = mode_of(flags, more);
  va_end(more);
  if (is_below(path)) return opened(path, flags, mode);
  return (int)syscall(SYS_openat, folder, path, flags, mode);
}

/* `cp` writes instead. */
ssize_t copy_file_range(int from, off64_t *from_place, int to, off64_t *to_place, size_t length, unsigned flags) {
  if (!is_known(to)) return syscall(SYS_copy_file_range, from, from_place, to, to_place, length, flags);
  errno = ENOSYS;
  return -1;
}

int close(int descriptor) {
  if (!is_known(descriptor)) return REAL(close)(descriptor);
  pthread_mutex_lock(&lock);
  is_watched[descriptor] = 0;
  int result = REAL(close)(descriptor);
  note(CLOSE, descriptor, 0, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  return result;
}

static ssize_t written(int descriptor, const void *data, size_t length, off_t place, int is_placed) {
  if (!is_known(descriptor))
    return is_placed ? syscall(SYS_pwrite64, descriptor, data, length, place) : syscall(SYS_write, descriptor, data, length);
  pthread_mutex_lock(&lock);
  if (!is_placed) {
    struct stat now;
    fstat(descriptor, &now);
    place = fcntl(descriptor, F_GETFL) & O_APPEND ? now.st_size : lseek(descriptor, 0, SEEK_CUR);
  }
  ssize_t done = is_placed ? syscall(SYS_pwrite64, descriptor, data, length, place) : syscall(SYS_write, descriptor, data, length);
  if (done > 0) note(WRITE, descriptor, place, 0, data, (size_t)done);
  pthread_mutex_unlock(&lock);
  return done;
}

ssize_t write(int descriptor, const void *data, size_t length) { return written(descriptor, data, length, 0, 0); }
ssize_t pwrite(int descriptor, const void *data, size_t length, off_t place) { return written(descriptor, data, length, place, 1); }
ssize_t pwrite64(int descriptor, const void *data, size_t length, off64_t place) { return written(descriptor, data, length, place, 1); }

static int truncated(int descriptor, off_t size) {
  if (!is_known(descriptor)) return (int)syscall(SYS_ftruncate, descriptor, size);
  pthread_mutex_lock(&lock);
  int result = (int)syscall(SYS_ftruncate, descriptor, size);
  if (result == 0) note(TRUNCATE, descriptor, size, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  return result;
}

int ftruncate(int descriptor, off_t size) { return truncated(descriptor, size); }
int ftruncate64(int descriptor, off64_t size) { return truncated(descriptor, size); }

static int allocated(int descriptor, int mode, off_t place, off_t length) {
  if (!is_known(descriptor)) return (int)syscall(SYS_fallocate, descriptor, mode, place, length);
  pthread_mutex_lock(&lock);
  int result = (int)syscall(SYS_fallocate, descriptor, mode, place, length);
  int64_t end = place + length;
  if (result == 0) note(ALLOCATE, descriptor, mode ? -place - 1 : end, end, NULL, 0);
  pthread_mutex_unlock(&lock);
  return result;
}

int fallocate(int descriptor, int mode, off_t place, off_t length) { return allocated(descriptor, mode, place, length); }
int fallocate64(int descriptor, int mode, off64_t place, off64_t length) { return allocated(descriptor, mode, place, length); }
int posix_fallocate(int descriptor, off_t place, off_t length) {
  return allocated(descriptor, 0, place, length) == 0 ? 0 : errno;
}
int posix_fallocate64(int descriptor, off64_t place, off64_t length) {
  return allocated(descriptor, 0, place, length) == 0 ? 0 : errno;
}

static int synced(int descriptor, long call) {
  if (!is_known(descriptor)) return (int)syscall(call, descriptor);
  pthread_mutex_lock(&lock);
  if (is_counted[descriptor] && syncs_left > 0 && --syncs_left == 0) syscall(SYS_kill, getpid(), SIGKILL);
  int result = (int)syscall(call, descriptor);
  if (result == 0) note(SYNC, descriptor, 0, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  return result;
}

int fsync(int descriptor) { return synced(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return synced(descriptor, SYS_fdatasync); }

int rename(const char *from, const char *to) {
  if (!is_below(from) && !is_below(to)) return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
  pthread_mutex_lock(&lock);
  int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
  char both[8192];
  int length = snprintf(both, sizeof both, "%s\n%s", from, to);
  if (result == 0) note(RENAME, -1, 0, 0, both, (size_t)length);
  pthread_mutex_unlock(&lock);
  return result;
}

static int removed(const char *path) {
  if (!is_below(path)) return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  pthread_mutex_lock(&lock);
  int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  if (result == 0) note(REMOVE, -1, 0, 0, path, strlen(path));
  pthread_mutex_unlock(&lock);
  return result;
}

int unlink(const char *path) { return removed(path); }

int remove(const char *path) {
  struct stat found;
  if (is_below(path) && lstat(path, &found) == 0 && !S_ISDIR(found.st_mode)) return removed(path);
  return REAL(remove)(path);
}

/* A process that ends itself leaves no call half on record. */
int kill(pid_t pid, int number) {
  if (pid == getpid() && number == SIGKILL) pthread_mutex_lock(&lock);
  return (int)syscall(SYS_kill, pid, number);
}
