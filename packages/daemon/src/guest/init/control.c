#include "control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"
#include "ports.h"

enum { LINE_LIMIT = 256 << 10, FACT_LIMIT = 16 << 10, QUEUE_LIMIT = 64 << 10 };

static char line[LINE_LIMIT], queue[QUEUE_LIMIT];
static size_t line_length, queue_length;
static int line_too_long;
static void (*handle)(json_t *object);
static void on_ready(uint32_t events);
static struct watch port = {-1, on_ready};

static void take_line(void) {
  json_error_t error;
  json_t *object = line_too_long ? NULL : json_loadb(line, line_length, JSON_REJECT_DUPLICATES, &error);
  if (json_is_object(object)) {
    handle(object);
  } else if (line_too_long) {
    control_send(json_pack("{s:s, s:s}", "fact", "refused", "reason", "a line is longer than 256 KiB"));
  }
  // Anything else is the rest of a line that a reconnecting host cut off.
  json_decref(object);
  // It may have held keys.
  explicit_bzero(line, line_length);
  line_length = 0;
  line_too_long = 0;
}

static void take_bytes(const char *bytes, size_t count) {
  for (size_t at = 0; at < count; at++) {
    if (bytes[at] == '\n')
      take_line();
    else if (line_length < LINE_LIMIT)
      line[line_length++] = bytes[at];
    else
      line_too_long = 1;
  }
}

static void flush(void) {
  while (queue_length > 0) {
    ssize_t written = write(port.fd, queue, queue_length);
    if (written <= 0) return;
    queue_length -= (size_t)written;
    memmove(queue, queue + written, queue_length);
  }
}

// The port is watched edge-triggered: while no host is there it would otherwise report a hang-up without end.
static void on_ready(uint32_t events) {
  (void)events;
  char bytes[4096];
  for (ssize_t got; (got = read(port.fd, bytes, sizeof bytes)) > 0;) take_bytes(bytes, (size_t)got);
  flush();
}

void control_start(void (*command)(json_t *object)) {
  handle = command;
  port.fd = port_open("berth.control");
  if (port.fd >= 0) loop_add(&port, EPOLLIN | EPOLLOUT | EPOLLET);
}

void control_send(json_t *fact) {
  char *text = json_dumps(fact, JSON_COMPACT | JSON_ENSURE_ASCII);
  json_decref(fact);
  size_t length = text ? strlen(text) : 0;
  // The first newline ends what a vanished host left half read; empty lines mean nothing.
  if (text && length < FACT_LIMIT && queue_length + length + 2 <= QUEUE_LIMIT) {
    queue[queue_length++] = '\n';
    memcpy(queue + queue_length, text, length);
    queue_length += length;
    queue[queue_length++] = '\n';
  }
  free(text);
  flush();
}

void control_drain(int timeout_ms) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int64_t end = now.tv_sec * 1000 + now.tv_nsec / 1000000 + timeout_ms;
  for (flush(); queue_length > 0; flush()) {
    struct pollfd wait = {port.fd, POLLOUT, 0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t left = end - (now.tv_sec * 1000 + now.tv_nsec / 1000000);
    if (left <= 0 || poll(&wait, 1, (int)left) == 0 || wait.revents & POLLHUP) return;
  }
}
