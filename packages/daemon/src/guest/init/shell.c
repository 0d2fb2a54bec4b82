#include "shell.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroups.h"
#include "config.h"
#include "gate.h"
#include "inside.h"
#include "launch.h"
#include "state.h"
#include "text.h"

static const char cannot_start[] = "the guest cannot start another process";

enum { REQUEST_LIMIT = 256 << 10, NOT_FOUND = 44, HANGUP_LIMIT_S = 2 };

static int complain(int code, const char *reason) {
  fprintf(stderr, "%s\n", reason);
  return code;
}

static json_t *parse(const char *text) {
  json_error_t error;
  return text ? json_loads(text, JSON_REJECT_DUPLICATES, &error) : NULL;
}

static const char *member(json_t *json, const char *name) {
  const char *text = json_string_value(json_object_get(json, name));
  return text ? text : "";
}

// The image's own settings with those of the request laid over them. TERM of a terminal comes first, so that both may change it.
static const char *merge(json_t *request, struct program *program) {
  char *text = text_read_file(PROCESS_FILE, REQUEST_LIMIT);
  json_t *process = parse(text), *env = json_array();
  free(text);
  if (!process) return "the instance has not been configured";
  bool tty = json_is_true(json_object_get(request, "tty"));
  const char *term = getenv("TERM");
  if (tty) json_array_append_new(env, json_sprintf("TERM=%s", term && *term ? term : "xterm"));
  json_array_extend(env, json_object_get(process, "env"));
  json_array_extend(env, json_object_get(request, "env"));
  json_object_set(process, "env", env);
  json_object_set(process, "argv", json_object_get(request, "argv"));
  json_object_set_new(process, "tty", json_boolean(tty));
  if (json_is_string(json_object_get(request, "user"))) json_object_set(process, "user", json_object_get(request, "user"));
  if (json_is_string(json_object_get(request, "workingDir")))
    json_object_set(process, "workingDir", json_object_get(request, "workingDir"));
  return program_parse(process, program);
}

static volatile sig_atomic_t child_pid;

// A signal goes to the program, as with docker; the end of the session to all that it started, which then has a moment to end by itself.
static void pass_on(int number) {
  if (child_pid <= 0) return;
  if (number == SIGALRM) kill(-child_pid, SIGKILL);
  if (number == SIGHUP) {
    kill(-child_pid, SIGHUP);
    alarm(HANGUP_LIMIT_S);
  }
  if (number != SIGALRM && number != SIGHUP) kill(child_pid, number);
}

static void leave_terminal(void) {
  signal(SIGHUP, SIG_IGN);
  ioctl(0, TIOCNOTTY);
}

static void pass_signals_on(void) {
  static const int passed[] = {SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
  struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
  for (size_t at = 0; at < sizeof passed / sizeof *passed; at++) sigaction(passed[at], &action, NULL);
  signal(SIGPIPE, SIG_IGN);
}

// Until we know what to do with a signal it waits: one that ended us would not ask the gate.
static void hold_signals(int how) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(how, &all, NULL);
}

