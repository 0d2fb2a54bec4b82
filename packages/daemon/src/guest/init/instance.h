// What a guest takes on when it is told which instance it is.
#pragma once
#include <jansson.h>

#include "config.h"

// What the image's programs may read of it, as /run/berth.
#define SHOWN_FOLDER "/run/berth/shown"

// Takes on random state, clock, names, addresses and keys, and remembers how the process is run. `command` is what the configuration was read from. NULL when well, else
// what is wrong. The secrets in the configuration are overwritten. No program of the image may run meanwhile.
char *instance_take_on(const struct config *config, json_t *command);

// The hook that the image may have for this: a path, NULL for none, and the variables that tell it what happened (NAME=value).
const char *instance_hook(const struct config *config);
json_t *instance_hook_env(const struct config *config);
