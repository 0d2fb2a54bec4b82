// The inside of the image: the namespaces of its process, and its files as it sees them.
#pragma once

// The image's process; 0 when it does not run.
int inside_pid(void);

// Opens a file of the process's folder in /proc; -1 with errno set, also when it does not run.
int inside_open(const char *name, int flags);

// Takes on the process's namespaces; children are in its PID namespace. 0 or -1 with errno set.
int inside_enter(void);

// Opens a path as the image's root has it; its links cannot lead out. -1 with errno set.
int inside_find(int root, const char *path, int flags);
