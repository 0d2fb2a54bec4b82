// What is done to a mounted file system, whichever disk it is on.
#pragma once
#include <stdint.h>

// Grows the ext4 on a disk to the disk, while it is mounted, once that has so many bytes. NULL when well or nothing to do, else what is wrong.
char *filesystem_grow(const char *disk, const char *folder, uint64_t least);

// Stops and resumes all writing to it; 0 or -1 with errno set.
int filesystem_freeze(const char *folder);
int filesystem_thaw(const char *folder);

// Writes it back and lets it be written to no more.
void filesystem_close(const char *folder);
