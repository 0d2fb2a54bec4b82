#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cgroups.h"
#include "mounts.h"
#include "ports.h"
#include "text.h"

static char *take_streams(bool tty, int output) {
  int input = tty ? console_open(0) : open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (input < 0) return text_format("cannot open %s: %s", tty ? "the console" : "/dev/null", strerror(errno));
  if (tty) {
    fcntl(input, F_SETFL, fcntl(input, F_GETFL) & ~O_NONBLOCK);
    ioctl(input, TIOCSCTTY, 1);
    output = input;
  }
  dup2(input, 0);
  dup2(output, 1);
  dup2(output, 2);
  return NULL;
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

// Becomes the program that init's word names: JSON, up to the end of the pipe. Without a word it is not needed.
static void await_word(int from, int output, int report) {
  struct program program;
  json_error_t error;
  json_t *word = json_loadfd(from, 0, &error);
  if (!word || program_parse(word, &program)) _exit(126);
  char *problem = mounts_complete();
  if (!problem) problem = take_streams(program.tty, output);
  confess(report, problem ? (struct launch_failure){126, problem} : launch(&program, true));
}

static void child(int word, int steady, int output, int report) {
  setsid();
  char *problem = enter_group();
  if (!problem) problem = mounts_enter();
  if (problem) confess(report, (struct launch_failure){126, problem});
  close(steady);
  await_word(word, output, report);
}

// fork() into new PID and mount namespaces.
static pid_t fork_apart(void) {
  return (pid_t)syscall(SYS_clone, (unsigned long)(SIGCHLD | CLONE_NEWPID | CLONE_NEWNS), 0UL, 0UL, 0UL, 0UL);
}

// One that waits for its word: init's ends of its pipes. No pid, no process.
static struct waiting {
  pid_t pid;
  int word, output, report;
} waiting;

// Each is made or none.
static bool make_pipes(int pipes[][2], int count) {
  for (int made = 0; made < count; made++) {
    if (pipe2(pipes[made], O_CLOEXEC) == 0) continue;
    while (made-- > 0) close(pipes[made][0]), close(pipes[made][1]);
    return false;
  }
  return true;
}

// Returns when it waits for its word, or has ended.
void process_prepare(void) {
  enum { WORD, STEADY, OUTPUT, REPORT, PIPES };
  int pipes[PIPES][2];
  char nothing;
  if (!make_pipes(pipes, PIPES)) return;
  pid_t pid = fork_apart();
  if (pid == 0) {
    // Its own copy would keep the word from ending.
    close(pipes[WORD][1]);
    child(pipes[WORD][0], pipes[STEADY][1], pipes[OUTPUT][1], pipes[REPORT][1]);
  }
  close(pipes[WORD][0]);
  close(pipes[STEADY][1]);
  close(pipes[OUTPUT][1]);
  close(pipes[REPORT][1]);
  while (read(pipes[STEADY][0], &nothing, 1) < 0 && errno == EINTR) {
  }
  close(pipes[STEADY][0]);
  fcntl(pipes[OUTPUT][0], F_SETFL, O_NONBLOCK);
  waiting = (struct waiting){pid, pipes[WORD][1], pipes[OUTPUT][0], pipes[REPORT][0]};
  if (pid < 0) process_drop();
}

void process_drop(void) {
  if (!waiting.pid) return;
  close(waiting.word);
  close(waiting.output);
  close(waiting.report);
  waiting.pid = 0;
}

static bool say(int to, const char *text) {
  for (size_t left = strlen(text); left > 0;) {
    ssize_t written = write(to, text, left);
    if (written < 0 && errno != EINTR) return false;
    if (written > 0) text += written, left -= (size_t)written;
  }
  return true;
}

// Gives its word to the process that waits; to a new one where there is none any more. False when there can be none.
static bool give_word(const char *text) {
  if (waiting.pid && say(waiting.word, text)) return true;
  process_drop();
  process_prepare();
  // Should this one have ended already, it has said why.
  if (waiting.pid) say(waiting.word, text);
  return waiting.pid;
}

// What the child confesses, in words; empty once the program runs: exec closed the child's end.
static size_t read_report(int from, char *words, size_t room) {
  size_t length = 0;
  for (ssize_t got; length < room - 1; length += (size_t)got) {
    got = read(from, words + length, room - 1 - length);
    if (got < 0 && errno == EINTR)
      got = 0;
    else if (got <= 0)
      break;
  }
  words[length] = '\0';
  return length;
}

struct process process_start(json_t *program, struct launch_failure *failure) {
  char *text = json_dumps(program, JSON_COMPACT), words[4096];
  *failure = (struct launch_failure){126, "the guest is out of memory, processes or descriptors"};
  bool given = text && give_word(text);
  free(text);
  if (!given) return (struct process){0, -1};
  struct process started = {waiting.pid, waiting.output};
  close(waiting.word);
  size_t length = read_report(waiting.report, words, sizeof words);
  close(waiting.report);
  waiting.pid = 0;
  if (length > 0) {
    *failure = (struct launch_failure){words[0], text_format("%s", words + 1)};
    close(started.output);
    return (struct process){0, -1};
  }
  if (json_is_true(json_object_get(program, "tty"))) {
    close(started.output);
    started.output = -1;
  }
  return started;
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
