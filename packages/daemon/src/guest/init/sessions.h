// What an SSH server of ours has running: a helper for each session, and the programs that these began.
#pragma once
#include <sys/types.h>

// Ends all sessions at once, with every program that still belongs to them, stopped or not.
void sessions_end(pid_t server);
