// Control groups (cgroup v2). All programs of the image live below one group that init can stop at any moment; init, its helpers and what speaks to the host live
// outside of it.
#pragma once
#include <stdbool.h>

#define CGROUPS "/sys/fs/cgroup"
#define PROGRAMS_GROUP CGROUPS "/programs"
// What the image sees as the root of all groups: its process and what exec runs.
#define IMAGE_GROUP PROGRAMS_GROUP "/image"
// The kit's own programs that work on the image's files.
#define TOOLS_GROUP PROGRAMS_GROUP "/tools"
// What runs in the image while its programs are stopped.
#define HOOK_GROUP CGROUPS "/hook"

// Mounts the hierarchy and makes the groups, each with all controllers that the kernel has.
void cgroups_make(void);

// Opens a group so that a process can join it later, from any namespace; -1 with errno set.
int cgroup_open(const char *group);

// Takes the calling process into an opened group; -1 with errno set.
int cgroup_join(int group);

// Ends every process in a group and below.
void cgroup_kill(const char *group);

// Stops all programs of the image, or lets them go on. It takes effect bit by bit: see cgroups_frozen. -1 with errno set.
int cgroups_freeze(bool frozen);

// Whether all of them stand still.
bool cgroups_frozen(void);

// A descriptor that is readable in the sense of EPOLLPRI when that has changed; -1 with errno set.
int cgroups_events(void);
