// Which TCP ports are listened on, by the kernel's own tables.
#pragma once
#include <stdint.h>

enum listener { LISTENER_NONE, LISTENER_LOOPBACK, LISTENER_OPEN };

// How the port is listened on: not at all, on loopback only, or so that others reach it.
enum listener listener_of(uint16_t port);
