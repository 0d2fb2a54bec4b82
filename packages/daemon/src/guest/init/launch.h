// Becoming a program: the last steps of the image's process and of every exec, in the image's root.
#pragma once
#include "config.h"

struct launch_failure {
  int code; // 126 or 127, as docker and shells have it
  char *reason;
};

// Takes on the user, the working folder, which may be made, and the environment, and executes the program. Returns only when that failed.
struct launch_failure launch(const struct program *program, bool makes_folder);

// Unblocks every signal and gives each its default again, as a fresh program expects.
void reset_signals(void);
