// Holding: all programs of the image stand still while the machine's memory is saved, and in a machine that goes on from it until that knows who it is.
#pragma once
#include <jansson.h>
#include <stdbool.h>

// `asleep` is called when all stand still and before the host is told; `moved` when a guest that holds finds itself in another machine.
void hold_start(void (*asleep)(void), void (*moved)(void));

// Stops the programs; `held` is said when all stand still, `refused` when they do not within the limit.
void hold_begin(void);

// Lets them go on and says so; refused in a machine that first must be told who it is, and when nothing is held.
void hold_release(void);

// Lets them go on without a word.
void hold_end(void);

// Whether the guest holds in another machine than the one it began to hold in.
bool hold_has_moved(void);

// Adds to a hello what there is to know.
void hold_describe(json_t *hello);
