// Joins the channel port to an SSH server that nothing in the guest can reach: a dropbear at the other end of a socket pair.
#pragma once
#include <stdbool.h>
#include <sys/types.h>

// Begins to answer on the port. The keys of the configuration must be in place.
void relay_start(void);

// Ends the conversation under way; the next call begins one with the keys that are in place then. With `sessions`, the programs of its sessions are ended first, at
// once; otherwise they hear that their session is over and have a moment to end.
void relay_end(bool sessions);

// Told of every child that ended; takes note when it was the SSH server.
void relay_child_ended(pid_t pid);
