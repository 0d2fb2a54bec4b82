#include "sessions.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

struct entry {
  pid_t pid, parent, session;
};

struct list {
  struct entry *entries;
  size_t count;
};

// proc(5): the name stands in brackets and may contain anything.
static bool read_entry(const char *name, struct entry *entry) {
  char *path = text_format("/proc/%s/stat", name), *stat = text_read_file(path, 4096);
  char *end = stat ? strrchr(stat, ')') : NULL;
  entry->pid = atoi(name);
  bool read = end && sscanf(end, ") %*c %d %*d %d", &entry->parent, &entry->session) == 2;
  free(stat);
  free(path);
  return read;
}

static struct list read_all(void) {
  struct list list = {NULL, 0};
  DIR *folder = opendir("/proc");
  for (struct dirent *found; folder && (found = readdir(folder));) {
    struct entry entry;
    if (found->d_name[0] < '0' || found->d_name[0] > '9' || !read_entry(found->d_name, &entry)) continue;
    list.entries = realloc(list.entries, (list.count + 1) * sizeof entry);
    if (!list.entries) abort();
    list.entries[list.count++] = entry;
  }
  if (folder) closedir(folder);
  return list;
}

// A program of exec leads a session of its own; what it began and did not let go of has that session's number.
static void end_program(const struct list *all, pid_t program) {
  kill(program, SIGKILL);
  for (size_t at = 0; at < all->count; at++)
    if (all->entries[at].session == program) kill(all->entries[at].pid, SIGKILL);
}

void sessions_end(pid_t server) {
  if (server <= 0) return;
  struct list all = read_all();
  for (size_t at = 0; at < all.count; at++) {
    pid_t helper = all.entries[at].pid;
    if (all.entries[at].parent != server) continue;
    for (size_t other = 0; other < all.count; other++)
      if (all.entries[other].parent == helper) end_program(&all, all.entries[other].pid);
    kill(helper, SIGKILL);
  }
  free(all.entries);
}
