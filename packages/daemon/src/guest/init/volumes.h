// The image's volumes: folders that live on a disk of their own, the second one, so that they outlive the root disk.
#pragma once
#include "config.h"

// Mounts their disk and lays each over its folder in the root, which is open by now. One that is new begins with what the image has there. NULL when well or there are none, else what
// is wrong.
char *volumes_open(const struct config *config);

// As those of the root; well where there is no such disk.
char *volumes_grow(uint64_t least);
int volumes_freeze(void);
int volumes_thaw(void);
void volumes_close(void);
