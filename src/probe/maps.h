/*
 * What is mapped into a process: /proc/PID/maps, read line by line into a
 * fixed buffer, so that a signal handler may do it too.
 */
#ifndef PROBE_MAPS_H
#define PROBE_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAPS_PATH 512

struct maps_line {
	uint64_t lo, hi, offset;
	bool exec, write;
	char path[MAPS_PATH]; /* cut if longer; "" if none */
};

struct maps {
	int fd;
	size_t at, n;
	char buf[2048];
};

/* pid 0 is this process.  0 or -errno. */
int maps_open(struct maps *m, int pid);
bool maps_next(struct maps *m, struct maps_line *l);
void maps_close(struct maps *m);

/* The mapping that holds addr, and where the one before it ends. */
int maps_find(int pid, uint64_t addr, struct maps_line *l, uint64_t *prev_end);

/* An address where 'size' bytes are free within 1 GiB of near. */
int maps_gap(int pid, uint64_t near, size_t size, uint64_t *addr);

#endif
