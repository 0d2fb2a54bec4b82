#include "network.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "text.h"

enum { CARD_LIMIT = 64 };

struct card {
  char name[IFNAMSIZ];
  char mac[18];
  int index; // as the kernel numbers them: the order in which it found them
};

static char *card_file(const char *card, const char *name) {
  char *path = text_format("/sys/class/net/%s/%s", card, name), *content = text_read_file(path, 256);
  free(path);
  return content;
}

static int by_index(const void *a, const void *b) {
  return ((const struct card *)a)->index - ((const struct card *)b)->index;
}

// The cards of the machine in their order; what is no device (loopback, what programs made) is left out. Returns how many there are.
static size_t find_cards(struct card cards[CARD_LIMIT]) {
  DIR *folder = opendir("/sys/class/net");
  size_t count = 0;
  for (struct dirent *entry; folder && count < CARD_LIMIT && (entry = readdir(folder));) {
    if (entry->d_name[0] == '.' || strlen(entry->d_name) >= IFNAMSIZ) continue;
    char *device = text_format("/sys/class/net/%s/device", entry->d_name);
    char *mac = card_file(entry->d_name, "address"), *index = card_file(entry->d_name, "ifindex");
    if (access(device, F_OK) == 0 && mac && index) {
      struct card *card = &cards[count++];
      *card = (struct card){.index = atoi(index)};
      strcpy(card->name, entry->d_name);
      strncpy(card->mac, mac, sizeof card->mac - 1);
    }
    free(device);
    free(mac);
    free(index);
  }
  if (folder) closedir(folder);
  qsort(cards, count, sizeof *cards, by_index);
  return count;
}

// The card with that address; when none has it, the one at that place: in a machine cloned from another's memory, cards still have the other's.
static const struct card *card_for(const char *mac, size_t place) {
  static struct card cards[CARD_LIMIT];
  size_t count = find_cards(cards);
  for (size_t at = 0; at < count; at++)
    if (strcasecmp(cards[at].mac, mac) == 0) return &cards[at];
  errno = ENODEV;
  return place < count ? &cards[place] : NULL;
}

static struct sockaddr inet(struct in_addr address) {
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = address};
  struct sockaddr any;
  memcpy(&any, &in, sizeof any);
  return any;
}

static int bring(int sock, const char *name, bool up) {
  struct ifreq request = {0};
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (ioctl(sock, SIOCGIFFLAGS, &request) < 0) return -1;
  if (up)
    request.ifr_flags |= IFF_UP | IFF_RUNNING;
  else
    request.ifr_flags &= ~IFF_UP;
  return ioctl(sock, SIOCSIFFLAGS, &request);
}

// Gives a card that is down another MAC address.
static int set_mac(int sock, const char *name, const char *text) {
  struct ifreq request = {.ifr_hwaddr.sa_family = ARPHRD_ETHER};
  unsigned char *bytes = (unsigned char *)request.ifr_hwaddr.sa_data;
  errno = EINVAL;
  if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4], &bytes[5]) != 6)
    return -1;
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  return ioctl(sock, SIOCSIFHWADDR, &request);
}

// Makes a card tell its neighbours of its address whenever it comes up: they may know that of the machine it was cloned from.
static void announce(const char *name) {
  char *path = text_format("/proc/sys/net/ipv4/conf/%s/arp_notify", name);
  text_write_file(path, "1", 1, 0644);
  free(path);
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

static int configure_card(int sock, const struct interface *interface, size_t place) {
  const struct card *card = card_for(interface->mac, place);
  if (!card) return -1;
  if (strcasecmp(card->mac, interface->mac) != 0 &&
      (bring(sock, card->name, false) < 0 || set_mac(sock, card->name, interface->mac) < 0))
    return -1;
  announce(card->name);
  if (set_address(sock, card->name, interface->address) < 0 || bring(sock, card->name, true) < 0) return -1;
  return interface->gateway ? set_gateway(sock, interface->gateway) : 0;
}

char *network_configure(const struct config *config) {
  int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  int done = sock < 0 ? -1 : bring(sock, "lo", true);
  const char *what = "bring up loopback";
  for (size_t at = 0; done == 0 && at < config->interface_count; at++) {
    what = "configure the network card";
    done = configure_card(sock, &config->interfaces[at], at);
  }
  char *problem = done < 0 ? text_format("cannot %s: %s", what, strerror(errno)) : NULL;
  if (sock >= 0) close(sock);
  return problem;
}
