// What the image's process finds mounted: the image's disk as its root, what docker gives a container, a machine's own devices, and what init shows it.
#pragma once

// Makes the disk the root of the present mount namespace, which nobody else is in, and mounts all that has a place there already: the disk may still be read-only. NULL
// when well, else what is wrong.
char *mounts_enter(void);

// Once init can write to the disk: so can this namespace, and what had no place gets one. NULL when well, else what is
// wrong.
char *mounts_complete(void);
