#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "launch.h"
#include "loop.h"
#include "ports.h"
#include "sessions.h"

// A host begins every conversation with this call and a number of its own, and ignores all it reads before the same line comes back.
// So both sides start clean whatever an earlier conversation left in the port. What SSH sends is encrypted: it never contains the call.
static const char call[] = "BERTH-CHANNEL:";
enum { CALL = sizeof call - 1, NONCE = 32, ROUNDS = 64 };

struct buffer {
  char bytes[64 << 10];
  size_t start, end;
};

static void on_ready(uint32_t events);
static struct watch port = {-1, on_ready}, server = {-1, on_ready};
static struct buffer inward, outward;
static pid_t server_pid;
static char heard[CALL + NONCE + 1];
static size_t heard_length;

static void end_server(void) {
  if (server.fd < 0) return;
  loop_remove(&server);
  close(server.fd);
  server.fd = -1;
  if (server_pid > 0) kill(server_pid, SIGKILL);
  server_pid = 0;
}

void relay_child_ended(pid_t pid) {
  if (pid == server_pid) server_pid = 0;
}

static void become_server(int sock) {
  reset_signals();
  dup2(sock, 0);
  dup2(sock, 1);
  int nowhere = open("/dev/null", O_WRONLY);
  dup2(nowhere, 2);
  // inetd mode, no passwords, no forwarding of ports, a wide window.
  char *argv[] = {"dropbear", "-i", "-s", "-j", "-k", "-m", "-W", "1048576", "-r", "/run/berth/host-key", NULL};
  execv("/usr/sbin/dropbear", argv);
  _exit(127);
}

static void begin_server(void) {
  int ends[2];
  end_server();
  inward.start = inward.end = 0;
  outward.start = 0;
  outward.end = (size_t)snprintf(outward.bytes, sizeof outward.bytes, "\n%.*s\n", CALL + NONCE, heard);
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) return;
  server_pid = fork();
  if (server_pid == 0) become_server(ends[1]);
  close(ends[1]);
  server.fd = ends[0];
  fcntl(server.fd, F_SETFL, O_NONBLOCK);
  loop_add(&server, EPOLLIN | EPOLLOUT | EPOLLET);
}

// Whether this byte completes a call.
static bool completes_call(char byte) {
  if (heard_length < CALL) {
    if (byte != call[heard_length]) heard_length = 0;
    if (byte == call[heard_length]) heard[heard_length++] = byte;
    return false;
  }
  if (heard_length < CALL + NONCE) {
    bool hex = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
    heard_length = hex ? heard_length + 1 : 0;
    if (hex) heard[heard_length - 1] = byte;
    return false;
  }
  heard_length = 0;
  return byte == '\n';
}

static void take(const char *bytes, size_t count) {
  for (size_t at = 0; at < count; at++) {
    if (completes_call(bytes[at]))
      begin_server();
    else
      inward.bytes[inward.end++] = bytes[at];
  }
  // Without a server there is no one to read it.
  if (server.fd < 0) inward.start = inward.end = 0;
}

// Moves one portion on; true when something moved. Only an empty buffer is filled again.
static bool fill(struct buffer *buffer, int from, ssize_t *got) {
  if (from < 0 || buffer->start < buffer->end) return false;
  char bytes[32 << 10];
  *got = read(from, bytes, sizeof bytes);
  if (*got <= 0) return false;
  buffer->start = buffer->end = 0;
  if (buffer == &inward) {
    take(bytes, (size_t)*got);
  } else {
    memcpy(buffer->bytes, bytes, (size_t)*got);
    buffer->end = (size_t)*got;
  }
  return true;
}

static bool empty(struct buffer *buffer, int to) {
  if (to < 0 || buffer->start == buffer->end) return false;
  ssize_t written = write(to, buffer->bytes + buffer->start, buffer->end - buffer->start);
  if (written <= 0) return false;
  buffer->start += (size_t)written;
  return true;
}

// A port cannot be closed under a host, but what is no SSH ends its conversation: it learns at once that nobody answers any more.
static void hang_up(void) {
  static const char words[] = "\nBERTH-CHANNEL: the server has ended\n";
  memcpy(outward.bytes, words, sizeof words - 1);
  outward.start = 0;
  outward.end = sizeof words - 1;
}

// Both ends are watched edge-triggered and served until nothing moves: a port without a host would report a hang-up without end.
static void on_ready(uint32_t events) {
  (void)events;
  for (int round = 0; round < ROUNDS; round++) {
    ssize_t in = 1, out = 1;
    bool moved = empty(&inward, server.fd);
    moved |= empty(&outward, port.fd);
    moved |= fill(&inward, port.fd, &in);
    moved |= fill(&outward, server.fd, &out);
    if (server.fd >= 0 && (out == 0 || (out < 0 && errno != EAGAIN && errno != EINTR))) {
      end_server();
      hang_up();
      moved = true;
    }
    if (!moved) return;
  }
  // Others have their turn first; setting the same events again makes the loop look once more.
  loop_change(&port, EPOLLIN | EPOLLOUT | EPOLLET);
  if (server.fd >= 0) loop_change(&server, EPOLLIN | EPOLLOUT | EPOLLET);
}

void relay_end(void) {
  sessions_end(server_pid);
  end_server();
  inward.start = inward.end = outward.start = outward.end = heard_length = 0;
}

void relay_prepare(void) { port.fd = port_open("berth.channel"); }

void relay_start(void) {
  if (port.fd >= 0) loop_add(&port, EPOLLIN | EPOLLOUT | EPOLLET);
}
