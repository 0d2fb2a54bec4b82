// Addresses and routes.
#pragma once
#include "config.h"

// What is the same for every instance, done before it is known which one it is: loopback comes up, and the cards are found. NULL when well, else what is wrong.
char *network_prepare(void);

// Gives every configured card its addresses and brings it up. NULL when well, else what is wrong.
char *network_configure(const struct config *config);
