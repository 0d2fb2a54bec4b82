// One program, two parts: the guest's init, and the login shell of its only SSH user.
#include <string.h>
#include <unistd.h>

#include "init.h"
#include "shell.h"

int main(int argc, char **argv) {
  if (getpid() == 1) init_main();
  return shell_main(argc, argv);
}
