#include "filesystem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "text.h"

// ext4's own: fs/ext4/ext4.h, not in the kernel's public headers.
#define EXT4_RESIZE _IOW('f', 16, uint64_t)

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

enum { SIZE_LIMIT_MS = 10000, LOOK_MS = 1 };

// A disk that the host has made larger is so in our kernel a moment later: it looks when the device tells it to, on its own.
static bool wait_for_size(int disk, uint64_t least, uint64_t *bytes) {
  for (int waited = 0; ioctl(disk, BLKGETSIZE64, bytes) == 0 && waited < SIZE_LIMIT_MS; waited += LOOK_MS) {
    if (*bytes >= least) return true;
    nanosleep(&(struct timespec){0, LOOK_MS * 1000000}, NULL);
  }
  errno = ETIMEDOUT;
  return false;
}

char *filesystem_grow(const char *path, const char *folder, uint64_t least) {
  uint64_t bytes, blocks, block_size;
  int disk = open(path, O_RDONLY | O_CLOEXEC), top = open(folder, O_RDONLY | O_CLOEXEC), done = -1;
  if (disk >= 0 && top >= 0 && wait_for_size(disk, least, &bytes) &&
      superblock_size(disk, &blocks, &block_size) == 0) {
    uint64_t wanted = bytes / block_size;
    done = wanted <= blocks ? 0 : ioctl(top, EXT4_RESIZE, &wanted);
  }
  char *problem = done < 0 ? text_format("cannot grow the file system of %s: %s", path, strerror(errno)) : NULL;
  if (disk >= 0) close(disk);
  if (top >= 0) close(top);
  return problem;
}

static int control(const char *folder, unsigned long request) {
  int top = open(folder, O_RDONLY | O_CLOEXEC);
  if (top < 0) return -1;
  int done = ioctl(top, request, 0), problem = errno;
  close(top);
  errno = problem;
  return done;
}

int filesystem_freeze(const char *folder) { return control(folder, FIFREEZE); }

int filesystem_thaw(const char *folder) { return control(folder, FITHAW); }

void filesystem_close(const char *folder) { mount(NULL, folder, NULL, MS_REMOUNT | MS_RDONLY, NULL); }
