// The control port: one line of JSON for each command in and each fact out.
#pragma once
#include <jansson.h>

// Begins to listen on the port; `command` is called for every line that is a JSON object.
void control_start(void (*command)(json_t *object));

// Queues one fact; takes over the object.
void control_send(json_t *fact);

// Waits until everything queued has left, at most so long.
void control_drain(int timeout_ms);