// The exit code of the child, as a shell has it.
static int await_child(void) {
  prctl(PR_SET_PDEATHSIG, SIGHUP);
  pass_signals_on();
  hold_signals(SIG_UNBLOCK);
  // Our own copies must not keep the child's streams open.
  for (int fd = 0; fd <= 2; fd++) close(fd);
  int status;
  while (waitpid(child_pid, &status, 0) < 0 && errno == EINTR) {
  }
  child_pid = 0;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void become(const struct program *program, bool input) {
  setsid();
  if (!input) dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
  if (program->tty) ioctl(0, TIOCSCTTY, 1);
  struct launch_failure failure = launch(program, false);
  _exit(complain(failure.code, failure.reason));
}

// The group of the image's process itself, which may have gone deeper than the one it began in; -1 when it does not run.
static int open_group_of_process(void) {
  int file = inside_open("cgroup", O_RDONLY);
  char line[4096];
  ssize_t length = file < 0 ? -1 : read(file, line, sizeof line - 1);
  if (file >= 0) close(file);
  if (length < 4) return -1;
  line[length] = '\0';
  line[strcspn(line, "\n")] = '\0';
  // "0::" and the path, as init sees it.
  char *group = text_format(CGROUPS "%s", line + 3);
  int opened = cgroup_open(group);
  free(group);
  return opened;
}

// The program joins the group, or the other one when that does not take it.
static int run_in_guest(json_t *request, int group, int other) {
  struct program program;
  const char *problem = merge(request, &program);
  if (problem) return complain(126, problem);
  if (inside_enter() < 0) return complain(126, "the instance's process does not run");
  if (program.tty) leave_terminal();
  child_pid = fork();
  if (child_pid == 0) {
    if (cgroup_join(group) < 0 && cgroup_join(other) < 0)
      _exit(complain(126, "the image's control group takes no more programs"));
    become(&program, json_is_true(json_object_get(request, "input")));
  }
  return child_pid < 0 ? complain(126, cannot_start) : await_child();
}

// The kit's tar, with the image's disk as its root: enter-root.so takes it there before it does anything.
static void become_tar(int root, char **argv) {
  setsid();
  reset_signals();
  if (cgroup_join(cgroup_open(TOOLS_GROUP)) < 0 || fcntl(root, F_SETFD, 0) < 0) _exit(complain(126, strerror(errno)));
  char *descriptor = text_format("%d", root);
  setenv("BERTH_ROOT", descriptor, 1);
  setenv("LD_PRELOAD", "/lib/enter-root.so", 1);
  setenv("LC_ALL", "C", 1);
  execv("/bin/tar", argv);
  _exit(complain(126, strerror(errno)));
}

static int run_tar(int root, char **argv) {
  child_pid = fork();
  if (child_pid == 0) become_tar(root, argv);
  return child_pid < 0 ? complain(126, cannot_start) : await_child();
}

static int move_files(json_t *request, bool outward) {
  int root = inside_open("root", O_PATH | O_DIRECTORY);
  if (root < 0) return complain(126, "the instance's process does not run");
  char *path = text_format("%s", member(request, "path"));
  for (size_t length = strlen(path); length > 1 && path[length - 1] == '/'; length--) path[length - 1] = '\0';
  int found = *path == '/' ? inside_find(root, path, outward ? O_NOFOLLOW : O_DIRECTORY) : -1;
  if (found < 0) {
    char *reason = text_format("%s: %s", path, *path == '/' ? strerror(errno) : "not an absolute path");
    return complain(NOT_FOUND, reason);
  }
  close(found);
  if (!outward) {
    char *argv[] = {"tar", "-x", "-p", "-f", "-", "-C", path, "--numeric-owner", "--same-owner", "--xattrs",
                    "--xattrs-include=*", "--keep-directory-symlink", "--warning=no-timestamp", NULL};
    return run_tar(root, argv);
  }
  char *slash = strrchr(path, '/'), *name = slash[1] ? slash + 1 : ".";
  char *folder = text_format("%.*s", slash == path ? 1 : (int)(slash - path), path);
  char *argv[] = {"tar", "-c", "-f", "-", "-C", folder, "--numeric-owner", "--xattrs", "--xattrs-include=*", "--format=posix",
                  "--warning=no-file-changed", "--", name, NULL};
  return run_tar(root, argv);
}

// A file for a request that is longer than an SSH command may be. Its name is a number the host made up: 32 hex digits.
static char *staged_path(json_t *request) {
  const char *id = member(request, "id");
  return strlen(id) == 32 && strspn(id, "0123456789abcdef") == 32 ? text_format(STAGED_FOLDER "/%s", id) : NULL;
}

static int stage(json_t *request) {
  char *path = staged_path(request), bytes[32 << 10];
  int fd = path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
  if (fd < 0) return complain(126, "the request cannot be staged");
  size_t total = 0;
  for (ssize_t got; (got = read(0, bytes, sizeof bytes)) > 0; total += (size_t)got) {
    if (total + (size_t)got <= REQUEST_LIMIT && write(fd, bytes, (size_t)got) == got) continue;
    unlink(path);
    return complain(126, "the request is longer than 256 KiB");
  }
  return 0;
}

static json_t *unstage(json_t *request) {
  char *path = staged_path(request), *text = path ? text_read_file(path, REQUEST_LIMIT) : NULL;
  if (path) unlink(path);
  return parse(text);
}

static int carry_out(json_t *request) {
  if (!request) return complain(126, "not a request");
  const char *action = member(request, "action");
  if (strcmp(action, "gate") == 0) return gate_keep();
  if (strcmp(action, "stage") == 0) return stage(request);
  if (strcmp(action, "staged") == 0) {
    request = unstage(request);
    action = member(request, "action");
  }
  // A group whose members were parted among groups below it takes nobody itself.
  if (strcmp(action, "exec") == 0) return run_in_guest(request, cgroup_open(IMAGE_GROUP), open_group_of_process());
  if (strcmp(action, "readTar") == 0) return move_files(request, true);
  if (strcmp(action, "writeTar") == 0) return move_files(request, false);
  return complain(126, "not a request");
}

int shell_main(int argc, char **argv) {
  hold_signals(SIG_BLOCK);
  // Only init itself asks so: an SSH server asks with -c.
  if (argc == 3 && strcmp(argv[1], "-hook") == 0) return run_in_guest(parse(argv[2]), cgroup_open(HOOK_GROUP), -1);
  // Found while its path is ours: an exec takes us into the image's files.
  int gate = gate_find();
  int code = carry_out(argc == 3 && strcmp(argv[1], "-c") == 0 ? parse(argv[2]) : NULL);
  gate_pass(gate);
  return code;
}
