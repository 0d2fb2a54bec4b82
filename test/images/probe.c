// What an image's process is given, told on standard output, and what it is sent: it notes the signal in /var/probe/signal and ends with it. With PROBE_PORT it
// answers HTTP there.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

extern char **environ;
static volatile sig_atomic_t caught;

static void note(int number) { caught = number; }

static void tell(char **argv) {
  char folder[4096];
  gid_t groups[64];
  int count = getgroups(64, groups);
  for (int at = 1; argv[at]; at++) printf("argument %s\n", argv[at]);
  for (char **entry = environ; *entry; entry++) printf("env %s\n", *entry);
  printf("folder %s\n", getcwd(folder, sizeof folder));
  printf("ids %u %u\ngroups", getuid(), getgid());
  for (int at = 0; at < count; at++) printf(" %u", groups[at]);
  printf("\nterminal %s\n", isatty(0) && isatty(1) ? "yes" : "no");
  fflush(stdout);
}

static int listen_on(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 8) < 0) {
    perror("listen");
    exit(3);
  }
  return listener;
}

static void answer(int client) {
  static const char words[] = "HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nprobe\n";
  char request[4096];
  (void)!read(client, request, sizeof request);
  (void)!write(client, words, sizeof words - 1);
  shutdown(client, SHUT_WR);
  while (read(client, request, sizeof request) > 0) {
  }
  close(client);
}

int main(int argc, char **argv) {
  (void)argc;
  const char *port = getenv("PROBE_PORT"), *code = getenv("PROBE_EXIT");
  struct sigaction action = {.sa_handler = note};
  for (int number = 1; number < 65; number++) sigaction(number, &action, NULL);
  tell(argv);
  if (code) return atoi(code);
  int listener = port ? listen_on(atoi(port)) : -1;
  while (!caught) {
    if (listener < 0) {
      pause();
      continue;
    }
    int client = accept(listener, NULL, NULL);
    if (client >= 0) answer(client);
  }
  printf("signal %d\n", caught);
  fflush(stdout);
  FILE *file = fopen("/var/probe/signal", "w");
  if (file) {
    fprintf(file, "%d\n", caught);
    fclose(file);
  }
  return 64 + caught;
}
