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

// The cards of the machine in their order, as they were when they were last looked for; none when they may have changed since.
static struct card cards[CARD_LIMIT];
static size_t card_count;

// Makes a card tell its neighbours of its address whenever it comes up: they may know that of the machine it was cloned from.
static void announce(const char *name) {
  char *path = text_format("/proc/sys/net/ipv4/conf/%s/arp_notify", name);
  text_write_file(path, "1", 1, 0644);
  free(path);
}

// What is no device (loopback, what programs made) is left out.
static void find_cards(void) {
  DIR *folder = opendir("/sys/class/net");
  card_count = 0;
  for (struct dirent *entry; folder && card_count < CARD_LIMIT && (entry = readdir(folder));) {
    if (entry->d_name[0] == '.' || strlen(entry->d_name) >= IFNAMSIZ) continue;
    char *device = text_format("/sys/class/net/%s/device", entry->d_name);
    char *mac = card_file(entry->d_name, "address"), *index = card_file(entry->d_name, "ifindex");
    if (access(device, F_OK) == 0 && mac && index) {
      struct card *card = &cards[card_count++];
      *card = (struct card){.index = atoi(index)};
      strcpy(card->name, entry->d_name);
      strncpy(card->mac, mac, sizeof card->mac - 1);
      announce(card->name);
    }
    free(device);
    free(mac);
    free(index);
  }
  if (folder) closedir(folder);
  qsort(cards, card_count, sizeof *cards, by_index);
}

// The card with that address; when none has it, the one at that place: in a machine cloned from another's memory, cards still have the other's.
static const struct card *card_for(const char *mac, size_t place) {
  for (size_t at = 0; at < card_count; at++)
    if (strcasecmp(cards[at].mac, mac) == 0) return &cards[at];
  errno = ENODEV;
  return place < card_count ? &cards[place] : NULL;
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
  if (!up == !(request.ifr_flags & IFF_UP)) return 0;
  request.ifr_flags ^= IFF_UP;
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
  if (set_address(sock, card->name, interface->address) < 0 || bring(sock, card->name, true) < 0) return -1;
  return interface->gateway ? set_gateway(sock, interface->gateway) : 0;
}

static char *problem_of(const char *what) { return text_format("cannot %s: %s", what, strerror(errno)); }

char *network_prepare(void) {
  int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  char *problem = sock < 0 || bring(sock, "lo", true) < 0 ? problem_of("bring up loopback") : NULL;
  if (sock >= 0) close(sock);
  find_cards();
  return problem;
}

char *network_configure(const struct config *config) {
  if (card_count < config->interface_count) find_cards();
  int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), done = sock < 0 ? -1 : 0;
  for (size_t at = 0; done == 0 && at < config->interface_count; at++)
    done = configure_card(sock, &config->interfaces[at], at);
  char *problem = done < 0 ? problem_of("configure the network card") : NULL;
  if (sock >= 0) close(sock);
  // From here on programs may change them.
  card_count = 0;
  return problem;
}
