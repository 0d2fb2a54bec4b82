// Joins the standard output of the image's process, and of its hook, to the first console.
#pragma once

enum console_source { CONSOLE_PROCESS, CONSOLE_HOOK };

// Copies from now on; the console waits for no one, so the process is slowed down to what the console takes.
void console_pump(enum console_source source, int output);

// Copies what the process has written until now; of one that never stops writing, what a pipe holds.
void console_catch_up(void);

// Copies what is left when it has ended.
void console_finish(enum console_source source);

// Writes a line of our own.
void console_say(const char *text);
