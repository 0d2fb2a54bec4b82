// Process 1 of the guest.
#pragma once

void init_main(void) __attribute__((noreturn));
