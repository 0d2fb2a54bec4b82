#include "console.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "loop.h"
#include "ports.h"

// What a pipe holds at most, and how much of it is copied at a time.
enum { PIPE_BYTES = 64 << 10, PORTION = 8 << 10 };

static void on_process(uint32_t events);
static void on_hook(uint32_t events);
static struct watch outputs[] = {{-1, on_process}, {-1, on_hook}};
static int console = -1;

static int console_fd(void) {
  if (console < 0) console = console_open(1);
  return console;
}

static void write_whole(const char *bytes, size_t count) {
  while (count > 0) {
    ssize_t written = write(console_fd(), bytes, count);
    if (written > 0) {
      bytes += written;
      count -= (size_t)written;
    } else if (errno == EAGAIN) {
      poll(&(struct pollfd){console_fd(), POLLOUT, 0}, 1, 1000);
    } else if (errno != EINTR) {
      return;
    }
  }
}

// One portion; false when there is nothing more for now.
static bool copy(const struct watch *output) {
  char bytes[PORTION];
  ssize_t got = read(output->fd, bytes, sizeof bytes);
  if (got > 0) write_whole(bytes, (size_t)got);
  return got > 0;
}

static void forget(struct watch *output) {
  loop_remove(output);
  close(output->fd);
  output->fd = -1;
}

static void on_output(struct watch *output, uint32_t events) {
  if (!copy(output) && events & EPOLLHUP) forget(output);
}

static void on_process(uint32_t events) { on_output(&outputs[CONSOLE_PROCESS], events); }

static void on_hook(uint32_t events) { on_output(&outputs[CONSOLE_HOOK], events); }

void console_pump(enum console_source source, int from) {
  if (from < 0) return;
  outputs[source].fd = from;
  loop_add(&outputs[source], EPOLLIN);
}

void console_catch_up(void) {
  const struct watch *output = &outputs[CONSOLE_PROCESS];
  for (size_t at = 0; at < PIPE_BYTES / PORTION && output->fd >= 0 && copy(output); at++) {
  }
  if (console >= 0) tcdrain(console);
}

void console_finish(enum console_source source) {
  struct watch *output = &outputs[source];
  while (output->fd >= 0 && copy(output)) {
  }
  if (output->fd >= 0) forget(output);
  if (console >= 0) tcdrain(console);
}

void console_say(const char *text) {
  char line[4200];
  int length = snprintf(line, sizeof line, "berth: %s\r\n", text);
  write_whole(line, (size_t)length < sizeof line ? (size_t)length : sizeof line - 1);
  tcdrain(console_fd());
}
