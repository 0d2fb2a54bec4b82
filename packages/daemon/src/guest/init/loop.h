// The event loop: one epoll for everything process 1 waits for.
#pragma once
#include <stdint.h>
#include <sys/epoll.h>

// Something to wait for. Its memory stays valid as long as it is watched.
struct watch {
  int fd;
  void (*ready)(uint32_t events);
};

void loop_start(void);
// Adds a watch; `events` as for epoll.
void loop_add(struct watch *watch, uint32_t events);
void loop_change(struct watch *watch, uint32_t events);
void loop_remove(struct watch *watch);
// Handles what happens, for ever.
void loop_run(void) __attribute__((noreturn));

// Adds a timer; armed in milliseconds, 0 disarms it.
void timer_add(struct watch *timer, void (*ready)(uint32_t events));
void timer_arm(const struct watch *timer, int64_t after_ms);
// Takes note that a timer has rung.
void timer_read(const struct watch *timer);
