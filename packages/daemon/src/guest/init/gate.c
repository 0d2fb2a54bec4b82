#include "gate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "state.h"
#include "text.h"

#define GATE_FILE STATE_FOLDER "/gate"
enum { LOOK_MS = 2 };

int gate_find(void) { return open(GATE_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600); }

static void lock(int gate, int how) {
  while (flock(gate, how) < 0 && errno == EINTR) {
  }
}

// The lock lasts until the kernel has closed our descriptors, which is a part of our end.
void gate_pass(int gate) { lock(gate, LOCK_SH); }

// A process that ends has given up its memory, and with it its command line, before its descriptors; the server's wait for it takes it off the list.
static bool ends(const char *pid) {
  char *path = text_format("/proc/%s/cmdline", pid), first;
  int line = open(path, O_RDONLY | O_CLOEXEC);
  bool empty = line >= 0 && read(line, &first, 1) < 1;
  if (line >= 0) close(line);
  free(path);
  return empty;
}

static bool some_sibling_ends(void) {
  char *path = text_format("/proc/%d/task/%d/children", getppid(), getppid());
  char *list = text_read_file(path, 64 << 10), *rest = list, *pid;
  bool some = false;
  while ((pid = strsep(&rest, " ")))
    if (*pid && ends(pid)) some = true;
  free(list);
  free(path);
  return some;
}

int gate_keep(void) {
  int gate = gate_find();
  char word;
  while (read(0, &word, 1) == 1) {
    if (word == 'o') lock(gate, LOCK_UN);
    if (word != 'c') continue;
    lock(gate, LOCK_EX);
    while (some_sibling_ends()) nanosleep(&(struct timespec){0, LOOK_MS * 1000000}, NULL);
    if (write(1, "c", 1) != 1) break;
  }
  return 0;
}
