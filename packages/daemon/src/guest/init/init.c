#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroups.h"
#include "console.h"
#include "control.h"
#include "fact.h"
#include "hold.h"
#include "hook.h"
#include "instance.h"
#include "loop.h"
#include "ports.h"
#include "process.h"
#include "readiness.h"
#include "relay.h"
#include "root.h"
#include "state.h"
#include "system.h"
#include "text.h"
#include "volumes.h"

enum { PROTOCOL = 1, FREEZE_LIMIT_MS = 2000, DRAIN_LIMIT_MS = 2000 };

// All that a host which connects late must learn.
static struct {
  const char *phase; // booting, prepared, running, stopping, exited, failed
  char *failure;
  int code, signal;
  char *boot_id;
} state = {.phase = "booting"};

static struct config config;
static pid_t process_pid;
static bool identifying, frozen;
static struct watch signals, stop_timer, thaw_timer;

static void say_hello(void) {
  json_t *hello = fact("hello");
  json_object_set_new(hello, "protocol", json_integer(PROTOCOL));
  json_object_set_new(hello, "bootId", json_string(state.boot_id));
  json_object_set_new(hello, "phase", json_string(state.phase));
  json_object_set_new(hello, "ready", json_boolean(readiness_is_ready()));
  json_object_set_new(hello, "reason", json_string(state.failure ? state.failure : readiness_reason()));
  json_object_set_new(hello, "listening", readiness_listening());
  bool over = strcmp(state.phase, "exited") == 0 || strcmp(state.phase, "failed") == 0;
  json_object_set_new(hello, "code", over ? json_integer(state.code) : json_null());
  json_object_set_new(hello, "signal", over && state.signal ? json_integer(state.signal) : json_null());
  hold_describe(hello);
  control_send(hello);
}

static void finish(void) {
  control_drain(DRAIN_LIMIT_MS);
  power_off();
}

// The end of a run that never really began: docker's words to the host and on the console.
static void fail(int code, const char *reason) {
  state.phase = "failed";
  state.code = code;
  state.failure = text_format("%s", reason);
  console_say(reason);
  json_t *failed = fact("failed");
  json_object_set_new(failed, "code", json_integer(code));
  json_t *words = json_stringn_nocheck(reason, strnlen(reason, 4096));
  json_object_set_new(failed, "reason", words);
  control_send(failed);
  finish();
}

static void start_process(json_t *program) {
  struct launch_failure failure;
  struct process process = process_start(program, &failure);
  if (!process.pid) fail(failure.code, failure.reason);
  process_pid = process.pid;
  char *pid = text_format("%d", process.pid);
  text_write_file(PID_FILE, pid, strlen(pid), 0600);
  free(pid);
  state.phase = "running";
  control_send(fact("started"));
  console_pump(CONSOLE_PROCESS, process.output);
  readiness_watch(&config);
}

// Reads a configuration in place of the one before; false, and the host is told, when it cannot be read.
static bool take_config(const char *name, json_t *command) {
  struct config next;
  const char *problem = config_parse(command, &next);
  if (problem) {
    refuse(name, problem);
    config_free(&next);
    return false;
  }
  readiness_end();
  config_free(&config);
  config = next;
  return true;
}

static char *grow_disks(void) {
  char *trouble = root_grow(config.disk_bytes[ROOT_DISK]);
  return trouble ? trouble : volumes_grow(config.disk_bytes[VOLUMES_DISK]);
}

static void configure(json_t *command) {
  if (strcmp(state.phase, "prepared") != 0 || !take_config("configure", command)) return;
  char *trouble = instance_take_on(&config, command);
  if (!trouble) trouble = root_open();
  if (!trouble) trouble = root_grow(config.disk_bytes[ROOT_DISK]);
  if (!trouble) trouble = volumes_open(&config);
  if (trouble) fail(126, trouble);
  if (config.volume_count > 0) process_drop();
  start_process(json_object_get(command, "process"));
  relay_start();
}

