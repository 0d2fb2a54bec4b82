#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "text.h"

#define DISK "/dev/vda"
#define ROOT "/newroot"
// ext4's own: fs/ext4/ext4.h, not in the kernel's public headers.
#define EXT4_RESIZE _IOW('f', 16, uint64_t)

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

// The file system's size by its superblock (1024 bytes in: blocks at 4 and 336, block size at 24).
static int superblock_size(int disk, uint64_t *blocks, uint64_t *block_size) {
  unsigned char super[1024];
  uint32_t low, high, shift, features;
  if (pread(disk, super, sizeof super, 1024) != sizeof super) return -1;
  memcpy(&low, super + 4, 4);
  memcpy(&shift, super + 24, 4);
  memcpy(&features, super + 96, 4);
  memcpy(&high, super + 336, 4);
  if (shift > 6) return -1;
  *block_size = UINT64_C(1024) << shift;
  *blocks = low | (features & 0x80 ? (uint64_t)high << 32 : 0);
  return 0;
}

char *root_grow(void) {
  uint64_t bytes, blocks, block_size;
  int disk = open(DISK, O_RDONLY | O_CLOEXEC), root = open(ROOT, O_RDONLY | O_CLOEXEC), done = -1;
  if (disk >= 0 && root >= 0 && ioctl(disk, BLKGETSIZE64, &bytes) == 0 &&
      superblock_size(disk, &blocks, &block_size) == 0) {
    uint64_t wanted = bytes / block_size;
    done = wanted <= blocks ? 0 : ioctl(root, EXT4_RESIZE, &wanted);
  }
  char *problem = done < 0 ? text_format("cannot grow the root file system: %s", strerror(errno)) : NULL;
  if (disk >= 0) close(disk);
  if (root >= 0) close(root);
  return problem;
}

static int root_control(unsigned long request) {
  int root = open(ROOT, O_RDONLY | O_CLOEXEC);
  if (root < 0) return -1;
  int done = ioctl(root, request, 0), problem = errno;
  close(root);
  errno = problem;
  return done;
}

int root_freeze(void) { return root_control(FIFREEZE); }

int root_thaw(void) { return root_control(FITHAW); }

// The kernel says "reboot: Power down" as an emergency, whatever its log level, and some kernels still get it out through the port
// that carries the process's output. The process has the last word there.
static void hush_kernel(void) {
  static const char nothing[] = "0";
  text_write_file("/proc/sys/kernel/printk", nothing, sizeof nothing - 1, 0);
}

void power_off(void) {
  hush_kernel();
  root_thaw();
  kill(-1, SIGKILL);
  while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
  }
  sync();
  mount(NULL, ROOT, NULL, MS_REMOUNT | MS_RDONLY, NULL);
  umount(ROOT);
  reboot(RB_POWER_OFF);
  for (;;) pause();
}
