// Joins the standard output of the image's process to the first console.
#pragma once

// Copies from now on; the console waits for no one, so the process is slowed down to what the console takes.
void console_pump(int output);

// Copies what the process has written until now; of one that never stops writing, what a pipe holds.
void console_catch_up(void);

// Copies what is left when the process has ended.
void console_finish(void);

// Writes a line of our own.
void console_say(const char *text);
