#include "loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int epoll_fd;

void loop_start(void) {
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) abort();
}

void loop_add(struct watch *watch, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = watch};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) < 0) abort();
}

void loop_change(struct watch *watch, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = watch};
  epoll_ctl(epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
}

void loop_remove(struct watch *watch) { epoll_ctl(epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL); }

void loop_run(void) {
  for (;;) {
    // One at a time: what one watch does may end another.
    struct epoll_event event;
    if (epoll_wait(epoll_fd, &event, 1, -1) == 1) ((struct watch *)event.data.ptr)->ready(event.events);
  }
}

void timer_add(struct watch *timer, void (*ready)(uint32_t events)) {
  *timer = (struct watch){timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), ready};
  loop_add(timer, EPOLLIN);
}

void timer_arm(const struct watch *timer, int64_t after_ms) {
  struct itimerspec when = {.it_value = {after_ms / 1000, after_ms % 1000 * 1000000}};
  timerfd_settime(timer->fd, 0, &when, NULL);
}

void timer_read(const struct watch *timer) {
  uint64_t rung;
  (void)!read(timer->fd, &rung, sizeof rung);
}