// The last of being told who it is: the programs go on as another instance.
static void on_hooked(int code) {
  if (code > 0) {
    char *words = text_format("%s ended with exit code %d", instance_hook(&config), code);
    console_say(words);
    free(words);
  }
  identifying = false;
  hold_end();
  json_t *identified = fact("identified");
  json_object_set_new(identified, "hookCode", code == HOOK_MISSING ? json_null() : json_integer(code));
  control_send(identified);
  if (process_pid) readiness_watch(&config);
}

static void identify(json_t *command) {
  // A host that comes back meanwhile says it again.
  if (identifying) return;
  if (!hold_has_moved()) return refuse("identify", "the guest knows who it is");
  if (!take_config("identify", command)) return;
  identifying = true;
  const char *hook = instance_hook(&config);
  // Nobody who spoke to another instance speaks to this one, and who spoke to this one before it slept was hung up on.
  relay_end();
  char *trouble = instance_take_on(&config, command);
  if (!trouble) trouble = grow_disks();
  if (trouble) fail(126, trouble);
  if (hook)
    hook_run(hook, instance_hook_env(&config), on_hooked);
  else
    on_hooked(HOOK_MISSING);
}

static void hold(void) {
  if (process_pid)
    hold_begin();
  else
    refuse("hold", "the image's process does not run");
}

static void on_stop_timer(uint32_t events) {
  (void)events;
  timer_read(&stop_timer);
  if (process_pid) kill(process_pid, SIGKILL);
}

static void stop(json_t *command) {
  if (!process_pid) finish();
  int64_t timeout = json_integer_value(json_object_get(command, "timeoutMs"));
  int number = (int)json_integer_value(json_object_get(command, "signal"));
  state.phase = "stopping";
  if (timeout > 0 && process_signal(process_pid, number))
    timer_arm(&stop_timer, timeout);
  else
    kill(process_pid, SIGKILL);
}

static void thaw(const char *by) {
  timer_arm(&thaw_timer, 0);
  frozen = false;
  volumes_thaw();
  if (root_thaw() < 0) return refuse("thaw", errno == EINVAL ? "nothing is frozen" : strerror(errno));
  json_t *thawed = fact("thawed");
  json_object_set_new(thawed, "by", json_string(by));
  control_send(thawed);
}

// A host that vanishes must not leave the guest frozen.
static void on_thaw_timer(uint32_t events) {
  (void)events;
  timer_read(&thaw_timer);
  thaw("time");
}

// All of them or none.
static int freeze_disks(void) {
  if (root_freeze() < 0) return -1;
  if (volumes_freeze() == 0) return 0;
  int problem = errno;
  root_thaw();
  errno = problem;
  return -1;
}

static void freeze(void) {
  if (freeze_disks() < 0) return refuse("freeze", errno == EBUSY ? "it is frozen already" : strerror(errno));
  frozen = true;
  timer_arm(&thaw_timer, FREEZE_LIMIT_MS);
  control_send(fact("frozen"));
}

// What is published has changed: readiness tells of other ports from now on.
static void watch(json_t *command) {
  if (!process_pid) return refuse("watch", "the image's process does not run");
  readiness_end();
  const char *problem = config_parse_ports(json_object_get(command, "watchPorts"), &config);
  readiness_watch(&config);
  if (problem) return refuse("watch", problem);
  json_t *watching = fact("watching");
  json_object_set_new(watching, "ready", json_boolean(readiness_is_ready()));
  json_object_set_new(watching, "reason", json_string(readiness_reason()));
  json_object_set_new(watching, "listening", readiness_listening());
  control_send(watching);
}

static void grow(json_t *command) {
  if (!process_pid) return refuse("grow", "the image's process does not run");
  // It would wait for the thaw, which is ours to do.
  if (frozen) return refuse("grow", "it is frozen");
  const char *problem = config_parse_disks(json_object_get(command, "diskBytes"), &config);
  if (problem) return refuse("grow", problem);
  char *trouble = grow_disks();
  if (!trouble) return control_send(fact("grown"));
  refuse("grow", trouble);
  free(trouble);
}

