#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "state.h"
#include "text.h"

int inside_pid(void) {
  char *text = text_read_file(PID_FILE, 64);
  int pid = text ? atoi(text) : 0;
  free(text);
  return pid;
}

int inside_open(const char *name, int flags) {
  int pid = inside_pid();
  errno = ESRCH;
  if (!pid) return -1;
  char *path = text_format("/proc/%d/%s", pid, name);
  int fd = open(path, flags | O_CLOEXEC);
  free(path);
  return fd;
}

int inside_enter(void) {
  static const struct {
    const char *name;
    int type;
  } kinds[] = {{"ns/cgroup", CLONE_NEWCGROUP}, {"ns/pid", CLONE_NEWPID}, {"ns/mnt", CLONE_NEWNS}};
  enum { KINDS = sizeof kinds / sizeof *kinds };
  int spaces[KINDS], done = 0;
  // All are opened first: what /proc is changes with the last one.
  for (int at = 0; at < KINDS; at++)
    if ((spaces[at] = inside_open(kinds[at].name, O_RDONLY)) < 0) done = -1;
  for (int at = 0; at < KINDS && done == 0; at++) done = setns(spaces[at], kinds[at].type);
  for (int at = 0; at < KINDS; at++)
    if (spaces[at] >= 0) close(spaces[at]);
  return done;
}

int inside_find(int root, const char *path, int flags) {
  struct open_how how = {.flags = (uint64_t)(flags | O_PATH | O_CLOEXEC), .resolve = RESOLVE_IN_ROOT};
  return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}
