// What the host tells the guest, parsed from JSON. Lists end with NULL.
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

// How a program is run: the image's process, or an exec.
struct program {
  char **argv;
  char **env;
  char *user;
  char *working_dir;
  bool tty;
};

struct interface {
  char *mac;
  char *address; // with prefix length: 10.0.2.15/24
  char *gateway; // may be NULL
  char **dns;
};

// A folder of the image that lives on the disk of the volumes.
struct volume {
  char *path;   // in the image, absolute
  char *folder; // on that disk: a name
};

// The first disk is the root's, the second that of the volumes.
enum disk { ROOT_DISK, VOLUMES_DISK, DISKS };

struct config {
  char *id; // the instance's
  char *hostname;
  char *machine_id; // 32 hex digits
  struct program process;
  uint16_t *watch_ports;
  size_t watch_port_count;
  struct interface *interfaces;
  size_t interface_count;
  struct volume *volumes; // parents before what is in them
  size_t volume_count;
  uint64_t disk_bytes[DISKS]; // what each disk has at least; 0 when the host does not say
  char *host_key; // base64, dropbear's format
  char *client_key;  // one line of authorized_keys
  int64_t now_ms;
  char *seed; // base64
  json_t *origin; // {kind, parent: {id, name} or null, index}: whose memory it began with; NULL when its own
};

// Where the configuration came from: fork, restore or resume; NULL for a guest that began with no other's memory.
const char *config_origin(const struct config *config);

// Reads a program; NULL when well, else what is wrong.
const char *program_parse(json_t *json, struct program *program);

// Reads a whole configuration; NULL when well, else what is wrong. What was read is to be freed in both cases.
const char *config_parse(json_t *json, struct config *config);

// Reads a list of TCP ports in place of those the configuration has; NULL when well, else what is wrong, and then it keeps them.
const char *config_parse_ports(json_t *json, struct config *config);

// Reads how large the disks are at least; NULL when well, else what is wrong.
const char *config_parse_disks(json_t *json, struct config *config);

// Forgets a configuration.
void config_free(struct config *config);

// Decodes base64 into fresh memory; NULL when it is not.
unsigned char *base64_decode(const char *text, size_t *length);
