#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "instance.h"
#include "root.h"
#include "system.h"
#include "text.h"

enum { QUIET = MS_NOSUID | MS_NOEXEC | MS_NODEV };

// Something to be mounted in the image's root. What lacks its place while the disk is read-only is mounted once that can be made.
struct placement {
  bool (*place)(const struct placement *placement); // false with errno set when it could not be
  const char *path;
  const char *source; // a file or folder of init, or NULL
  int mount;          // a detached mount of it; -1 when there is none
  bool done;
};

static bool place_proc(const struct placement *placement);
static bool place_sys(const struct placement *placement);
static bool place_devices(const struct placement *placement);
static bool place_file(const struct placement *placement);
static bool place_shown(const struct placement *placement);

// A link of the image may lead into what stands before it.
static struct placement placements[] = {
    {.place = place_proc, .path = "/proc"},
    {.place = place_sys, .path = "/sys"},
    // The terminals that exec uses are init's, so that ttyname() finds them here.
    {.place = place_devices, .path = "/dev", .source = "/dev/pts"},
    {.place = place_file, .path = "/etc/hosts", .source = OVERLAY_FOLDER "/hosts"},
    {.place = place_file, .path = "/etc/hostname", .source = OVERLAY_FOLDER "/hostname"},
    {.place = place_file, .path = "/etc/machine-id", .source = OVERLAY_FOLDER "/machine-id"},
    {.place = place_file, .path = "/etc/resolv.conf", .source = OVERLAY_FOLDER "/resolv.conf"},
    {.place = place_shown, .path = "/run/berth", .source = SHOWN_FOLDER},
};
enum { PLACEMENTS = sizeof placements / sizeof *placements };

static bool mount_at(const char *type, const char *path, unsigned long flags, const char *options) {
  make_folders(path);
  return mount(type, path, type, flags, options) == 0;
}

static bool move_to(const char *path, int mount) {
  return move_mount(mount, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

static bool place_proc(const struct placement *placement) { return mount_at("proc", placement->path, QUIET, NULL); }

static bool place_sys(const struct placement *placement) {
  if (!mount_at("sysfs", placement->path, QUIET, NULL)) return false;
  mount("cgroup2", "/sys/fs/cgroup", "cgroup2", QUIET, NULL);
  return true;
}

static bool place_devices(const struct placement *placement) {
  if (!mount_at("devtmpfs", placement->path, MS_NOSUID, NULL)) return false;
  move_to("/dev/pts", placement->mount);
  mount_at("tmpfs", "/dev/shm", QUIET, "mode=1777");
  mount_at("mqueue", "/dev/mqueue", QUIET, NULL);
  static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                         {"/proc/self/fd/0", "/dev/stdin"},
                                         {"/proc/self/fd/1", "/dev/stdout"},
                                         {"/proc/self/fd/2", "/dev/stderr"},
                                         {"/proc/kcore", "/dev/core"}};
  for (size_t at = 0; at < sizeof links / sizeof *links; at++) (void)!symlink(links[at][0], links[at][1]);
  return true;
}

// Where a path leads once its last links are followed, existing or not; all within the present root.
static void follow_links(const char *path, char *end) {
  snprintf(end, PATH_MAX, "%s", path);
  for (int hops = 0; hops < 16; hops++) {
    char link[PATH_MAX], joined[2 * PATH_MAX];
    ssize_t length = readlink(end, link, sizeof link - 1);
    if (length < 0) return;
    link[length] = '\0';
    char *slash = strrchr(end, '/');
    snprintf(joined, sizeof joined, "%.*s/%s", link[0] == '/' ? 0 : (int)(slash - end), end, link);
    snprintf(end, PATH_MAX, "%.*s", PATH_MAX - 1, joined);
  }
}

// Makes an empty file and the folders it stands in, unless it is there.
static void make_file(const char *path) {
  char *folder = text_format("%.*s", (int)(strrchr(path, '/') - path), path);
  if (*folder) make_folders(folder);
  free(folder);
  int made = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (made >= 0) close(made);
}

// Lays a file of ours over the image's, which stays as it is on the disk; a missing one is made empty as docker does.
static bool place_file(const struct placement *placement) {
  char end[PATH_MAX];
  follow_links(placement->path, end);
  if (move_to(end, placement->mount)) return true;
  if (errno == ENOENT) make_file(end);
  return move_to(end, placement->mount);
}

// What init shows to the image's programs stands in a folder of its own, so that a file in it is replaced as a whole.
static bool place_shown(const struct placement *placement) {
  make_folders(placement->path);
  return move_to(placement->path, placement->mount) &&
         mount(NULL, placement->path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | QUIET, NULL) == 0;
}

// Detaches what is carried into the new root. What files say is written into them later.
static void take_along(void) {
  for (struct placement *at = placements; at < placements + PLACEMENTS; at++) {
    if (at->place == place_file) make_file(at->source);
    at->mount = at->source ? open_tree(AT_FDCWD, at->source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC) : -1;
  }
}

// Mounts what is not mounted yet.
static void place_all(bool complain) {
  for (struct placement *at = placements; at < placements + PLACEMENTS; at++) {
    if (at->done) continue;
    at->done = at->place(at);
    if (!at->done && complain) fprintf(stderr, "berth: cannot mount %s: %s\n", at->path, strerror(errno));
    if (at->done && at->mount >= 0) close(at->mount);
  }
}

char *mounts_enter(void) {
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return text_format("cannot part the mounts");
  take_along();
  // As switch_root does, so that pivot_root works in the guest.
  if (chdir(ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
    return text_format("cannot enter the root disk: %s", strerror(errno));
  place_all(false);
  return NULL;
}

char *mounts_complete(void) {
  // This mount may have been copied from init's while that was read-only.
  if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RELATIME, NULL) < 0)
    return text_format("cannot write to the root disk: %s", strerror(errno));
  place_all(true);
  return NULL;
}
