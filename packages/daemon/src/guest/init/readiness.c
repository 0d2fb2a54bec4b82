#include "readiness.h"

#include <stdlib.h>
#include <string.h>

#include "console.h"
#include "control.h"
#include "fact.h"
#include "listeners.h"
#include "loop.h"
#include "text.h"

enum { FIRST_DELAY_MS = 20, LAST_DELAY_MS = 1000 };

static const struct config *config;
static uint8_t *seen;
static bool ready;
static char *reason;
static int64_t delay_ms;
static struct watch timer;

static void set_reason(char *words) {
  if (!reason || strcmp(reason, words) != 0) {
    json_t *waiting = fact("waiting");
    json_object_set_new(waiting, "reason", json_string(words));
    control_send(waiting);
  }
  free(reason);
  reason = words;
}

// Looks at the ports once; the first that is missing gives the reason.
static bool all_listen(void) {
  char *missing = NULL;
  for (size_t at = 0; at < config->watch_port_count; at++) {
    uint16_t port = config->watch_ports[at];
    uint8_t now = (uint8_t)listener_of(port);
    if (now == LISTENER_OPEN && seen[at] != LISTENER_OPEN) {
      json_t *listening = fact("listening");
      json_object_set_new(listening, "port", json_integer(port));
      control_send(listening);
    }
    seen[at] = now;
    if (now == LISTENER_OPEN || missing) continue;
    missing = text_format(now == LISTENER_LOOPBACK ? "port %d is listened on at 127.0.0.1 only; it must listen on 0.0.0.0"
                                                   : "nothing listens on port %d yet",
                          port);
  }
  if (missing) set_reason(missing);
  return !missing;
}

static void look(void) {
  if (!config || ready) return;
  if (all_listen()) {
    ready = true;
    // Who hears that it is ready finds in its log what it wrote before.
    console_catch_up();
    control_send(fact("ready"));
    return;
  }
  delay_ms = delay_ms < LAST_DELAY_MS ? delay_ms + delay_ms / 8 + 1 : LAST_DELAY_MS;
  timer_arm(&timer, delay_ms);
}

static void on_timer(uint32_t events) {
  (void)events;
  timer_read(&timer);
  look();
}

void readiness_start(void) { timer_add(&timer, on_timer); }

void readiness_watch(const struct config *watched) {
  readiness_end();
  config = watched;
  seen = calloc(config->watch_port_count + 1, 1);
  if (!seen) abort();
  delay_ms = FIRST_DELAY_MS;
  look();
}

void readiness_end(void) {
  timer_arm(&timer, 0);
  config = NULL;
  ready = false;
  free(reason);
  reason = NULL;
  free(seen);
  seen = NULL;
}

bool readiness_is_ready(void) { return ready; }

const char *readiness_reason(void) { return ready || !reason ? "" : reason; }

json_t *readiness_listening(void) {
  json_t *ports = json_array();
  for (size_t at = 0; config && at < config->watch_port_count; at++)
    if (seen[at] == LISTENER_OPEN) json_array_append_new(ports, json_integer(config->watch_ports[at]));
  return ports;
}
