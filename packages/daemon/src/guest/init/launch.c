#include "launch.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text.h"
#include "users.h"

static struct launch_failure failure(int code, char *reason) { return (struct launch_failure){code, reason}; }

void reset_signals(void) {
  sigset_t none;
  sigemptyset(&none);
  for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

// The value of a variable; the last one given counts.
static const char *variable(char **env, const char *name) {
  const char *value = NULL;
  size_t length = strlen(name);
  for (; *env; env++)
    if (strncmp(*env, name, length) == 0 && (*env)[length] == '=') value = *env + length + 1;
  return value;
}

// The environment with HOME, when it lacks it.
static char **with_home(char **env, const char *home) {
  const char *given = variable(env, "HOME");
  if (given && *given) return env;
  size_t count = 0, kept = 0;
  while (env[count]) count++;
  char **complete = calloc(count + 2, sizeof *complete);
  if (!complete) abort();
  for (size_t at = 0; at < count; at++)
    if (strncmp(env[at], "HOME=", 5) != 0) complete[kept++] = env[at];
  complete[kept] = text_format("HOME=%s", home);
  return complete;
}

// Standard streams belong to the user, so that /dev/stderr can be opened anew; /dev/null stays as it is.
static void own_streams(const struct identity *identity) {
  for (int fd = 0; fd <= 2; fd++) {
    struct stat seen;
    if (fstat(fd, &seen) < 0) continue;
    if (S_ISFIFO(seen.st_mode) || isatty(fd)) (void)!fchown(fd, identity->uid, seen.st_gid);
  }
}

// As a file that may be executed: NULL, else why not.
static int executable(const char *path) {
  struct stat seen;
  if (stat(path, &seen) < 0) return errno;
  if (S_ISDIR(seen.st_mode)) return EISDIR;
  return access(path, X_OK) == 0 ? 0 : errno;
}

// Finds a program by the environment's PATH as docker does.
static char *search_path(const char *name, const char *path, int *problem) {
  *problem = ENOENT;
  char *folders = text_format("%s", path ? path : ""), *rest = folders, *folder;
  while ((folder = strsep(&rest, ":"))) {
    char *candidate = text_format("%s/%s", *folder ? folder : ".", name);
    int found = executable(candidate);
    if (found == 0) {
      free(folders);
      return candidate;
    }
    if (found == EACCES) *problem = EACCES;
    free(candidate);
  }
  free(folders);
  return NULL;
}

static const char *lower_words(int problem) {
  switch (problem) {
    case ENOENT:
      return "no such file or directory";
    case EACCES:
      return "permission denied";
    case EISDIR:
      return "is a directory";
    case ENOEXEC:
      return "exec format error";
    case E2BIG:
      return "argument list too long";
    default:
      return strerror(problem);
  }
}

struct launch_failure launch(const struct program *program, bool makes_folder) {
  const char *name = program->argv[0];
  if (!name) return failure(127, text_format("no command specified"));

  struct identity identity;
  char *problem = identity_find(program->user, &identity);
  if (problem) return failure(126, problem);

  const char *folder = *program->working_dir ? program->working_dir : "/";
  if ((makes_folder && make_folders(folder) < 0) || chdir(folder) < 0)
    return failure(126, text_format("chdir to cwd (\"%s\") set in config failed: %s", folder, lower_words(errno)));

  own_streams(&identity);
  text_write_file("/proc/self/oom_score_adj", "0", 1, 0);
  setrlimit(RLIMIT_NOFILE, &(struct rlimit){1024, 524288});
  if (setgroups(identity.group_count, identity.groups) < 0 || setgid(identity.gid) < 0 || setuid(identity.uid) < 0)
    return failure(126, text_format("cannot become user %s: %s", program->user, strerror(errno)));

  char **env = with_home(program->env, identity.home);
  char *path = text_format("%s", name);
  if (!strchr(name, '/')) {
    int missing;
    path = search_path(name, variable(env, "PATH"), &missing);
    if (!path)
      return missing == EACCES ? failure(126, text_format("exec: \"%s\": permission denied", name))
                               : failure(127, text_format("exec: \"%s\": executable file not found in $PATH", name));
  }
  int found = executable(path);
  if (found == ENOENT || found == ENOTDIR)
    return failure(127, text_format("exec: \"%s\": stat %s: %s", name, path, lower_words(found)));
  if (found) return failure(126, text_format("exec: \"%s\": %s", name, lower_words(found)));

  reset_signals();
  umask(022);
  execve(path, program->argv, env);
  return failure(errno == ENOENT ? 127 : 126, text_format("exec %s: %s", path, lower_words(errno)));
}
