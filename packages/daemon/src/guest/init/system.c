#include "system.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "network.h"
#include "text.h"

static char *problem_of(const char *what) { return text_format("cannot %s: %s", what, strerror(errno)); }

// Two guests cloned from one memory image would share their random state: the host's seed parts them before any user code runs.
static char *mix_in(const char *seed) {
  size_t length;
  unsigned char *bytes = base64_decode(seed, &length);
  if (!bytes || length < 32 || length > 1024) {
    free(bytes);
    return text_format("the seed must be 32 to 1024 bytes in base64");
  }
  struct rand_pool_info *pool = malloc(sizeof *pool + length);
  if (!pool) abort();
  pool->entropy_count = (int)length * 8;
  pool->buf_size = (int)length;
  memcpy(pool->buf, bytes, length);
  int device = open("/dev/urandom", O_RDWR | O_CLOEXEC);
  int done = device < 0 ? -1 : ioctl(device, RNDADDENTROPY, pool);
  if (done == 0) done = ioctl(device, RNDRESEEDCRNG);
  char *problem = done < 0 ? problem_of("reseed the random state") : NULL;
  explicit_bzero(pool->buf, length);
  explicit_bzero(bytes, length);
  free(pool);
  free(bytes);
  if (device >= 0) close(device);
  return problem;
}

static char *write_overlay(const char *name, char *content) {
  char *path = text_format(OVERLAY_FOLDER "/%s", name);
  char *problem = text_write_file(path, content, strlen(content), 0644) < 0 ? problem_of(path) : NULL;
  free(path);
  free(content);
  return problem;
}

static char *append(char *text, char *more) {
  char *whole = text_format("%s%s", text, more);
  free(text);
  free(more);
  return whole;
}

static char *write_overlays(const struct config *config) {
  char *hosts = text_format(
      "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n"
      "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
  char *resolvers = text_format("%s", "");
  for (size_t at = 0; at < config->interface_count; at++) {
    const struct interface *interface = &config->interfaces[at];
    int length = (int)strcspn(interface->address, "/");
    hosts = append(hosts, text_format("%.*s\t%s\n", length, interface->address, config->hostname));
    for (char **server = interface->dns; *server; server++)
      resolvers = append(resolvers, text_format("nameserver %s\n", *server));
  }
  char *problem = write_overlay("hosts", hosts);
  if (!problem) problem = write_overlay("resolv.conf", resolvers);
  if (!problem) problem = write_overlay("hostname", text_format("%s\n", config->hostname));
  if (!problem) problem = write_overlay("machine-id", text_format("%s\n", config->machine_id));
  return problem;
}

// What docker grants every container: low ports and ping without privilege.
static void allow_as_docker(void) {
  static const char zero[] = "0", groups[] = "0 2147483647";
  text_write_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", zero, sizeof zero - 1, 0644);
  text_write_file("/proc/sys/net/ipv4/ping_group_range", groups, sizeof groups - 1, 0644);
}

char *system_prepare(void) {
  allow_as_docker();
  return network_prepare();
}

char *system_configure(const struct config *config) {
  struct timespec now = {config->now_ms / 1000, config->now_ms % 1000 * 1000000};
  char *problem = mix_in(config->seed);
  if (problem) return problem;
  if (config->now_ms > 0 && clock_settime(CLOCK_REALTIME, &now) < 0) return problem_of("set the clock");
  if (sethostname(config->hostname, strlen(config->hostname)) < 0) return problem_of("set the host name");
  problem = network_configure(config);
  return problem ? problem : write_overlays(config);
}
