#include "users.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

enum { FILE_LIMIT = 4 << 20, ID_LIMIT = 2147483647 };

// Whether the text is a number in the range of ids; stores it.
static bool number(const char *text, unsigned *value) {
  char *end;
  if (*text < '0' || *text > '9') return false;
  unsigned long long read = strtoull(text, &end, 10);
  if (*end || read > ID_LIMIT) return false;
  *value = (unsigned)read;
  return true;
}

// Splits a line at its colons into at most `room` fields; returns how many there are.
static size_t split(char *line, char **fields, size_t room) {
  size_t count = 0;
  while (count < room) {
    fields[count++] = line;
    char *colon = count < room ? strchr(line, ':') : NULL;
    if (!colon) break;
    *colon = '\0';
    line = colon + 1;
  }
  return count;
}

// Whether an entry called `name` with the id `id` is the one asked for by name or number.
static bool matches(const char *asked, const char *name, const char *id) {
  return strcmp(asked, name) == 0 || strcmp(asked, id) == 0;
}

static bool is_member(char *members, const char *name) {
  char *rest;
  for (char *member = strtok_r(members, ",", &rest); member; member = strtok_r(NULL, ",", &rest))
    if (strcmp(member, name) == 0) return true;
  return false;
}

// Finds the user; stores its name in `name` when it has one.
static char *find_user(const char *asked, struct identity *identity, char **name) {
  char *file = text_read_file("/etc/passwd", FILE_LIMIT), *rest = NULL;
  for (char *line = file ? strtok_r(file, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
    char *fields[7];
    if (split(line, fields, 7) < 6 || !matches(asked, fields[0], fields[2])) continue;
    if (!number(fields[2], &identity->uid) || !number(fields[3], &identity->gid)) continue;
    *name = text_format("%s", fields[0]);
    identity->home = text_format("%s", fields[5]);
    free(file);
    return NULL;
  }
  free(file);
  return number(asked, &identity->uid)
             ? NULL
             : text_format("unable to find user %s: no matching entries in passwd file", asked);
}

// Finds the group asked for, or, when none was, the groups `name` is a member of.
static char *find_groups(const char *asked, const char *name, struct identity *identity) {
  char *file = text_read_file("/etc/group", FILE_LIMIT), *rest = NULL;
  bool found = false;
  for (char *line = file ? strtok_r(file, "\n", &rest) : NULL; line; line = strtok_r(NULL, "\n", &rest)) {
    char *fields[4];
    unsigned gid;
    size_t count = split(line, fields, 4);
    if (count < 3 || !number(fields[2], &gid)) continue;
    if (asked) {
      if (found || !matches(asked, fields[0], fields[2])) continue;
      identity->gid = gid;
      found = true;
    } else if (name && count == 4 && identity->group_count < 256 && is_member(fields[3], name)) {
      identity->groups[identity->group_count++] = gid;
    }
  }
  free(file);
  if (!asked || found || number(asked, &identity->gid)) return NULL;
  return text_format("unable to find group %s: no matching entries in group file", asked);
}

char *identity_find(const char *user, struct identity *identity) {
  memset(identity, 0, sizeof *identity);
  char *asked = text_format("%s", user), *name = NULL;
  char *group = strchr(asked, ':');
  if (group) *group++ = '\0';
  if (group && !*group) group = NULL;
  char *problem = find_user(*asked ? asked : "0", identity, &name);
  if (!problem) problem = find_groups(group, name, identity);
  // As docker since CVE-2022-36109: without it, files that the group may not read could be read.
  if (!problem && identity->group_count < 256) identity->groups[identity->group_count++] = identity->gid;
  if (!identity->home || !*identity->home) identity->home = text_format("/");
  free(asked);
  free(name);
  return problem;
}
