#include "network.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "text.h"

// The name of the card with that MAC address.
static int card_name(const char *mac, char name[IFNAMSIZ]) {
  DIR *folder = opendir("/sys/class/net");
  int found = 0;
  for (struct dirent *entry; folder && !found && (entry = readdir(folder));) {
    if (entry->d_name[0] == '.' || strlen(entry->d_name) >= IFNAMSIZ) continue;
    char *path = text_format("/sys/class/net/%s/address", entry->d_name);
    char *address = text_read_file(path, 256);
    found = address && strncasecmp(address, mac, 17) == 0;
    if (found) strcpy(name, entry->d_name);
    free(address);
    free(path);
  }
  if (folder) closedir(folder);
  return found ? 0 : -1;
}

static struct sockaddr inet(struct in_addr address) {
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = address};
  struct sockaddr any;
  memcpy(&any, &in, sizeof any);
  return any;
}

static int bring_up(int sock, const char *name) {
  struct ifreq request = {0};
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (ioctl(sock, SIOCGIFFLAGS, &request) < 0) return -1;
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  return ioctl(sock, SIOCSIFFLAGS, &request);
}

static int set_address(int sock, const char *name, const char *text) {
  struct ifreq request = {0};
  struct in_addr address, mask;
  char *host = text_format("%s", text), *prefix = strchr(host, '/');
  if (prefix) *prefix++ = '\0';
  int bits = prefix ? atoi(prefix) : 32;
  int valid = inet_pton(AF_INET, host, &address) == 1 && bits >= 1 && bits <= 32;
  free(host);
  errno = EINVAL;
  if (!valid) return -1;
  mask.s_addr = htonl(UINT32_MAX << (32 - bits));
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  request.ifr_addr = inet(address);
  if (ioctl(sock, SIOCSIFADDR, &request) < 0) return -1;
  request.ifr_netmask = inet(mask);
  return ioctl(sock, SIOCSIFNETMASK, &request);
}

static int set_gateway(int sock, const char *text) {
  struct in_addr gateway, any = {INADDR_ANY};
  errno = EINVAL;
  if (inet_pton(AF_INET, text, &gateway) != 1) return -1;
  struct rtentry route = {.rt_dst = inet(any), .rt_genmask = inet(any), .rt_gateway = inet(gateway)};
  route.rt_flags = RTF_UP | RTF_GATEWAY;
  return ioctl(sock, SIOCADDRT, &route) < 0 && errno != EEXIST ? -1 : 0;
}

char *network_configure(const struct config *config) {
  int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  int done = sock < 0 ? -1 : bring_up(sock, "lo");
  const char *what = "bring up loopback";
  for (size_t at = 0; done == 0 && at < config->interface_count; at++) {
    const struct interface *interface = &config->interfaces[at];
    char name[IFNAMSIZ];
    what = "configure the network card";
    errno = ENODEV;
    done = card_name(interface->mac, name);
    if (done == 0) done = set_address(sock, name, interface->address);
    if (done == 0) done = bring_up(sock, name);
    if (done == 0 && interface->gateway) done = set_gateway(sock, interface->gateway);
  }
  char *problem = done < 0 ? text_format("cannot %s: %s", what, strerror(errno)) : NULL;
  if (sock >= 0) close(sock);
  return problem;
}
