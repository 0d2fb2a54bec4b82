// The login shell of the SSH server: carries out one request, given as JSON, and exits with its code.
#pragma once

int shell_main(int argc, char **argv);
