// What the configuration changes of the machine before the image's process runs.
#pragma once
#include "config.h"

// Where the files are kept that are laid over the image's own.
#define OVERLAY_FOLDER "/run/berth/etc"

// What is the same for every instance, before it is known which one it is. NULL when well, else what is wrong.
char *system_prepare(void);

// Sets clock, random state, host name, addresses and the files of /etc. NULL when well, else what is wrong.
char *system_configure(const struct config *config);
