#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *text_format(const char *format, ...) {
  va_list args;
  va_start(args, format);
  char *text = NULL;
  if (vasprintf(&text, format, args) < 0) abort();
  va_end(args);
  return text;
}

char *text_read_file(const char *path, size_t limit) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return NULL;
  size_t length = 0, room = 4096;
  char *text = malloc(room + 1);
  for (;;) {
    if (!text) abort();
    ssize_t got = read(fd, text + length, room - length);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || length + (size_t)got > limit) {
      int problem = got < 0 ? errno : got > 0 ? EFBIG : 0;
      close(fd);
      if (problem) {
        free(text);
        errno = problem;
        return NULL;
      }
      text[length] = '\0';
      return text;
    }
    length += (size_t)got;
    if (length == room) text = realloc(text, (room *= 2) + 1);
  }
}

int text_write_file(const char *path, const char *content, size_t length, unsigned mode) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (fd < 0) return -1;
  ssize_t written = write(fd, content, length);
  close(fd);
  return written == (ssize_t)length ? 0 : -1;
}

int make_folders(const char *path) {
  char *copy = text_format("%s", path);
  for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    mkdir(copy, 0755);
    *slash = '/';
  }
  int made = mkdir(copy, 0755);
  int problem = errno;
  struct stat seen;
  if (made < 0 && problem == EEXIST && stat(copy, &seen) == 0) {
    if (S_ISDIR(seen.st_mode))
      made = 0;
    else
      problem = ENOTDIR;
  }
  free(copy);
  errno = problem;
  return made;
}
