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
#include <time.h>
#include <unistd.h>

#include "console.h"
#include "control.h"
#include "listeners.h"
#include "loop.h"
#include "ports.h"
#include "process.h"
#include "relay.h"
#include "root.h"
#include "state.h"
#include "system.h"
#include "text.h"

enum { PROTOCOL = 1, FREEZE_LIMIT_MS = 2000, DRAIN_LIMIT_MS = 2000 };

// All that a host which connects late must learn.
static struct {
  const char *phase; // booting, prepared, running, stopping, exited, failed
  bool ready;
  char *reason;
  int code, signal;
  char *boot_id;
} state = {.phase = "booting", .reason = ""};

static struct config config;
static pid_t process_pid;
static int64_t watch_delay_ms;
static uint8_t *port_states;
static struct watch signals, stop_timer, thaw_timer, watch_timer;

static int64_t uptime_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// A fact with its time; more members may be added.
static json_t *fact(const char *name) { return json_pack("{s:s, s:I}", "fact", name, "uptimeMs", (json_int_t)uptime_ms()); }

static void say_hello(void) {
  json_t *hello = fact("hello"), *listening = json_array();
  for (size_t at = 0; port_states && at < config.watch_port_count; at++)
    if (port_states[at] == LISTENER_OPEN) json_array_append_new(listening, json_integer(config.watch_ports[at]));
  json_object_set_new(hello, "protocol", json_integer(PROTOCOL));
  json_object_set_new(hello, "bootId", json_string(state.boot_id));
  json_object_set_new(hello, "phase", json_string(state.phase));
  json_object_set_new(hello, "ready", json_boolean(state.ready));
  json_object_set_new(hello, "reason", json_string(state.reason));
  json_object_set_new(hello, "listening", listening);
  bool over = strcmp(state.phase, "exited") == 0 || strcmp(state.phase, "failed") == 0;
  json_object_set_new(hello, "code", over ? json_integer(state.code) : json_null());
  json_object_set_new(hello, "signal", over && state.signal ? json_integer(state.signal) : json_null());
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
  state.reason = text_format("%s", reason);
  console_say(reason);
  json_t *failed = fact("failed");
  json_object_set_new(failed, "code", json_integer(code));
  json_t *words = json_stringn_nocheck(reason, strnlen(reason, 4096));
  json_object_set_new(failed, "reason", words);
  control_send(failed);
  finish();
}

static void set_reason(const char *reason) {
  if (strcmp(state.reason, reason) == 0) return;
  state.reason = text_format("%s", reason);
  json_t *waiting = fact("waiting");
  json_object_set_new(waiting, "reason", json_string(reason));
  control_send(waiting);
}

// Looks at the ports once; the first that is missing gives the reason.
static bool all_listen(void) {
  char *reason = NULL;
  for (size_t at = 0; at < config.watch_port_count; at++) {
    uint16_t port = config.watch_ports[at];
    uint8_t seen = (uint8_t)listener_of(port);
    if (seen == LISTENER_OPEN && port_states[at] != LISTENER_OPEN) {
      json_t *listening = fact("listening");
      json_object_set_new(listening, "port", json_integer(port));
      control_send(listening);
    }
    port_states[at] = seen;
    if (seen == LISTENER_OPEN || reason) continue;
    reason = text_format(seen == LISTENER_LOOPBACK ? "port %d is listened on at 127.0.0.1 only; it must listen on 0.0.0.0"
                                                   : "nothing listens on port %d yet",
                         port);
  }
  if (reason) set_reason(reason);
  free(reason);
  return !reason;
}

// Looks often at first and less often as time goes by; never again once ready.
static void on_watch_timer(uint32_t events) {
  (void)events;
  timer_read(&watch_timer);
  if (!process_pid || state.ready) return;
  if (all_listen()) {
    state.ready = true;
    state.reason = "";
    // Who hears that it is ready finds in its log what it wrote before.
    console_catch_up();
    control_send(fact("ready"));
    return;
  }
  watch_delay_ms = watch_delay_ms < 1000 ? watch_delay_ms + watch_delay_ms / 8 + 1 : 1000;
  timer_arm(&watch_timer, watch_delay_ms);
}

static void remember_process(json_t *command) {
  char *text = json_dumps(json_object_get(command, "process"), JSON_COMPACT);
  if (text) text_write_file(PROCESS_FILE, text, strlen(text), 0600);
  free(text);
}

static void place_keys(void) {
  size_t length;
  unsigned char *key = base64_decode(config.host_key, &length);
  if (key) text_write_file(STATE_FOLDER "/host-key", (char *)key, length, 0600);
  free(key);
  char *line = text_format("%s\n", config.client_key);
  text_write_file("/root/.ssh/authorized_keys", line, strlen(line), 0600);
  free(line);
}

static void start_process(void) {
  struct launch_failure failure;
  struct process process = process_start(&config.process, &failure);
  if (!process.pid) fail(failure.code, failure.reason);
  process_pid = process.pid;
  char *pid = text_format("%d", process.pid);
  text_write_file(PID_FILE, pid, strlen(pid), 0600);
  free(pid);
  state.phase = "running";
  control_send(fact("started"));
  console_pump(process.output);
  watch_delay_ms = 20;
  on_watch_timer(0);
}

static void configure(json_t *command) {
  if (strcmp(state.phase, "prepared") != 0) return;
  const char *problem = config_parse(command, &config);
  if (problem) {
    json_t *refused = fact("refused");
    json_object_set_new(refused, "reason", json_string(problem));
    control_send(refused);
    return;
  }
  port_states = calloc(config.watch_port_count + 1, 1);
  char *trouble = system_configure(&config);
  if (!trouble) trouble = root_open();
  if (!trouble) trouble = root_grow();
  if (trouble) fail(126, trouble);
  remember_process(command);
  place_keys();
  start_process();
  relay_start();
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

static void answer_freeze(const char *name, int done) {
  json_t *answer = fact(done == 0 ? name : "refused");
  if (done < 0) json_object_set_new(answer, "reason", json_string(strerror(errno)));
  control_send(answer);
}

static void thaw(void) {
  timer_arm(&thaw_timer, 0);
  answer_freeze("thawed", root_thaw());
}

// A host that vanishes must not leave the guest frozen.
static void on_thaw_timer(uint32_t events) {
  (void)events;
  timer_read(&thaw_timer);
  thaw();
}

static void freeze(void) {
  timer_arm(&thaw_timer, FREEZE_LIMIT_MS);
  answer_freeze("frozen", root_freeze());
}

static void on_command(json_t *command) {
  const char *name = json_string_value(json_object_get(command, "command"));
  if (!name) return;
  if (strcmp(name, "hello") == 0) say_hello();
  if (strcmp(name, "configure") == 0) configure(command);
  if (strcmp(name, "stop") == 0) stop(command);
  if (strcmp(name, "freeze") == 0) freeze();
  if (strcmp(name, "thaw") == 0) thaw();
}

static void process_ended(int status) {
  process_pid = 0;
  unlink(PID_FILE);
  console_finish();
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
  make_folders(OVERLAY_FOLDER);
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
  timer_add(&watch_timer, on_watch_timer);

  // The first word comes as soon as there is a port to say it on; the disk and the network are next.
  ports_watch();
  modules_load("virtio_console");
  control_start(on_command);
  say_hello();
  modules_load(NULL);
  char *problem = root_mount();
  if (problem) fail(126, problem);
  state.phase = "prepared";
  control_send(fact("prepared"));
  loop_run();
}
