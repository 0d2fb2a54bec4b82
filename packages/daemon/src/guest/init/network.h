// Addresses and routes.
#pragma once
#include "config.h"

// Brings up loopback and every configured card. NULL when well, else what is wrong.
char *network_configure(const struct config *config);
