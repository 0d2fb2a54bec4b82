#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cgroups.h"
#include "instance.h"
#include "ports.h"
#include "system.h"
#include "text.h"

static const char *const overlays[] = {"hosts", "hostname", "machine-id", "resolv.conf"};
enum { OVERLAYS = sizeof overlays / sizeof *overlays };

// Mounts of init that are carried into the process's root.
struct carried {
  int terminals;
  int shown;
  int files[OVERLAYS];
};

static void mount_at(const char *type, const char *path, unsigned long flags, const char *options) {
  make_folders(path);
  mount(type, path, type, flags, options);
}

// What docker gives a container, and a machine's own devices besides.
static void mount_kernel_folders(int terminals) {
  const unsigned long quiet = MS_NOSUID | MS_NOEXEC | MS_NODEV;
  mount_at("proc", "/proc", quiet, NULL);
  mount_at("sysfs", "/sys", quiet, NULL);
  mount("cgroup2", "/sys/fs/cgroup", "cgroup2", quiet, NULL);
  mount_at("devtmpfs", "/dev", MS_NOSUID, NULL);
  // The terminals that exec uses are init's, so that ttyname() finds them here.
  move_mount(terminals, "", AT_FDCWD, "/dev/pts", MOVE_MOUNT_F_EMPTY_PATH);
  close(terminals);
  mount_at("tmpfs", "/dev/shm", quiet, "mode=1777");
  mount_at("mqueue", "/dev/mqueue", quiet, NULL);
  static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                         {"/proc/self/fd/0", "/dev/stdin"},
                                         {"/proc/self/fd/1", "/dev/stdout"},
                                         {"/proc/self/fd/2", "/dev/stderr"},
                                         {"/proc/kcore", "/dev/core"}};
  for (size_t at = 0; at < sizeof links / sizeof *links; at++) (void)!symlink(links[at][0], links[at][1]);
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

