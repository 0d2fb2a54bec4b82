// What the guest says of itself, ready to be sent.
#pragma once
#include <jansson.h>

// A fact with its time; more members may be added.
json_t *fact(const char *name);

// Tells the host that a command was not carried out, and why.
void refuse(const char *command, const char *reason);
