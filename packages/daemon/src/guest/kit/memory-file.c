// A program for the host. It reads the memory of a guest from a sparse file and prints its checksum; with `seal` it also copies it into memory that nobody can change any
// more, and waits until whoever started it has taken a descriptor of that (docs/adr/memory-images.md).
//
//   memory-file sum PATH    prints: words64:CHECKSUM
//   memory-file seal PATH   prints: FD words64:CHECKSUM, then ends when its standard input does
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, CHUNK = 64 * PAGE, LANES = 4 };

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "memory-file: %s: %s\n", what, strerror(errno));
  exit(1);
}

// Odd, so that multiplying by them loses nothing: two memories that differ in one word of one lane never have the same checksum.
static const uint64_t factors[LANES] = {UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xd1b54a32d192ed03),
                                        UINT64_C(0x8cb92ba72f3d8dd7), UINT64_C(0xaef17502108ef2d9)};

struct sum {
  uint64_t lanes[LANES];
};

static uint64_t turned(uint64_t value, unsigned bits) { return value << bits | value >> (64 - bits); }

static void sum_word(struct sum *sum, unsigned lane, uint64_t word) {
  sum->lanes[lane] = turned((sum->lanes[lane] ^ word) * factors[lane], 29);
}

static int is_zero(const uint64_t *page) { return page[0] == 0 && memcmp(page, page + 1, PAGE - sizeof *page) == 0; }

// A page counts with its place, and only when something is in it: how sparse the file is makes no difference.
static void sum_page(struct sum *sum, uint64_t place, const uint64_t *page) {
  for (unsigned lane = 0; lane < LANES; lane++) sum_word(sum, lane, place);
  for (unsigned at = 0; at < PAGE / sizeof *page; at += LANES)
    for (unsigned lane = 0; lane < LANES; lane++) sum_word(sum, lane, page[at + lane]);
}

static uint64_t sum_end(struct sum *sum, uint64_t length) {
  uint64_t end = length;
  for (unsigned lane = 0; lane < LANES; lane++) {
    end = turned((end ^ sum->lanes[lane]) * factors[lane], 31);
    end ^= end >> 32;
  }
  return end;
}

static void read_whole(int fd, void *buffer, size_t length, off_t from) {
  for (size_t done = 0; done < length;) {
    ssize_t got = pread(fd, (char *)buffer + done, length - done, from + (off_t)done);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) errno = EIO;
    if (got <= 0) fail("cannot read the file");
    done += (size_t)got;
  }
}

static void write_page(int fd, const void *page, off_t to) {
  for (size_t done = 0; done < PAGE;) {
    ssize_t put = pwrite(fd, (const char *)page + done, PAGE - done, to + (off_t)done);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) fail("cannot fill the memory");
    done += (size_t)put;
  }
}

// Reads what is in the file, from hole to hole; copies it when there is a place to copy it to.
static uint64_t take(int file, off_t length, int copy) {
  static uint64_t buffer[CHUNK / sizeof(uint64_t)];
  struct sum sum = {{0}};
  for (off_t from = 0; from < length;) {
    off_t data = lseek(file, from, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    if (data < 0) fail("cannot look for data");
    off_t hole = lseek(file, data, SEEK_HOLE);
    if (hole < 0) fail("cannot look for holes");
    for (from = data / PAGE * PAGE; from < hole; from += CHUNK) {
      size_t bytes = length - from < CHUNK ? (size_t)(length - from) : CHUNK;
      read_whole(file, buffer, bytes, from);
      for (size_t at = 0; at < bytes; at += PAGE) {
        const uint64_t *page = buffer + at / sizeof *buffer;
        if (is_zero(page)) continue;
        sum_page(&sum, (uint64_t)(from + (off_t)at) / PAGE, page);
        if (copy >= 0) write_page(copy, page, from + (off_t)at);
      }
    }
  }
  return sum_end(&sum, (uint64_t)length);
}

static int memory_of(off_t length) {
  int memory = memfd_create("berth-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory < 0 || ftruncate(memory, length) < 0) fail("cannot make the memory");
  return memory;
}

int main(int argc, char **argv) {
  int seal = argc == 3 && strcmp(argv[1], "seal") == 0;
  if (argc != 3 || (!seal && strcmp(argv[1], "sum") != 0)) {
    fprintf(stderr, "memory-file: usage: memory-file sum|seal PATH\n");
    return 2;
  }
  struct stat facts;
  int file = open(argv[2], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (file < 0 || fstat(file, &facts) < 0) fail("cannot open the file");
  if (!S_ISREG(facts.st_mode) || facts.st_size % PAGE != 0) {
    errno = EINVAL;
    fail("it is no guest's memory");
  }
  int memory = seal ? memory_of(facts.st_size) : -1;
  uint64_t checksum = take(file, facts.st_size, memory);
  if (seal) {
    if (fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) fail("cannot seal it");
    printf("%d ", memory);
  }
  printf("words64:%016llx\n", (unsigned long long)checksum);
  if (fflush(stdout) != 0) fail("cannot answer");
  char rest;
  while (seal && (read(STDIN_FILENO, &rest, 1) > 0 || errno == EINTR)) {
  }
  return 0;
}