// Lays a file of ours over the image's, which stays as it is on the disk; a missing one is made empty as docker does.
static void lay_over(int mount_fd, const char *name) {
  char *path = text_format("/etc/%s", name), end[PATH_MAX];
  follow_links(path, end);
  free(path);
  char *slash = strrchr(end, '/');
  *slash = '\0';
  if (*end) make_folders(end);
  *slash = '/';
  int made = open(end, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (made >= 0) close(made);
  if (move_mount(mount_fd, "", AT_FDCWD, end, MOVE_MOUNT_F_EMPTY_PATH) < 0)
    fprintf(stderr, "berth: cannot lay over %s: %s\n", end, strerror(errno));
  close(mount_fd);
}

// What init shows to the image's programs stands in a folder of its own, so that a file in it is replaced as a whole.
static void show(int folder) {
  static const char path[] = "/run/berth";
  make_folders(path);
  if (move_mount(folder, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0 ||
      mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
    fprintf(stderr, "berth: cannot show %s: %s\n", path, strerror(errno));
  close(folder);
}

static struct carried take_along(void) {
  const unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  struct carried carried = {
      .terminals = open_tree(AT_FDCWD, "/dev/pts", flags),
      .shown = open_tree(AT_FDCWD, SHOWN_FOLDER, flags),
  };
  for (int at = 0; at < OVERLAYS; at++) {
    char *path = text_format(OVERLAY_FOLDER "/%s", overlays[at]);
    carried.files[at] = open_tree(AT_FDCWD, path, flags);
    free(path);
  }
  return carried;
}

// Makes the image's disk the root of this mount namespace, as switch_root does, so that pivot_root works in the guest.
static char *enter_root(void) {
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return text_format("cannot part the mounts");
  struct carried carried = take_along();
  if (chdir("/newroot") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
    return text_format("cannot enter the root disk: %s", strerror(errno));
  mount_kernel_folders(carried.terminals);
  for (int at = 0; at < OVERLAYS; at++)
    if (carried.files[at] >= 0) lay_over(carried.files[at], overlays[at]);
  if (carried.shown >= 0) show(carried.shown);
  return NULL;
}

static void take_streams(bool tty, int output) {
  int input;
  if (tty) {
    input = console_open(0);
    fcntl(input, F_SETFL, fcntl(input, F_GETFL) & ~O_NONBLOCK);
    ioctl(input, TIOCSCTTY, 1);
    output = input;
  } else {
    input = open("/dev/null", O_RDONLY);
  }
  dup2(input, 0);
  dup2(output, 1);
  dup2(output, 2);
}

// What the child says when it cannot become the program: the code, then the reason.
static void confess(int to, struct launch_failure failure) {
  char *text = text_format("%c%s", failure.code, failure.reason);
  (void)!write(to, text, strlen(text));
  _exit(failure.code);
}

// The image sees its own group as the root of all groups.
static char *enter_group(void) {
  if (cgroup_join(cgroup_open(IMAGE_GROUP)) == 0 && unshare(CLONE_NEWCGROUP) == 0) return NULL;
  return text_format("cannot enter the control group: %s", strerror(errno));
}

static void child(const struct program *program, int output, int report) {
  setsid();
  take_streams(program->tty, output);
  char *problem = enter_group();
  if (!problem) problem = enter_root();
  confess(report, problem ? (struct launch_failure){126, problem} : launch(program));
}

// fork() into new PID and mount namespaces.
static pid_t fork_apart(void) {
  return (pid_t)syscall(SYS_clone, (unsigned long)(SIGCHLD | CLONE_NEWPID | CLONE_NEWNS), 0UL, 0UL, 0UL, 0UL);
}

struct process process_start(const struct program *program, struct launch_failure *failure) {
  int report[2], output[2] = {-1, -1};
  char words[4096];
  *failure = (struct launch_failure){126, "the guest is out of descriptors"};
  if (pipe2(report, O_CLOEXEC) < 0) return (struct process){0, -1};
  if (!program->tty && pipe2(output, O_CLOEXEC) < 0) return (struct process){0, -1};
  pid_t pid = fork_apart();
  if (pid == 0) child(program, output[1], report[1]);
  close(report[1]);
  if (output[1] >= 0) close(output[1]);
  if (output[0] >= 0) fcntl(output[0], F_SETFL, O_NONBLOCK);

  // End of file means that the program runs: exec closed the child's end.
  size_t length = 0;
  for (ssize_t got; length < sizeof words - 1; length += (size_t)got) {
    got = read(report[0], words + length, sizeof words - 1 - length);
    if (got < 0 && errno == EINTR)
      got = 0;
    else if (got <= 0)
      break;
  }
  close(report[0]);
  if (pid > 0 && length == 0) return (struct process){pid, output[0]};
  words[length] = '\0';
  if (length > 0) *failure = (struct launch_failure){words[0], text_format("%s", words + 1)};
  if (output[0] >= 0) close(output[0]);
  return (struct process){0, -1};
}

// The signal sets of /proc/PID/status: caught or blocked ones reach the process, anything else is dropped for number 1.
static bool would_notice(pid_t pid, int number) {
  char *path = text_format("/proc/%d/status", pid), *status = text_read_file(path, 1 << 16);
  bool notices = false;
  static const char *const sets[] = {"\nSigCgt:", "\nSigBlk:"};
  for (int at = 0; status && at < 2; at++) {
    char *line = strstr(status, sets[at]);
    if (line && strtoull(line + 8, NULL, 16) & UINT64_C(1) << (number - 1)) notices = true;
  }
  free(path);
  free(status);
  return notices;
}

bool process_signal(pid_t pid, int number) {
  if (number < 1 || number > 64) return false;
  if (number != SIGKILL && number != SIGSTOP && !would_notice(pid, number)) return false;
  return kill(pid, number) == 0;
}
