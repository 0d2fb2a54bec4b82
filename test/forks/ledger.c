// The only program of an image: a database under write load, with a counter in memory that goes up by one with each commit. It looks after each whether it is in another
// instance by now, and if so says who it is and what its counter is, in memory and on its disk. As /etc/berth/forked it is the hook.
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *database = "/ledger.db";
/** How much a child writes after it has looked. */
enum { more = 20 };

static volatile sig_atomic_t asked_to_end;

static void on_end(int number) { asked_to_end = number; }

static void say_random(const char *who) {
  unsigned char random[1024];
  int file = open("/dev/urandom", O_RDONLY);
  if (file < 0 || read(file, random, sizeof random) != sizeof random) exit(1);
  close(file);
  printf("%s random ", who);
  for (size_t at = 0; at < sizeof random; at++) printf("%02x", random[at]);
  printf("\n");
}

static void read_line(const char *path, char *text, size_t size) {
  int file = open(path, O_RDONLY);
  ssize_t length = file < 0 ? 0 : read(file, text, size - 1);
  if (file >= 0) close(file);
  text[length < 0 ? 0 : length] = 0;
  text[strcspn(text, "\n")] = 0;
}

static void say_file(const char *name, const char *path) {
  char text[1024];
  read_line(path, text, sizeof text);
  printf("%s %s\n", name, text);
}

static void must(sqlite3 *db, int result) {
  if (result == SQLITE_OK || result == SQLITE_DONE || result == SQLITE_ROW) return;
  printf("ledger failed: %s\n", sqlite3_errmsg(db));
  fflush(stdout);
  exit(1);
}

static sqlite3 *open_database(void) {
  sqlite3 *db;
  must(NULL, sqlite3_open(database, &db));
  must(db, sqlite3_exec(db, "pragma synchronous = full", NULL, NULL, NULL));
  return db;
}

/** One entry with 2 KiB that depend on its number, and the number written down beside, in one transaction. */
static void add(sqlite3 *db, long number) {
  char text[256];
  snprintf(text, sizeof text,
           "begin immediate; insert into entry values (%ld, zeroblob(2040) || %ld); update total set last = %ld; commit",
           number, number, number);
  must(db, sqlite3_exec(db, text, NULL, NULL, NULL));
}

static long ask(sqlite3 *db, const char *question, char *text, size_t size) {
  sqlite3_stmt *statement;
  must(db, sqlite3_prepare_v2(db, question, -1, &statement, NULL));
  must(db, sqlite3_step(statement));
  long number = (long)sqlite3_column_int64(statement, 0);
  if (text) snprintf(text, size, "%s", (const char *)sqlite3_column_text(statement, 0));
  must(db, sqlite3_finalize(statement));
  return number;
}

/** What is on the disk, read from there: what the kernel remembers of it is dropped first. */
static void say_ledger(const char *when, long counter) {
  int drop = open("/proc/sys/vm/drop_caches", O_WRONLY);
  if (drop < 0 || write(drop, "3\n", 2) != 2) exit(1);
  close(drop);
  sqlite3 *db = open_database();
  char verdict[256];
  ask(db, "pragma integrity_check", verdict, sizeof verdict);
  printf("%s memory %ld disk %ld entries %ld integrity %s\n", when, counter, ask(db, "select last from total", NULL, 0),
         ask(db, "select count(*) from entry", NULL, 0), verdict);
  fflush(stdout);
  must(db, sqlite3_close(db));
}

static int be_hook(void) {
  say_random("hook");
  printf("hook child %s of %s is %s\n", getenv("BERTH_FORK_INDEX"), getenv("BERTH_PARENT_NAME"),
         getenv("BERTH_INSTANCE_NAME"));
  return 0;
}

static void be_child(sqlite3 *db, long counter) {
  say_random("program");
  char hostname[256] = "";
  gethostname(hostname, sizeof hostname - 1);
  printf("hostname %s\n", hostname);
  say_file("machine-id", "/etc/machine-id");
  say_file("mac", "/sys/class/net/eth0/address");
  say_file("identity", "/run/berth/identity.json");
  say_ledger("forked", counter);
  for (int left = more; left > 0; left--) add(db, ++counter);
  say_ledger("later", counter);
  while (!asked_to_end) pause();
}

int main(int count, char **arguments) {
  (void)count;
  if (strstr(arguments[0], "forked")) return be_hook();
  signal(SIGTERM, on_end);
  char first[1024];
  char now[1024];
  read_line("/run/berth/identity.json", first, sizeof first);
  sqlite3 *db = open_database();
  must(db, sqlite3_exec(db,
                        "create table if not exists entry (number integer primary key, content blob not null);"
                        "create table if not exists total (last integer not null);"
                        "insert into total select 0 where not exists (select 1 from total)",
                        NULL, NULL, NULL));
  long counter = ask(db, "select last from total", NULL, 0);
  printf("began with %ld\n", counter);
  fflush(stdout);
  while (!asked_to_end) {
    add(db, counter + 1);
    counter++;
    if (counter % 100 == 0) {
      printf("counted %ld\n", counter);
      fflush(stdout);
    }
    read_line("/run/berth/identity.json", now, sizeof now);
    if (strcmp(first, now) != 0) {
      be_child(db, counter);
      return 0;
    }
  }
  say_ledger("ended", counter);
}
