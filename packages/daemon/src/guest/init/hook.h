// A program of the image that hears, while all others stand still, that the machine is now another instance.
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

enum { HOOK_MISSING = -1 };

void hook_start(void);

// Runs it as root in the image's process's namespaces, with `env` (NAME=value) over that of the process; its words go to the console. Calls back when it and all it
// began have ended, at the latest after the time limit: with its exit code (137 when it was ended), or HOOK_MISSING at once when the image has none.
void hook_run(const char *path, json_t *env, void (*done)(int code));

// Takes note that a child has ended.
void hook_child_ended(pid_t pid, int status);
