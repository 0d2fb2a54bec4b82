#include "ports.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "text.h"

enum { PORT_LIMIT_MS = 5000 };
static int device_events = -1;

static void module_load(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
    fprintf(stderr, "berth: cannot load %s: %s\n", path, strerror(errno));
  if (fd >= 0) close(fd);
}

void modules_load(const char *last) {
  static char *list, *rest;
  if (!list) rest = list = text_read_file("/etc/modules", 1 << 16);
  char *path;
  while ((path = strsep(&rest, "\n"))) {
    if (!*path) continue;
    module_load(path);
    if (last && strstr(path, last)) return;
  }
}

static int open_terminal(const char *path, int raw) {
  int fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  struct termios settings;
  if (fd >= 0 && raw && tcgetattr(fd, &settings) == 0) {
    cfmakeraw(&settings);
    tcsetattr(fd, TCSANOW, &settings);
  }
  return fd;
}

// Ports are numbered by the machine; their names stand in sysfs. A console port is reached as a terminal instead: the second one is hvc1.
static int try_port(const char *name) {
  DIR *folder = opendir("/sys/class/virtio-ports");
  int fd = -1;
  for (struct dirent *entry; folder && fd < 0 && (entry = readdir(folder));) {
    if (entry->d_name[0] == '.') continue;
    char *path = text_format("/sys/class/virtio-ports/%s/name", entry->d_name);
    char *found = text_read_file(path, 4096);
    free(path);
    if (found) found[strcspn(found, "\n")] = '\0';
    if (found && strcmp(found, name) == 0) {
      path = text_format("/dev/%s", entry->d_name);
      fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
      free(path);
      if (fd < 0) fd = open_terminal("/dev/hvc1", 1);
    }
    free(found);
  }
  if (folder) closedir(folder);
  return fd;
}

void ports_watch(void) {
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
  device_events = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
  if (bind(device_events, (struct sockaddr *)&address, sizeof address) < 0)
    fprintf(stderr, "berth: cannot watch for devices: %s\n", strerror(errno));
}

int port_open(const char *name) {
  for (;;) {
    int fd = try_port(name);
    if (fd >= 0) return fd;
    // Ports are found, and named, some time after their module was loaded.
    if (poll(&(struct pollfd){device_events, POLLIN, 0}, 1, PORT_LIMIT_MS) < 1) return -1;
    char event[4096];
    while (recv(device_events, event, sizeof event, 0) > 0) {
    }
  }
}

int console_open(int raw) { return open_terminal("/dev/hvc0", raw); }
