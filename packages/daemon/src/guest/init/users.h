// Who a program runs as, by the image's own /etc/passwd and /etc/group, with docker's rules for USER.
#pragma once
#include <sys/types.h>

struct identity {
  uid_t uid;
  gid_t gid;
  gid_t groups[256];
  size_t group_count;
  char *home;
};

// Resolves `name`, `uid`, `name:group`, `uid:gid` or nothing (root) in the present root. NULL when well, else docker's words for what is wrong.
char *identity_find(const char *user, struct identity *identity);
