// Whether the image's process can be used: all ports that the host watches are listened on.
#pragma once
#include <jansson.h>
#include <stdbool.h>

#include "config.h"

void readiness_start(void);

// Begins to look, or begins anew: at once, then less and less often until all is well. The configuration stays valid meanwhile.
void readiness_watch(const struct config *config);

// Looks no more; a guest that is not running is not ready.
void readiness_end(void);

bool readiness_is_ready(void);
// Why not; empty when it is, or nobody has looked.
const char *readiness_reason(void);
// The watched ports that are listened on, as a new list.
json_t *readiness_listening(void);
