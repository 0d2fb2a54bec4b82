// When sessions of the SSH server may end. Debian 12's dropbear closes a session that was opened and has no command yet when the program of another one ends, and when
// the command then comes it ends the whole connection (its issue 321). So the host has the gate closed while it opens sessions, and what ends meanwhile waits.
#pragma once

// A descriptor of the gate; -1 when there is none.
int gate_find(void);

// The helper of a session calls it right before it exits; returns when it may.
void gate_pass(int gate);

// A session that closes the gate for each `c` on standard input, and answers with a `c` once no other session is about to end; `o` opens it. To the end of the input.
int gate_keep(void);
