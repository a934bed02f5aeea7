/*
 * The log: one line an event, on standard error.
 *
 * A line says who, what and with which numbers.  No newline, no function
 * name, no "error:" in the text; the level and the prefix (the VM's or the
 * device's name, one per process) are added here.
 *
 * What a guest, a device or a peer can cause goes through log_limited(), so
 * that it can fill neither the disk nor the terminal.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
int log_level_parse(const char *name); /* level, or -EINVAL */

/* Name at the front of each line, e.g. the VM's; copied, cut at 31 bytes. */
void log_set_prefix(const char *prefix);

/* Where lines go; tests redirect it.  NULL restores standard error. */
typedef void (*log_sink)(enum log_level level, const char *line, void *opaque);
void log_set_sink(log_sink sink, void *opaque);

void log_line(enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                    \
	do {                                              \
		if (log_get_level() >= LOG_DEBUG)         \
			log_line(LOG_DEBUG, __VA_ARGS__); \
	} while (0)

/*
 * A token bucket: 'burst' lines at once, then one each 'period_ns'.  Safe
 * from several threads.  Zero-filled means 5 lines, then one a second.
 */
struct log_limit {
	uint64_t period_ns;
	unsigned int burst;
	_Atomic uint64_t full_at;    /* when the bucket is full again */
	_Atomic uint64_t suppressed; /* lines swallowed since the last */
};

/* Whether a line may be written now; *swallowed gets how many were not. */
int log_allow(struct log_limit *l, uint64_t now, uint64_t *swallowed);

void log_limited(struct log_limit *l, enum log_level level, const char *fmt,
		 ...) __attribute__((format(printf, 3, 4)));

#endif
