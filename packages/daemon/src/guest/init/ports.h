// The virtio ports that join the guest to its host.
#pragma once

// Loads the kernel modules listed in /etc/modules, in that order, up to and including `last` (NULL: all that are left).
void modules_load(const char *last);

// Opens the port of that name, non-blocking and close-on-exec; -1 when the machine has none. A console port is put in raw mode.
int port_open(const char *name);

// Opens the first console, in raw mode when asked.
int console_open(int raw);
