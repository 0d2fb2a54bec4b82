#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "text.h"

static char *copy(const char *text) { return text_format("%s", text); }

static void list_free(char **list) {
  for (char **entry = list; entry && *entry; entry++) free(*entry);
  free(list);
}

// A list of strings as a NULL-terminated array; NULL when the JSON is something else.
static char **string_list(json_t *json) {
  if (!json_is_array(json)) return NULL;
  size_t count = json_array_size(json);
  char **list = calloc(count + 1, sizeof *list);
  if (!list) abort();
  for (size_t at = 0; at < count; at++) {
    const char *text = json_string_value(json_array_get(json, at));
    if (!text) {
      list_free(list);
      return NULL;
    }
    list[at] = copy(text);
  }
  return list;
}

static char *string_member(json_t *json, const char *name) {
  const char *text = json_string_value(json_object_get(json, name));
  return text ? copy(text) : NULL;
}

const char *program_parse(json_t *json, struct program *program) {
  program->argv = string_list(json_object_get(json, "argv"));
  program->env = string_list(json_object_get(json, "env"));
  program->user = string_member(json, "user");
  program->working_dir = string_member(json, "workingDir");
  program->tty = json_is_true(json_object_get(json, "tty"));
  if (!program->argv) return "argv must be a list of strings";
  if (!program->env) return "env must be a list of strings";
  if (!program->user) return "user must be a string";
  if (!program->working_dir) return "workingDir must be a string";
  return NULL;
}

static const char *interface_parse(json_t *json, struct interface *interface) {
  interface->mac = string_member(json, "mac");
  interface->address = string_member(json, "address");
  interface->gateway = string_member(json, "gateway");
  interface->dns = string_list(json_object_get(json, "dns"));
  return interface->mac && interface->address && interface->dns ? NULL : "an interface needs mac, address and dns";
}

static const char *volume_parse(json_t *json, struct volume *volume) {
  volume->path = string_member(json, "path");
  volume->folder = string_member(json, "folder");
  bool well = volume->path && *volume->path == '/' && volume->folder && *volume->folder && *volume->folder != '.' &&
              !strchr(volume->folder, '/');
  return well ? NULL : "a volume needs an absolute path and the name of a folder";
}

// A host that knows of no volumes names none.
static const char *volumes_parse(json_t *json, struct config *config) {
  if (json && !json_is_array(json)) return "volumes must be a list";
  config->volume_count = json_array_size(json);
  config->volumes = calloc(config->volume_count + 1, sizeof *config->volumes);
  if (!config->volumes) abort();
  const char *problem = NULL;
  for (size_t at = 0; at < config->volume_count && !problem; at++)
    problem = volume_parse(json_array_get(json, at), &config->volumes[at]);
  return problem;
}

const char *config_origin(const struct config *config) {
  return json_string_value(json_object_get(config->origin, "kind"));
}

static const char *origin_parse(json_t *json, struct config *config) {
  if (!json_is_object(json)) return NULL;
  config->origin = json_incref(json);
  static const char *const kinds[] = {"fork", "restore", "resume"};
  const char *kind = config_origin(config);
  for (size_t at = 0; kind && at < sizeof kinds / sizeof *kinds; at++)
    if (strcmp(kind, kinds[at]) == 0) return NULL;
  return "origin.kind must be fork, restore or resume";
}

const char *config_parse_ports(json_t *json, struct config *config) {
  if (!json_is_array(json)) return "watchPorts must be a list";
  size_t count = json_array_size(json);
  uint16_t *ports = calloc(count + 1, sizeof *ports);
  if (!ports) abort();
  for (size_t at = 0; at < count; at++) {
    json_int_t port = json_integer_value(json_array_get(json, at));
    if (port < 1 || port > 65535) {
      free(ports);
      return "a port must be from 1 to 65535";
    }
    ports[at] = (uint16_t)port;
  }
  free(config->watch_ports);
  config->watch_ports = ports;
  config->watch_port_count = count;
  return NULL;
}

