#include "instance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"
#include "system.h"
#include "text.h"

static void remember_process(json_t *command) {
  char *text = json_dumps(json_object_get(command, "process"), JSON_COMPACT);
  if (text) text_write_file(PROCESS_FILE, text, strlen(text), 0600);
  free(text);
}

static void place_keys(const struct config *config) {
  size_t length;
  unsigned char *key = base64_decode(config->host_key, &length);
  if (key) {
    text_write_file(STATE_FOLDER "/host-key", (char *)key, length, 0600);
    explicit_bzero(key, length);
  }
  free(key);
  char *line = text_format("%s\n", config->client_key);
  text_write_file("/root/.ssh/authorized_keys", line, strlen(line), 0600);
  free(line);
}

// One that goes on from its own memory is still the fork, or the restored one, that it was.
static json_t *lasting_origin(const struct config *config, const char *path) {
  const char *kind = config_origin(config);
  if (!kind) return json_null();
  if (strcmp(kind, "resume") != 0) return json_incref(config->origin);
  json_error_t error;
  json_t *before = json_load_file(path, 0, &error), *origin = json_incref(json_object_get(before, "origin"));
  json_decref(before);
  return origin ? origin : json_null();
}

// Replaced as a whole: a program that reads it meanwhile sees the one or the other.
static void show_identity(const struct config *config) {
  static const char path[] = SHOWN_FOLDER "/identity.json", next[] = SHOWN_FOLDER "/.next";
  json_t *identity =
      json_pack("{s:s, s:s, s:o}", "id", config->id, "name", config->hostname, "origin", lasting_origin(config, path));
  char *text = json_dumps(identity, JSON_COMPACT);
  json_decref(identity);
  char *line = text ? text_format("%s\n", text) : NULL;
  if (line && text_write_file(next, line, strlen(line), 0444) == 0) rename(next, path);
  free(line);
  free(text);
}

char *instance_take_on(const struct config *config, json_t *command) {
  char *problem = system_configure(config);
  if (problem) return problem;
  remember_process(command);
  place_keys(config);
  show_identity(config);
  explicit_bzero(config->seed, strlen(config->seed));
  explicit_bzero(config->host_key, strlen(config->host_key));
  return NULL;
}

const char *instance_hook(const struct config *config) {
  const char *kind = config_origin(config);
  if (kind && strcmp(kind, "fork") == 0) return "/etc/berth/forked";
  if (kind && strcmp(kind, "restore") == 0) return "/etc/berth/restored";
  return NULL;
}

static void add(json_t *env, const char *name, const char *value) {
  if (value) json_array_append_new(env, json_sprintf("%s=%s", name, value));
}

json_t *instance_hook_env(const struct config *config) {
  json_t *env = json_array(), *parent = json_object_get(config->origin, "parent");
  add(env, "BERTH_INSTANCE_ID", config->id);
  add(env, "BERTH_INSTANCE_NAME", config->hostname);
  add(env, "BERTH_PARENT_ID", json_string_value(json_object_get(parent, "id")));
  add(env, "BERTH_PARENT_NAME", json_string_value(json_object_get(parent, "name")));
  json_int_t index = json_integer_value(json_object_get(config->origin, "index"));
  json_array_append_new(env, json_sprintf("BERTH_FORK_INDEX=%lld", (long long)index));
  return env;
}
