// The image's disk.
#pragma once
#include <stdint.h>

// Where init has it; for the image's programs it is the root.
#define ROOT "/newroot"

// Mounts the first virtio disk at /newroot, read-only: a clean file system stays as it is, byte for byte. NULL when well, else what is wrong.
char *root_mount(void);

// Lets the root be written to from now on. NULL when well, else what is wrong.
char *root_open(void);

// Grows the file system to its disk, online, once that has so many bytes. NULL when well or nothing to do, else what is wrong.
char *root_grow(uint64_t least);

// Stops and resumes all writing to the file system; 0 or -1 with errno set.
int root_freeze(void);
int root_thaw(void);

// Ends every other process, writes everything back and cuts the power.
void power_off(void) __attribute__((noreturn));
