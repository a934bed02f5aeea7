/*
 * Threads on CPUs of their own, as far as there are enough, so that no turn
 * of a comparison hangs on where the scheduler has put them.
 */
#ifndef BENCH_PIN_H
#define BENCH_PIN_H

/*
 * The last CPU is for NIC, loops and all else, the others are dealt to the
 * vCPUs that there are now.  Does nothing on a machine with one CPU.
 */
void pin_threads(void);

#endif
