/*
 * Round trips, counted by how long they took.
 *
 * An octave has 256 classes, so none is wider than 1/256 of what it holds; a
 * class is named by its upper end.
 */
#ifndef GUEST_RTT_H
#define GUEST_RTT_H

#include <stdint.h>

#define RTT_PARTS   256u
#define RTT_CLASSES (RTT_PARTS * 30u) /* up to minutes */

struct rtt {
	uint64_t n;
	uint32_t count[RTT_CLASSES];
};

void rtt_clear(struct rtt *r);
void rtt_add(struct rtt *r, uint64_t ns);
/* What so many of a thousand do not exceed; 0: none was counted. */
uint64_t rtt_permille(const struct rtt *r, uint64_t permille);
void rtt_print(const struct rtt *r, char letter);

#endif
