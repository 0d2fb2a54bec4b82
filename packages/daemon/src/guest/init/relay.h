// Joins the channel port to an SSH server that nothing in the guest can reach: a dropbear at the other end of a socket pair.
#pragma once
#include <sys/types.h>

// Opens the port; what comes in waits.
void relay_prepare(void);

// Begins to answer on it. The keys of the configuration must be in place.
void relay_start(void);

// Ends the conversation under way, and the programs of its sessions first, at once; the next call begins one with the keys that are in place then.
void relay_end(void);

// Told of every child that ended; takes note when it was the SSH server.
void relay_child_ended(pid_t pid);