const char *config_parse_disks(json_t *json, struct config *config) {
  if (json && !json_is_array(json)) return "diskBytes must be a list";
  for (size_t at = 0; at < DISKS; at++) {
    json_t *least = json_array_get(json, at);
    if (least && (!json_is_integer(least) || json_integer_value(least) < 0)) return "diskBytes must be numbers of bytes";
    config->disk_bytes[at] = (uint64_t)json_integer_value(least);
  }
  return NULL;
}

const char *config_parse(json_t *json, struct config *config) {
  memset(config, 0, sizeof *config);
  config->id = string_member(json, "id");
  config->hostname = string_member(json, "hostname");
  config->machine_id = string_member(json, "machineId");
  json_t *channel = json_object_get(json, "channel");
  config->host_key = string_member(channel, "hostKey");
  config->client_key = string_member(channel, "clientPublicKey");
  config->seed = string_member(json, "seed");
  config->now_ms = json_integer_value(json_object_get(json, "nowMs"));
  if (!config->id || !config->hostname || !config->host_key || !config->client_key || !config->seed)
    return "id, hostname, channel.hostKey, channel.clientPublicKey and seed must be strings";
  if (!config->machine_id || strlen(config->machine_id) != 32 || strspn(config->machine_id, "0123456789abcdef") != 32)
    return "machineId must be 32 lower-case hex digits";
  const char *unknown = origin_parse(json_object_get(json, "origin"), config);
  if (unknown) return unknown;

  const char *unfit = config_parse_ports(json_object_get(json, "watchPorts"), config);
  if (unfit) return unfit;
  const char *odd = config_parse_disks(json_object_get(json, "diskBytes"), config);
  if (odd) return odd;
  const char *wrong = volumes_parse(json_object_get(json, "volumes"), config);
  if (wrong) return wrong;
  json_t *interfaces = json_object_get(json, "interfaces");
  if (!json_is_array(interfaces)) return "interfaces must be a list";
  config->interface_count = json_array_size(interfaces);
  config->interfaces = calloc(config->interface_count + 1, sizeof *config->interfaces);
  if (!config->interfaces) abort();
  for (size_t at = 0; at < config->interface_count; at++) {
    const char *problem = interface_parse(json_array_get(interfaces, at), &config->interfaces[at]);
    if (problem) return problem;
  }
  return program_parse(json_object_get(json, "process"), &config->process);
}

void config_free(struct config *config) {
  free(config->seed);
  free(config->host_key);
  free(config->client_key);
  free(config->id);
  free(config->hostname);
  free(config->machine_id);
  list_free(config->process.argv);
  list_free(config->process.env);
  free(config->process.user);
  free(config->process.working_dir);
  for (size_t at = 0; at < config->interface_count; at++) {
    free(config->interfaces[at].mac);
    free(config->interfaces[at].address);
    free(config->interfaces[at].gateway);
    list_free(config->interfaces[at].dns);
  }
  free(config->interfaces);
  for (size_t at = 0; at < config->volume_count; at++) {
    free(config->volumes[at].path);
    free(config->volumes[at].folder);
  }
  free(config->volumes);
  free(config->watch_ports);
  json_decref(config->origin);
  memset(config, 0, sizeof *config);
}

static int base64_value(char c) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const char *found = c ? strchr(letters, c) : NULL;
  return found ? (int)(found - letters) : -1;
}

unsigned char *base64_decode(const char *text, size_t *length) {
  unsigned char *bytes = malloc(strlen(text) * 3 / 4 + 3);
  if (!bytes) abort();
  unsigned held = 0;
  int bits = 0;
  *length = 0;
  for (; *text && *text != '='; text++) {
    int value = base64_value(*text);
    if (value < 0) {
      free(bytes);
      return NULL;
    }
    held = held << 6 | (unsigned)value;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes[(*length)++] = (unsigned char)(held >> bits);
  }
  return bytes;
}
