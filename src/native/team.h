// Threads that live for one call, and the barrier they meet at. Kept apart from the kernels: the standard library's templates
// may only be used where the code is compiled for any machine.
#pragma once

#include <stdint.h>

struct fb_team;

extern "C" {
// body(argument, team, rank) on up to ``threads`` threads, the caller's being rank 0; returns when all have.
void fb_team_run(int threads, void (*body)(void* argument, fb_team* team, int rank), void* argument);
int fb_team_size(const fb_team* team);  // fewer than asked for where the system gives no more
void fb_team_wait(fb_team* team);       // until all threads of the team are here
double fb_seconds(void);                // of a clock that only goes forward
}
