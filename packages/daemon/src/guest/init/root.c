#include "root.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "filesystem.h"
#include "text.h"
#include "volumes.h"

#define DISK "/dev/vda"

char *root_mount(void) {
  mkdir(ROOT, 0755);
  // Inode tables of a grown file system stay unwritten until they are used; their checksums make that safe and the disk stays sparse.
  if (mount(DISK, ROOT, "ext4", MS_RDONLY | MS_RELATIME, "noinit_itable") == 0) return NULL;
  return text_format("cannot mount the root disk: %s", strerror(errno));
}

char *root_open(void) {
  if (mount(NULL, ROOT, NULL, MS_REMOUNT | MS_RELATIME, NULL) == 0) return NULL;
  return text_format("cannot write to the root disk: %s", strerror(errno));
}

char *root_grow(uint64_t least) { return filesystem_grow(DISK, ROOT, least); }

int root_freeze(void) { return filesystem_freeze(ROOT); }

int root_thaw(void) { return filesystem_thaw(ROOT); }

// The kernel says "reboot: Power down" as an emergency, whatever its log level, and some kernels still get it out through the port
// that carries the process's output. The process has the last word there.
static void hush_kernel(void) {
  static const char nothing[] = "0";
  text_write_file("/proc/sys/kernel/printk", nothing, sizeof nothing - 1, 0);
}

void power_off(void) {
  hush_kernel();
  root_thaw();
  volumes_thaw();
  kill(-1, SIGKILL);
  while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
  }
  sync();
  volumes_close();
  filesystem_close(ROOT);
  reboot(RB_POWER_OFF);
  for (;;) pause();
}
