#include "cgroups.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text.h"

static int write_file(const char *group, const char *name, const char *words) {
  char *path = text_format("%s/%s", group, name);
  int done = text_write_file(path, words, strlen(words), 0);
  free(path);
  return done;
}

// Lets the groups below this one have every controller there is.
static void share_controllers(const char *group) {
  char *path = text_format("%s/cgroup.controllers", group), *list = text_read_file(path, 4096), *rest = list, *name;
  while (list && (name = strsep(&rest, " \n"))) {
    if (!*name) continue;
    char *wish = text_format("+%s", name);
    write_file(group, "cgroup.subtree_control", wish);
    free(wish);
  }
  free(list);
  free(path);
}

void cgroups_make(void) {
  mount("cgroup2", CGROUPS, "cgroup2", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
  share_controllers(CGROUPS);
  mkdir(PROGRAMS_GROUP, 0755);
  share_controllers(PROGRAMS_GROUP);
  mkdir(IMAGE_GROUP, 0755);
  mkdir(TOOLS_GROUP, 0755);
  mkdir(HOOK_GROUP, 0755);
}

int cgroup_open(const char *group) {
  char *path = text_format("%s/cgroup.procs", group);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  free(path);
  return fd;
}

int cgroup_join(int group) { return write(group, "0", 1) == 1 ? 0 : -1; }

void cgroup_kill(const char *group) { write_file(group, "cgroup.kill", "1"); }

int cgroups_freeze(bool frozen) { return write_file(PROGRAMS_GROUP, "cgroup.freeze", frozen ? "1" : "0"); }

bool cgroups_frozen(void) {
  char *events = text_read_file(PROGRAMS_GROUP "/cgroup.events", 4096);
  bool frozen = events && strstr(events, "frozen 1");
  free(events);
  return frozen;
}

int cgroups_events(void) { return open(PROGRAMS_GROUP "/cgroup.events", O_RDONLY | O_CLOEXEC); }
