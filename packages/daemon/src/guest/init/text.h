// Small text helpers: bounded, and fatal when memory runs out (a guest's init has no better answer).
#pragma once
#include <stddef.h>

// printf into fresh memory; never returns NULL.
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

// The whole of a file as NUL-terminated fresh memory, or NULL with errno set (EFBIG when it is longer than `limit`).
char *text_read_file(const char *path, size_t limit);

// Replaces a file's content. Returns -1 with errno set when it could not.
int text_write_file(const char *path, const char *content, size_t length, unsigned mode);

// Makes a folder and its missing parents, 0755. Returns -1 with errno set when it could not.
int make_folders(const char *path);
