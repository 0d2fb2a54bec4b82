// The only program of an image: says who it is, before anything else in its guest has run. First the first KiB of /dev/urandom.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void say_file(const char *name, const char *path) {
  char text[256];
  int file = open(path, O_RDONLY);
  ssize_t length = file < 0 ? 0 : read(file, text, sizeof text - 1);
  if (length < 0) length = 0;
  text[length] = 0;
  text[strcspn(text, "\n")] = 0;
  printf("%s %s\n", name, text);
}

int main(void) {
  unsigned char random[1024];
  int file = open("/dev/urandom", O_RDONLY);
  if (file < 0 || read(file, random, sizeof random) != sizeof random) return 1;
  printf("random ");
  for (size_t at = 0; at < sizeof random; at++) printf("%02x", random[at]);
  printf("\n");
  char hostname[256] = "";
  gethostname(hostname, sizeof hostname - 1);
  printf("hostname %s\n", hostname);
  say_file("machine-id", "/etc/machine-id");
  say_file("mac", "/sys/class/net/eth0/address");
  fflush(stdout);
  for (;;) pause();
}
