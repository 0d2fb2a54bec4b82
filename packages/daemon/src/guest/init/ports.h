// The virtio ports that join the guest to its host.
#pragma once

// Begins to listen for devices that the kernel finds; before their modules are loaded.
void ports_watch(void);

// Loads the kernel modules listed in /etc/modules, in that order, up to and including `last` (NULL: all that are left).
void modules_load(const char *last);

// Opens the port of that name, non-blocking and close-on-exec, once the kernel has found it; -1 when the machine has none. A console port is
// put in raw mode.
int port_open(const char *name);

// Opens the first console, in raw mode when asked.
int console_open(int raw);
