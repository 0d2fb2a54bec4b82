// The image's process: number 1 of a PID namespace of its own, on the image's disk as its real root.
#pragma once
#include <stdbool.h>
#include <sys/types.h>

#include "config.h"
#include "launch.h"

struct process {
  pid_t pid; // 0 when it did not start
  int output; // the read end of its standard output and error; -1 when it has the console
};

// Starts it. When it could not be started, pid is 0 and `failure` says why.
struct process process_start(const struct program *program, struct launch_failure *failure);

// Sends a signal; false when the process would not notice, because the kernel drops what number 1 of a namespace does not handle.
bool process_signal(pid_t pid, int number);
