#include "hold.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cgroups.h"
#include "control.h"
#include "fact.h"
#include "loop.h"
#include "text.h"

// A host that vanishes must not leave the guest standing still.
enum { LIMIT_MS = 2000 };

static enum { FREE, STOPPING, HELD } hold = FREE;
// That of the machine the hold began in.
static char *held_in;
static struct watch timer, changes;
static void (*on_asleep)(void), (*on_moved)(void);

// Which machine this is: the serial number of its first disk. The kernel asks the device at each reading, and the hypervisor answers from its own arguments, not from
// the memory it goes on from; the host makes it anew for each start. Empty when there is none.
static char *generation(void) {
  char *serial = text_read_file("/sys/block/vda/serial", 256);
  if (!serial) return text_format("%s", "");
  serial[strcspn(serial, "\n")] = '\0';
  return serial;
}

bool hold_has_moved(void) {
  if (hold != HELD) return false;
  char *now = generation();
  bool moved = strcmp(now, held_in) != 0;
  free(now);
  return moved;
}

void hold_end(void) {
  timer_arm(&timer, 0);
  hold = FREE;
  free(held_in);
  held_in = NULL;
  cgroups_freeze(false);
}

static void say_held(void) {
  json_t *held = fact("held");
  json_object_set_new(held, "generation", json_string(held_in));
  control_send(held);
}

static void let_go(const char *by) {
  hold_end();
  json_t *released = fact("released");
  json_object_set_new(released, "by", json_string(by));
  control_send(released);
}

static void look(void) {
  if (hold != STOPPING || !cgroups_frozen()) return;
  hold = HELD;
  on_asleep();
  say_held();
}

static void on_change(uint32_t events) {
  (void)events;
  char bytes[256];
  // Reading is what makes the next change ring again.
  (void)!pread(changes.fd, bytes, sizeof bytes, 0);
  look();
}

static void on_timer(uint32_t events) {
  (void)events;
  timer_read(&timer);
  if (hold == STOPPING) {
    hold_end();
    refuse("hold", "the programs did not stand still in time");
  } else if (hold_has_moved()) {
    on_moved();
  } else if (hold == HELD) {
    let_go("time");
  }
}

void hold_start(void (*asleep)(void), void (*moved)(void)) {
  on_asleep = asleep;
  on_moved = moved;
  timer_add(&timer, on_timer);
  changes = (struct watch){cgroups_events(), on_change};
  if (changes.fd >= 0) loop_add(&changes, EPOLLPRI);
}

void hold_begin(void) {
  if (hold_has_moved()) return refuse("hold", "the guest must first be told who it is");
  timer_arm(&timer, LIMIT_MS);
  if (hold == HELD) return say_held();
  if (hold == STOPPING) return;
  if (cgroups_freeze(true) < 0) {
    timer_arm(&timer, 0);
    return refuse("hold", "the kernel cannot stop the programs");
  }
  hold = STOPPING;
  held_in = generation();
  look();
}

void hold_release(void) {
  if (hold_has_moved()) return refuse("release", "the guest must first be told who it is");
  if (hold != HELD) return refuse("release", "nothing is held");
  let_go("host");
}

void hold_describe(json_t *hello) {
  char *now = generation();
  json_object_set_new(hello, "held", json_boolean(hold == HELD));
  json_object_set_new(hello, "moved", json_boolean(hold == HELD && strcmp(now, held_in) != 0));
  json_object_set_new(hello, "generation", json_string(now));
  free(now);
}
