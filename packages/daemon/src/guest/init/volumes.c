#include "volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "filesystem.h"
#include "inside.h"
#include "launch.h"
#include "root.h"
#include "text.h"

#define DISK "/dev/vdb"
#define VOLUMES "/volumes"

static bool is_open;

// A folder of the image, made where it is missing; links lead nowhere but into the image. -1 with errno set.
static int image_folder(const char *path) {
  int root = open(ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC), folder = root;
  char *prefix = text_format("%s", path);
  for (char *end = prefix; folder >= 0 && *(end += strspn(end, "/"));) {
    char *name = end, after = *(end += strcspn(end, "/"));
    *end = '\0';
    int next = inside_find(root, prefix, O_DIRECTORY);
    if (next < 0 && errno == ENOENT && mkdirat(folder, name, 0755) == 0) next = inside_find(root, prefix, O_DIRECTORY);
    int problem = errno;
    if (folder != root) close(folder);
    errno = problem;
    folder = next;
    *end = after;
  }
  free(prefix);
  int problem = errno;
  if (root >= 0 && folder != root) close(root);
  errno = problem;
  return folder;
}

static int remove_entry(const char *path, const struct stat *seen, int kind, struct FTW *place) {
  (void)seen, (void)kind, (void)place;
  return remove(path);
}

// The kit's tar in a folder, one of its streams a pipe.
static pid_t start_tar(int folder, int stream, int pipe_end, char *const argv[]) {
  pid_t pid = fork();
  if (pid != 0) return pid;
  reset_signals();
  if (fchdir(folder) < 0 || dup2(pipe_end, stream) < 0) _exit(126);
  setenv("LC_ALL", "C", 1);
  execv("/bin/tar", argv);
  _exit(126);
}

static bool ended_well(pid_t pid) {
  int status;
  if (pid < 0) return false;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Copies all that is in a folder, and the folder's own owner and mode.
static bool copy_folder(int from, int to) {
  char *pack[] = {"tar", "-c", "-f", "-", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--format=posix", ".", NULL};
  char *unpack[] = {"tar", "-x", "-p", "-f", "-", "--numeric-owner", "--same-owner", "--xattrs", "--xattrs-include=*",
                    "--warning=no-timestamp", NULL};
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return false;
  pid_t packer = start_tar(from, STDOUT_FILENO, ends[1], pack), unpacker = start_tar(to, STDIN_FILENO, ends[0], unpack);
  close(ends[0]);
  close(ends[1]);
  bool packed = ended_well(packer), unpacked = ended_well(unpacker);
  return packed && unpacked;
}

// Gives a new volume what the image has in its place. It appears under its name when all of it is on the disk.
static char *fill(const struct volume *volume, int image, const char *kept) {
  char *half = text_format(VOLUMES "/new-%s", volume->folder), *problem = NULL;
  nftw(half, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
  int folder = mkdir(half, 0755) < 0 ? -1 : open(half, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0 || !copy_folder(image, folder))
    problem = text_format("cannot copy the image's %s to its volume", volume->path);
  else if (syncfs(folder) < 0 || rename(half, kept) < 0)
    problem = text_format("cannot keep the volume %s: %s", volume->path, strerror(errno));
  if (folder >= 0) close(folder);
  free(half);
  return problem;
}

static int lay_over(const char *kept, int folder) {
  int tree = open_tree(AT_FDCWD, kept, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  if (tree < 0) return -1;
  int done = move_mount(tree, "", folder, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), problem = errno;
  close(tree);
  errno = problem;
  return done;
}

static char *place(const struct volume *volume) {
  int image = image_folder(volume->path);
  if (image < 0) return text_format("cannot make the folder of the volume %s: %s", volume->path, strerror(errno));
  char *kept = text_format(VOLUMES "/%s", volume->folder);
  char *problem = access(kept, F_OK) == 0 ? NULL : fill(volume, image, kept);
  if (!problem && lay_over(kept, image) < 0)
    problem = text_format("cannot lay the volume over %s: %s", volume->path, strerror(errno));
  free(kept);
  close(image);
  return problem;
}

char *volumes_open(const struct config *config) {
  if (config->volume_count == 0) return NULL;
  mkdir(VOLUMES, 0700);
  if (mount(DISK, VOLUMES, "ext4", MS_RELATIME, NULL) < 0)
    return text_format("cannot mount the disk of the volumes: %s", strerror(errno));
  is_open = true;
  char *problem = volumes_grow(config->disk_bytes[VOLUMES_DISK]);
  for (size_t at = 0; at < config->volume_count && !problem; at++) problem = place(&config->volumes[at]);
  return problem;
}

char *volumes_grow(uint64_t least) { return is_open ? filesystem_grow(DISK, VOLUMES, least) : NULL; }

int volumes_freeze(void) { return is_open ? filesystem_freeze(VOLUMES) : 0; }

int volumes_thaw(void) { return is_open ? filesystem_thaw(VOLUMES) : 0; }

void volumes_close(void) {
  if (is_open) filesystem_close(VOLUMES);
}
