// The image's process: number 1 of a PID namespace of its own, on the image's disk as its real root.
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "launch.h"

struct process {
  pid_t pid; // 0 when it did not start
  int output; // the read end of its standard output and error; -1 when it has the console
};

// Forks it in advance: it stands in its namespaces and its group, finds its mounts, and waits to be told what to become. Nothing of the image runs in it. Where that fails
// there is none, and process_start forks it.
void process_prepare(void);

// Gives up the one that was prepared: what is mounted in init's namespace from now on would be missing in it.
void process_drop(void);

// Starts it: the one prepared, else a new one. `program` is as in the configuration, where it was found to be well. When it could not be started, pid is 0 and `failure`
// says why.
struct process process_start(json_t *program, struct launch_failure *failure);

// Sends a signal; false when the process would not notice, because the kernel drops what number 1 of a namespace does not handle.
bool process_signal(pid_t pid, int number);
