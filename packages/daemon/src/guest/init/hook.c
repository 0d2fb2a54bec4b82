#include "hook.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroups.h"
#include "console.h"
#include "inside.h"
#include "launch.h"
#include "loop.h"
#include "text.h"

enum { LIMIT_MS = 5000 };

static struct watch timer;
static pid_t helper;
static void (*on_done)(int code);

static void on_timer(uint32_t events) {
  (void)events;
  timer_read(&timer);
  cgroup_kill(HOOK_GROUP);
}

void hook_start(void) { timer_add(&timer, on_timer); }

static bool exists(const char *path) {
  int root = inside_open("root", O_PATH | O_DIRECTORY), found = root < 0 ? -1 : inside_find(root, path, 0);
  struct stat seen;
  bool is_file = found >= 0 && fstat(found, &seen) == 0 && S_ISREG(seen.st_mode);
  if (found >= 0) close(found);
  if (root >= 0) close(root);
  return is_file;
}

// The same helper that exec has, but in a group that is not stopped.
static void become_helper(char *request, int output) {
  reset_signals();
  dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
  dup2(output, 1);
  dup2(output, 2);
  char *argv[] = {"berth-shell", "-hook", request, NULL};
  execv("/sbin/berth-shell", argv);
  _exit(126);
}

void hook_run(const char *path, json_t *env, void (*done)(int code)) {
  int output[2];
  if (!exists(path)) {
    json_decref(env);
    return done(HOOK_MISSING);
  }
  json_t *request = json_pack("{s:[s], s:o, s:s, s:s}", "argv", path, "env", env, "user", "0", "workingDir", "/");
  char *text = json_dumps(request, JSON_COMPACT);
  json_decref(request);
  bool ready = text && pipe2(output, O_CLOEXEC) == 0;
  helper = ready ? fork() : -1;
  if (helper == 0) become_helper(text, output[1]);
  if (ready) close(output[1]);
  free(text);
  if (helper < 0) {
    if (ready) close(output[0]);
    return done(126);
  }
  on_done = done;
  fcntl(output[0], F_SETFL, O_NONBLOCK);
  console_pump(CONSOLE_HOOK, output[0]);
  timer_arm(&timer, LIMIT_MS);
}

void hook_child_ended(pid_t pid, int status) {
  if (helper <= 0 || pid != helper) return;
  helper = 0;
  timer_arm(&timer, 0);
  // What it left behind would go on while others stand still.
  cgroup_kill(HOOK_GROUP);
  console_finish(CONSOLE_HOOK);
  on_done(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}
