#include "fact.h"

#include <stdint.h>
#include <time.h>

#include "control.h"

json_t *fact(const char *name) {
  struct timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  json_int_t uptime_ms = (json_int_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
  return json_pack("{s:s, s:I}", "fact", name, "uptimeMs", uptime_ms);
}

void refuse(const char *command, const char *reason) {
  json_t *refused = fact("refused");
  json_object_set_new(refused, "command", json_string(command));
  json_object_set_new(refused, "reason", json_string(reason));
  control_send(refused);
}