static void on_command(json_t *command) {
  const char *name = json_string_value(json_object_get(command, "command"));
  if (!name) return;
  if (strcmp(name, "hello") == 0) say_hello();
  if (strcmp(name, "configure") == 0) configure(command);
  if (strcmp(name, "stop") == 0) stop(command);
  if (strcmp(name, "freeze") == 0) freeze();
  if (strcmp(name, "thaw") == 0) thaw("host");
  if (strcmp(name, "watch") == 0) watch(command);
  if (strcmp(name, "grow") == 0) grow(command);
  if (strcmp(name, "hold") == 0) hold();
  if (strcmp(name, "release") == 0) hold_release();
  if (strcmp(name, "identify") == 0) identify(command);
}

static void process_ended(int status) {
  process_pid = 0;
  unlink(PID_FILE);
  readiness_end();
  console_finish(CONSOLE_PROCESS);
  state.phase = "exited";
  state.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  state.code = state.signal ? 128 + state.signal : WEXITSTATUS(status);
  json_t *exited = fact("exited");
  json_object_set_new(exited, "code", json_integer(state.code));
  json_object_set_new(exited, "signal", state.signal ? json_integer(state.signal) : json_null());
  control_send(exited);
  finish();
}

static void on_child(uint32_t events) {
  (void)events;
  struct signalfd_siginfo info;
  (void)!read(signals.fd, &info, sizeof info);
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    relay_child_ended(pid);
    hook_child_ended(pid, status);
    if (pid == process_pid) process_ended(status);
  }
}

static void watch_children(void) {
  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  sigprocmask(SIG_BLOCK, &children, NULL);
  signal(SIGPIPE, SIG_IGN);
  signals = (struct watch){signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK), on_child};
  loop_add(&signals, EPOLLIN);
}

// The kernel opens none when its console is a port whose module is not loaded yet; our complaints go to its log.
static void open_streams(void) {
  int log = open("/dev/kmsg", O_WRONLY);
  for (int fd = 0; fd <= 2; fd++)
    if (log != fd) dup2(log, fd);
  if (log > 2) close(log);
}

static void mount_own_folders(void) {
  mount("proc", "/proc", "proc", 0, NULL);
  mount("sysfs", "/sys", "sysfs", 0, NULL);
  mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
  open_streams();
  mkdir("/dev/pts", 0755);
  mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");
  cgroups_make();
  make_folders(OVERLAY_FOLDER);
  make_folders(SHOWN_FOLDER);
  make_folders(STAGED_FOLDER);
}

void init_main(void) {
  umask(022);
  mount_own_folders();
  text_write_file("/proc/self/oom_score_adj", "-900", 4, 0);
  state.boot_id = text_read_file("/proc/sys/kernel/random/boot_id", 256);
  if (!state.boot_id) abort();
  state.boot_id[strcspn(state.boot_id, "\n")] = '\0';
  // A seed of its own would make jansson wait most of a second for entropy; the only one who sends it objects is the host.
  json_object_seed(1);
  loop_start();
  watch_children();
  timer_add(&stop_timer, on_stop_timer);
  timer_add(&thaw_timer, on_thaw_timer);
  readiness_start();
  hook_start();
  // What was written before is not said again by a machine that goes on from here.
  hold_start(console_catch_up, say_hello);

  // The first word comes as soon as there is a port to say it on; the disk and the network are next.
  ports_watch();
  modules_load("virtio_console");
  control_start(on_command);
  say_hello();
  modules_load(NULL);
  char *problem = root_mount();
  if (!problem) problem = system_prepare();
  if (problem) fail(126, problem);
  relay_prepare();
  process_prepare();
  state.phase = "prepared";
  control_send(fact("prepared"));
  loop_run();
}
